"""From a bare image to a node under traffic: baked by the role, booted, upgraded, rolled back, rebooted, purged. In this order."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.conftest import IMDS, LAID, NODE, SETTINGS, Baked, Packages, Traffic, lacking, recap
from tests.ansible.machine import Machine, copy_tree, mounted, remove_tree, run, until
from tests.ansible.tools import ROOT

pytestmark = [
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
    pytest.mark.timeout(1800),  # a whole image is made for the first test
]
SHIPPED = ROOT / "templates/partials/defaults.cfg.j2"
ASK = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).status)"
EXPOSURE = 1.5  # the most that systemd-analyze may say


def ask(node: Machine, url: str, user: str = "root") -> str:
    """The status of one request made on the node itself, or what went wrong."""
    said = node.run_as(user, "/usr/bin/python3", "-c", ASK, url, check=False).strip()
    return said.splitlines()[-1] if said else ""


def serves(node: Machine, port: int = 80) -> bool:
    return ask(node, f"http://{NODE}:{port}/") == "200"


# --- the image ------------------------------------------------------------------------------------------------------


def test_check_mode_on_a_bare_system_says_what_would_change_and_changes_nothing(baked: Baked) -> None:
    assert recap(baked.fresh)["failed"] == 0 and recap(baked.fresh)["changed"] >= 5
    assert baked.left == []
    for file, line in (("hafleet.yaml.j2", "+fleet: edge"), ("sysctl.conf.j2", "+net.core.somaxconn = 65535")):
        after = re.search(rf"^\+\+\+ after: .*{file}$(.*?)^changed: ", baked.fresh, re.MULTILINE | re.DOTALL)
        assert after and line in after[1], baked.fresh


def test_the_second_run_changes_nothing(baked: Baked) -> None:
    assert recap(baked.first)["changed"] >= 5
    assert (recap(baked.second)["changed"], recap(baked.second)["failed"]) == (0, 0), baked.second
    assert "Check the settings" in baked.second  # build-ami.yml ends with a look
    assert [name for name in LAID if not (baked.root / name).exists()] == []


def test_an_image_holds_no_haproxy_cfg_and_started_nothing(baked: Baked) -> None:
    assert not (baked.root / "etc/haproxy/haproxy.cfg").exists()
    assert not list((baked.root / "var/lib/hafleet").iterdir())
    assert not (baked.root / "usr/sbin/policy-rc.d").exists()
    assert not list((baked.root / "run").glob("haproxy/*"))


@pytest.fixture
def layer(baked: Baked, tmp_path: Path) -> Iterator[Path]:
    """The image, to be changed."""
    root = copy_tree(baked.root, tmp_path / "layer")
    with mounted(root):
        yield root
    remove_tree(root)


def test_settings_that_the_agent_refuses_never_take_the_place_of_good_ones(baked: Baked, layer: Path) -> None:
    before = (layer / "etc/hafleet/hafleet.yaml").read_text()
    for options in (("--check",), ()):
        said = baked.ansible.play("node.yml", layer, *options, hafleet_settings={**SETTINGS, "backends": []})
        assert recap(said)["failed"] == 1 and "backends" in said
    assert (layer / "etc/hafleet/hafleet.yaml").read_text() == before


def test_templates_come_from_the_folder_that_was_named_and_from_no_other(
    baked: Baked, layer: Path, tmp_path: Path
) -> None:
    """A relative path through a link, and a link in it. The role has a folder ``templates`` of its own."""
    real, there = tmp_path / "real", layer / "etc/hafleet/templates"
    (real / "partials").mkdir(parents=True)
    (real / "partials/defaults.cfg.j2").write_text(SHIPPED.read_text() + "    # ours\n")
    (real / "partials/other.cfg.j2").symlink_to("defaults.cfg.j2")
    (tmp_path / "templates").symlink_to(real)
    over: dict[str, object] = {"hafleet_templates": os.path.relpath(tmp_path / "templates")}
    said = baked.ansible.play("node.yml", layer, **over)
    assert recap(said)["failed"] == 0, said
    found = {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
    assert found == {"partials/defaults.cfg.j2", "partials/other.cfg.j2"}
    assert "# ours" in (there / "partials/defaults.cfg.j2").read_text()

    (real / "partials/other.cfg.j2").unlink()
    (real / "partials/defaults.cfg.j2").write_text(SHIPPED.read_text() + "    timeout clinet 10s\n")
    for options in (("--check",), ()):
        said = baked.ansible.play("node.yml", layer, *options, **over)
        assert recap(said)["failed"] == 1 and "timeout clinet" in said and "keeps its settings and templates" in said
    assert {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()} == found
    assert "# ours" in (there / "partials/defaults.cfg.j2").read_text()
    assert not list((layer / "tmp").glob("hafleet.*"))


def test_verify_notices_what_is_not_as_it_should_be(baked: Baked, layer: Path) -> None:
    (layer / "etc/haproxy").chmod(0o2777)
    said = baked.ansible.play("verify.yml", layer)
    assert recap(said)["failed"] == 1 and "/etc/haproxy: wanted hafleet 2750, found hafleet 2777" in said


# --- the booted node ------------------------------------------------------------------------------------------------


def test_the_node_serves_after_its_first_boot(node: Machine) -> None:
    until(lambda: serves(node), "the node serves")
    assert node.run("systemctl", "is-active", "hafleet", "haproxy", "hafleet-imds").split() == ["active"] * 3
    assert node.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
    # The pass that wrote the file found no HAProxy yet; the next one does.
    until(lambda: "phase serving" in node.run_as("hafleet", "hafleet", "status", check=False), "the agent says so, too")


def test_no_process_of_ours_is_root(node: Machine) -> None:
    users = {line.split()[1] for line in node.run("ps", "-C", "haproxy,hafleet", "-o", "pid=,user=").splitlines()}
    assert users == {"haproxy", "hafleet"}


@pytest.mark.parametrize("unit", ["hafleet.service", "haproxy.service"])
def test_the_units_are_hardened(node: Machine, unit: str) -> None:
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", node.run("systemd-analyze", "security", unit))
    assert found and float(found[1]) <= EXPOSURE


def test_doctor_is_content_and_names_a_group_that_is_missing(node: Machine) -> None:
    assert "fail" not in {line.split()[0] for line in node.run_as("hafleet", "hafleet", "doctor").splitlines()}
    outsider = ("setpriv", "--reuid", "hafleet", "--regid", "nogroup", "--clear-groups", "hafleet", "doctor")
    assert "/etc/hafleet is closed to uid" in node.run(*outsider, check=False)
    assert "add the agent's user to group haproxy" in node.run(*outsider, check=False)


def test_only_root_and_the_agent_may_ask_imds(node: Machine) -> None:
    url = f"http://{IMDS}/"
    assert [ask(node, url, user) for user in ("root", "hafleet")] == ["200", "200"]
    assert "refused" in ask(node, url, "haproxy") and "refused" in ask(node, url, "nobody")
    node.run("systemctl", "stop", "hafleet-imds")
    assert ask(node, url, "nobody") == "200"  # it was the guard that refused
    for verb, unit in (("start", "hafleet-imds"), ("restart", "nftables"), ("reload", "nftables")):
        node.run("systemctl", verb, unit)  # either of the latter empties the rule set
        assert "refused" in ask(node, url, "nobody"), (verb, unit)


def test_haproxy_stopped_by_hand_stays_stopped(node: Machine) -> None:
    node.run("systemctl", "stop", "haproxy")
    node.run("systemctl", "reload", "hafleet")
    node.run("touch", "/etc/haproxy/haproxy.cfg")
    assert node.shown("haproxy", "ActiveState") == "inactive"
    assert node.shown("hafleet-first.target", "ActiveState") == "active"
    node.run("systemctl", "start", "haproxy")
    until(lambda: serves(node), "the node serves again")


def test_haproxy_comes_back_when_its_worker_is_killed(node: Machine) -> None:
    before = node.shown("haproxy", "MainPID")
    node.run("sh", "-c", f"kill -KILL $(ps -o pid= --ppid {before})")
    until(lambda: node.shown("haproxy", "MainPID") not in {"0", before} and serves(node), "systemd starts it again")


# --- the package under traffic ---------------------------------------------------------------------------------------


def test_upgrade_and_rollback_lose_no_request_and_reload_nothing(
    node: Machine, packages: Packages, traffic: Traffic
) -> None:
    until(lambda: serves(node), "the node serves")
    for package in (packages.old, packages.new):
        run("cp", package, node.root / "root")
    before, agent = node.workers(), node.shown("hafleet", "MainPID")
    with traffic.flowing():
        for package in (packages.new, packages.old):
            node.run("dpkg", "--install", f"/root/{package.name}")
            assert node.run("systemctl", "is-active", "hafleet").strip() == "active"
    assert (traffic.failed, traffic.kinds) == (0, "") and traffic.sent > 100
    assert node.workers() == before
    assert node.shown("hafleet", "MainPID") != agent
    assert node.run("dpkg-query", "--show", "--showformat=${Version}", "hafleet") == "0.1.0-1"


def test_the_traffic_would_notice(node: Machine, traffic: Traffic) -> None:
    with traffic.flowing():
        node.run("systemctl", "stop", "haproxy")
        for _ in range(3):  # so long that on a busy machine, too, a request comes meanwhile
            assert not serves(node)
        node.run("systemctl", "start", "haproxy")
        until(lambda: serves(node), "the node serves again")
    assert traffic.failed > 0


def test_an_upgrade_does_not_start_an_agent_that_somebody_stopped(node: Machine, packages: Packages) -> None:
    node.run("systemctl", "stop", "hafleet")
    node.run("dpkg", "--install", f"/root/{packages.new.name}")
    assert node.shown("hafleet", "ActiveState") == "inactive"
    node.run("systemctl", "start", "hafleet")


def test_an_upgrade_starts_an_agent_that_fails_again_and_again(node: Machine, packages: Packages) -> None:
    node.run("rm", "/opt/hafleet/bin/python")  # the package makes it anew
    node.run("systemctl", "restart", "hafleet", check=False)
    until(lambda: node.shown("hafleet", "ActiveState") in {"activating", "failed"}, "it does not start")
    node.run("dpkg", "--install", f"/root/{packages.new.name}")
    until(lambda: node.shown("hafleet", "ActiveState") == "active", "the package mends it")


# --- the role on a live node -----------------------------------------------------------------------------------------


def test_the_role_on_a_live_node_reloads_and_restarts_nothing(
    node: Machine, baked: Baked, packages: Packages, traffic: Traffic, tmp_path: Path
) -> None:
    two = [*SETTINGS["frontends"], {"name": "second", "bind": ":81", "default_backend": "site"}]
    over: dict[str, object] = {
        "ansible_chroot_exe": str(node.entry(tmp_path)),
        "hafleet_image_build": False,
        "hafleet_package": str(packages.new),
        "hafleet_settings": {**SETTINGS, "frontends": two},
    }
    master = node.shown("haproxy", "MainPID")
    with traffic.flowing():
        first = baked.ansible.play("node.yml", node.root, **over)
        assert recap(first)["failed"] == 0 and recap(first)["changed"] >= 1, first
        until(lambda: serves(node, 81), "the second frontend serves")
    assert (traffic.failed, traffic.kinds) == (0, "")
    assert node.shown("haproxy", "MainPID") == master
    second = baked.ansible.play("node.yml", node.root, **over)
    assert (recap(second)["changed"], recap(second)["failed"]) == (0, 0), second
    verified = baked.ansible.play("verify.yml", node.root, **over)
    assert recap(verified)["failed"] == 0, verified


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_rebooted_node_serves_again(node: Machine) -> None:
    node.off()
    node.on()
    until(lambda: serves(node), "the node serves after a reboot")


def test_purge_leaves_nothing_and_haproxy_serves_on(node: Machine, traffic: Traffic) -> None:
    before = node.workers()
    with traffic.flowing():
        node.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", "hafleet")
        assert serves(node)
    assert traffic.failed == 0 and node.workers() == before
    for name in ("opt/hafleet", "etc/hafleet", "var/lib/hafleet", "usr/bin/hafleet", "etc/default/hafleet"):
        assert not (node.root / name).exists(), name
    assert "hafleet" not in (node.root / "etc/passwd").read_text()
    assert "hafleet" not in node.run("dpkg-statoverride", "--list")
    assert node.run("find", "/etc/systemd/system", "-name", "*hafleet*").strip() == ""
    assert ask(node, f"http://{IMDS}/", "nobody") == "200"  # the guard went along: its users are gone
    assert (node.root / "etc/haproxy/haproxy.cfg").exists()  # HAProxy serves from it
