"""What the settings let through, HAProxy takes: values at the edge of every pattern, on each version."""

from pathlib import Path

from hafleet.checking import check
from hafleet.lab.haproxies import Haproxy

EXTREMES = (Path(__file__).parent / "data" / "extremes.yaml").read_text(encoding="utf-8")


def fatal(folder: Path, text: str) -> list[str]:
    path = folder / "hafleet.yaml"
    path.write_text(text)
    return [problem.what for problem in check(path) if problem.fatal]


def test_what_the_settings_take_haproxy_takes(haproxy: Haproxy, tmp_path: Path) -> None:
    assert fatal(tmp_path, EXTREMES.replace("BINARY", str(haproxy.binary))) == []


def test_the_control_haproxy_was_really_asked(haproxy: Haproxy, tmp_path: Path) -> None:
    text = EXTREMES.replace("BINARY", str(haproxy.binary))
    (problem,) = fatal(tmp_path, text.replace("req.hdr(x-user),lower", "no_such_fetch"))
    assert "no_such_fetch" in problem
