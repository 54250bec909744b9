"""The package and the role agree with the program: paths, commands, variables; and neither ever writes haproxy.cfg."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hafleet.cli import main
from hafleet.core.proxy_settings import Haproxy
from tests.ansible.conftest import cannot_boot

ROOT = Path(__file__).parents[2]
PACKAGING, ROLE = ROOT / "packaging", ROOT / "ansible" / "roles" / "hafleet"
DROP_IN = PACKAGING / "systemd" / "haproxy.service.d" / "hafleet.conf"


def undescribed(man: str, group: click.Group) -> set[str]:
    """Commands that a man page does not name in bold."""
    plain = re.sub(r"\\f.|\\", "", man)
    return {
        name
        for name in group.commands
        if not re.search(rf"^\.(?:B|BR|BI) .*\b{re.escape(name)}\b", plain, re.MULTILINE)
    }


def written(tasks: object) -> Iterator[str]:
    """Every path that a task, or one in a block, says it writes."""
    if isinstance(tasks, list):
        for task in tasks:
            yield from written(task)
    elif isinstance(tasks, dict):
        for key, value in tasks.items():
            if key in {"dest", "path"} and isinstance(value, str):
                yield value
            elif isinstance(value, (dict, list)):
                yield from written(value)


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_man_page_names_every_command() -> None:
    man = (PACKAGING / "man" / "hafleet.8").read_text()
    assert undescribed(man, main) == set()
    assert undescribed(man.replace("explain", ""), main) == {"explain"}


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_maintainer_scripts_are_shell_and_end_at_the_first_error(name: str) -> None:
    path = PACKAGING / "debian" / name
    assert subprocess.run(("sh", "-n", path), capture_output=True, check=False).stderr == b""
    assert re.search(r"^set -e$", path.read_text(), re.MULTILINE)


def test_no_maintainer_script_touches_haproxy_s_process() -> None:
    for name in ("postinst", "prerm", "postrm"):
        text = (PACKAGING / "debian" / name).read_text()
        acts = [
            line
            for line in text.splitlines()
            if re.search(r"(systemctl|deb-systemd-invoke|invoke-rc\.d) .*haproxy", line)
        ]
        assert acts == [], name


def test_the_drop_in_agrees_with_the_defaults_of_the_settings() -> None:
    text, proxy = DROP_IN.read_text(), Haproxy()
    assert f" -S {proxy.master_socket},mode,660 " in text
    assert f" -f {proxy.config} " in text
    assert f"ConditionPathExists={proxy.config}\n" in text
    assert Path(proxy.runtime_socket).parent == Path("/run/haproxy") and "RuntimeDirectory=haproxy\n" in text


def test_the_first_start_watches_the_file_that_haproxy_starts_on() -> None:
    assert f"PathExists={Haproxy().config}\n" in (PACKAGING / "systemd" / "hafleet-first.path").read_text()


def test_every_variable_of_the_role_is_described_and_has_its_default() -> None:
    defaults = loaded(ROLE / "defaults" / "main.yml")
    options = loaded(ROLE / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    assert options.keys() == defaults.keys()
    said = {name: option["default"] for name, option in options.items() if "default" in option}
    assert said == {name: defaults[name] for name in said}
    assert all(option["description"] for option in options.values())


def test_the_role_never_writes_haproxy_cfg() -> None:
    found = {path for file in ROLE.glob("*/*.yml") for path in written(loaded(file))}
    assert "/etc/hafleet/hafleet.yaml" in found  # the search finds what is written
    assert {path for path in found if path.endswith("haproxy.cfg")} == {
        "/etc/haproxy/haproxy.cfg"
    }  # looked at by stat, below
    for file in ROLE.glob("*/*.yml"):
        for line in re.findall(r"^.*haproxy\.cfg.*$", file.read_text(), re.MULTILINE):
            assert not re.search(r"^\s*(dest|src):", line), f"{file.name}: {line}"


def test_where_no_machine_can_boot_the_images_say_so(tmp_path: Path) -> None:
    assert f"no control groups at {tmp_path}" in cannot_boot(tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    assert "control groups" not in cannot_boot(tmp_path)
