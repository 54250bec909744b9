"""pull.yml and its user data: a node without settings fetches them when it boots, and joins. In this order."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hafleet.lab.registered import checks_of
from tests.ansible import cloud
from tests.ansible.cloud import Booted, Region
from tests.ansible.conftest import Baked, lacking, recap
from tests.ansible.machine import copy_tree, remove_tree, run
from tests.ansible.tools import ROOT

images = pytest.mark.skipif(bool(lacking()), reason=lacking())
pytestmark = pytest.mark.timeout(3600)  # a whole image is made for the first test
USER_DATA = ROOT / "ansible/inventory/user-data.sh"
REPOSITORY, BRANCH, VARS = "/srv/edge", "trunk", "fleets/edge.yml"
UNIT = """[Unit]
Description=User data
[Service]
Type=exec
ExecStart=/usr/bin/python3 /usr/local/sbin/user-data
[Install]
WantedBy=multi-user.target
"""
SETTLE = ("/usr/bin/python3", "/usr/local/sbin/user-data")


def user_data() -> str:
    """The one of the inventory, with its three lines changed."""
    text, told = USER_DATA.read_text(), {"URL": REPOSITORY, "BRANCH": BRANCH, "VARS": VARS}
    for name, value in told.items():
        (old,) = (line for line in text.splitlines() if line.startswith(f"{name}="))
        text = text.replace(old, f"{name}={value}")
    return text


def commit(root: Path, variables: dict[str, object]) -> None:
    """The user's repository, with these variables of the fleet, as the only one that the node can reach."""
    home = root / REPOSITORY.lstrip("/")
    if not home.exists():
        shutil.copytree(ROOT / "ansible", home / "ansible")
        run("git", "init", "--quiet", f"--initial-branch={BRANCH}", home)
    (home / VARS).parent.mkdir(exist_ok=True)
    (home / VARS).write_text(yaml.safe_dump(variables))
    who = ("-c", "user.name=edge", "-c", "user.email=edge@example.com")
    run("git", "-C", home, "add", "--all")
    run("git", "-C", home, *who, "commit", "--quiet", "--message", "Settings of the edge")


@pytest.fixture(scope="module")
def region(baked: Baked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """One whose image has no settings, and whose launch template says where they are."""
    root = copy_tree(baked.root, baked.ansible.folder / "pull")
    (root / "etc/hafleet/hafleet.yaml").unlink()
    commit(root, {"hafleet_settings": cloud.SETTINGS, "hafleet_environment": cloud.ENVIRONMENT})
    shutil.copy(Path(__file__).with_name("user_data.py"), root / "usr/local/sbin/user-data")
    (root / "etc/systemd/system/user-data.service").write_text(UNIT)
    run("systemctl", "--root", root, "enable", "user-data.service")
    with Region(root, tmp_path_factory.mktemp("pull"), user_data()) as made:
        yield made
    remove_tree(root)


def settled(node: Booted) -> bool:
    """Its user data has come to its end."""
    return node.machine.shown("user-data", "ActiveState") in {"inactive", "failed"}


@images
def test_a_node_fetches_its_settings_at_its_first_boot_and_joins(region: Region) -> None:
    (node,) = region.scale(1)  # its launch hook comes to ABANDON unless the agent says CONTINUE
    region.until(lambda: settled(node), "the user data ends")
    said = node.machine.run("journalctl", "--no-pager", "--output", "cat", "--unit", "user-data")
    assert node.machine.shown("user-data", "Result") == "success", said
    assert recap(said, "localhost")["failed"] == 0 and recap(said, "localhost")["changed"] >= 2, said
    assert "try 1 of 3" not in said
    assert yaml.safe_load((node.machine.root / "etc/hafleet/hafleet.yaml").read_text()) == cloud.SETTINGS
    assert [record.node for record in region.records()] == [node.id]
    assert len(checks_of(region.cloud, node.id)) == 1 and region.cloud.refused() == []
    assert node.machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""


@images
def test_the_second_run_changes_nothing(region: Region) -> None:
    (node,) = region.nodes
    said = node.machine.run(*SETTLE)
    assert (recap(said, "localhost")["changed"], recap(said, "localhost")["failed"]) == (0, 0), said


@images
def test_what_was_committed_since_is_taken_up_without_a_restart(region: Region) -> None:
    (node,) = region.nodes
    master, agent = (node.machine.shown(unit, "MainPID") for unit in ("haproxy", "hafleet"))
    two = [*cloud.SETTINGS["frontends"], {"name": "second", "bind": ":81", "default_backend": "site"}]
    wanted = {**cloud.SETTINGS, "frontends": two}
    commit(node.machine.root, {"hafleet_settings": wanted, "hafleet_environment": cloud.ENVIRONMENT})
    said = node.machine.run(*SETTLE)
    assert recap(said, "localhost")["changed"] >= 1, said
    region.until(lambda: "FRONTEND" in frontend(node, "second"), "the second frontend is there")
    assert [node.machine.shown(unit, "MainPID") for unit in ("haproxy", "hafleet")] == [master, agent]


def frontend(node: Booted, name: str) -> str:
    """What HAProxy's statistics say of a frontend; nothing while it does not answer, or has none of that name."""
    try:
        lines = node.asked("show stat").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(f"{name},FRONTEND,")), "")


# --- three tries ------------------------------------------------------------------------------------------------------


def tried(tmp_path: Path, fails: int) -> tuple[int, list[str]]:
    """The exit code of the user data where ansible-pull fails so many times, and what it did: tries and pauses."""
    log = tmp_path / "log"
    programs = {
        "ansible-pull": f'echo pull "$ANSIBLE_ROLES_PATH" "$@" >>{log}\ntest "$(grep -c ^pull {log})" -gt {fails}',
        "sleep": f'echo sleep "$@" >>{log}',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = USER_DATA.read_text().replace("/opt/ansible/bin", str(tmp_path))
    assert str(tmp_path) in script
    done = subprocess.run(("sh",), input=script, text=True, check=False, env=dict(os.environ), capture_output=True)
    return done.returncode, log.read_text().splitlines()


PULL = (
    "pull ansible/roles --url https://git.example.com/edge.git --checkout main -i localhost, "
    "-e hafleet_vars=edge.yml ansible/playbooks/pull.yml"
)


@pytest.mark.parametrize(
    ("fails", "code", "did"),
    [
        (0, 0, [PULL]),
        (2, 0, [PULL, "sleep 10", PULL, "sleep 20", PULL]),
        (3, 1, [PULL, "sleep 10", PULL, "sleep 20", PULL]),
    ],
)
def test_user_data_tries_three_times(tmp_path: Path, fails: int, code: int, did: list[str]) -> None:
    assert tried(tmp_path, fails) == (code, did)
