"""`hafleet check` names files that last: never the temporary candidate."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafleet import checking
from hafleet.cli_frame import watching
from hafleet.errors import StoreError

SETTINGS = """fleet: edge
frontends: [{name: web, bind: ":8080", default_backend: site}]
backends: [{name: site, port: 80, sources: [{asg: blue}]}]
"""
SHIPPED = Path(checking.__file__).parents[1] / "templates" / "haproxy.cfg.j2"

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy on this machine")


def write(tmp_path: Path, template: str) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "haproxy.cfg.j2").write_text(template)
    path = tmp_path / "hafleet.yaml"
    path.write_text(f"{SETTINGS}haproxy: {{templates_dir: {folder}}}\n")
    return path


@needs_haproxy
def test_a_refused_line_is_found_in_the_user_s_template(tmp_path: Path) -> None:
    path = write(tmp_path, SHIPPED.read_text() + "frobnicate yes\n")
    (problem,) = checking.check(path)
    line = len(SHIPPED.read_text().split("\n"))
    assert problem.where == f"{tmp_path}/templates/haproxy.cfg.j2:{line}"
    assert "unknown keyword 'frobnicate'" in problem.what and "hafleet-check" not in problem.render()


@needs_haproxy
def test_a_line_of_several_templates_names_their_folder(tmp_path: Path) -> None:
    path = write(tmp_path, SHIPPED.read_text() + "frobnicate yes\nfrobnicate yes\n")
    (problem,) = checking.check(path)
    assert problem.where == str(tmp_path / "templates") and "hafleet-check" not in problem.render()


def test_watching_waits_for_the_first_report_and_ends_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    answers: Iterator[StoreError | int] = iter([StoreError("no pass was reported yet"), 0])

    def show_once() -> int:
        answer = next(answers, None)
        if answer is None:
            raise KeyboardInterrupt
        if isinstance(answer, StoreError):
            raise answer
        return answer

    assert watching(show_once, clear=False) == 0
    assert capsys.readouterr().err == "no pass was reported yet\n"
