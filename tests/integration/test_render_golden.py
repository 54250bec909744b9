from pathlib import Path

import pytest

from hafleet.lab.haproxies import Haproxy
from tests.goldens import NAMES, desired_of, settings_of
from tests.integration.render_stage import check, render, write
from tests.pki import Authority


@pytest.mark.parametrize("name", NAMES)
def test_haproxy_has_nothing_against_a_golden_configuration(name: str, haproxy: Haproxy, tmp_path: Path) -> None:
    authority = Authority("tests")
    authority.write(tmp_path / "ca.pem")
    authority.issue(tmp_path / "node.pem", "node.example.com")
    settings = settings_of(name, tmp_path)
    config = write(render(settings, desired_of(name, settings), haproxy), tmp_path, settings)
    assert check(haproxy, config) == ""


def test_a_missing_server_state_file_would_be_refused_on_some_version(haproxy: Haproxy, tmp_path: Path) -> None:
    """Negative control of ``check``, and the reason why the agent creates that file before it checks anything."""
    settings = settings_of("minimal", tmp_path)
    config = write(render(settings, desired_of("minimal", settings), haproxy), tmp_path, settings)
    Path(settings.haproxy.server_state).unlink()
    assert ("server state file" in check(haproxy, config)) is (haproxy.version < (3, 0, 0))
