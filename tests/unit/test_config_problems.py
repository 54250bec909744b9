"""Every way a settings file can be wrong, and the exact words of the answer."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafleet import config
from hafleet.config.document import DEEPEST
from hafleet.errors import Problem, SettingsError

CASES = Path(__file__).parent / "data" / "config_problems.txt"
GOOD = "fleet: edge\nfrontends: [{name: web, bind: ':80', default_backend: site}]\nbackends: [{name: site, sources: [{asg: a}]}]\n"


def cases() -> list[object]:
    return list(read_cases())


def read_cases() -> Iterator[object]:
    for block in CASES.read_text(encoding="utf-8").split("\n=== ")[1:]:
        name, _, body = block.partition("\n")
        lines = body.rstrip("\n").split("\n")
        answer = tuple(line.removeprefix(">>> ") for line in lines if line.startswith(">>> "))
        text = "".join(f"{line}\n" for line in lines if line and not line.startswith(">>> "))
        yield pytest.param(text, answer, id=name)


def problems_of(path: Path) -> tuple[Problem, ...]:
    """What load says of this file, whether it can be used or not."""
    try:
        return config.load(path).problems
    except SettingsError as error:
        return error.problems


def answer_to(folder: Path, data: bytes) -> tuple[str, ...]:
    path = folder / "hafleet.yaml"
    path.write_bytes(data)
    return tuple(problem.render().removeprefix(f"{path}:") for problem in problems_of(path))


@pytest.mark.parametrize(("text", "answer"), cases())
def test_each_problem_says_where_what_and_what_to_do(tmp_path: Path, text: str, answer: tuple[str, ...]) -> None:
    assert answer_to(tmp_path, text.encode()) == answer


def test_the_table_is_read_whole() -> None:
    assert len(cases()) == CASES.read_text(encoding="utf-8").count("\n=== ") >= 100


def test_a_good_file_has_no_problem(tmp_path: Path) -> None:
    assert answer_to(tmp_path, GOOD.encode()) == ()


def test_the_error_holds_one_line_per_problem(tmp_path: Path) -> None:
    path = tmp_path / "hafleet.yaml"
    path.write_text("flet: edge\n")
    with pytest.raises(SettingsError) as caught:
        config.load(path)
    assert str(caught.value).splitlines()[0] == f"{path}:1: error: fleet is missing; add `fleet:`"
    assert len(str(caught.value).splitlines()) == len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"fleet: edge\naws: {region: \xff}\n", "2: error: this is not UTF-8 text; save the file as UTF-8"),
        (b'fleet: edge\naws: {region: "\x07"}\n', "2: error: the invisible character U+0007 stands here; remove it"),
        (b"fleet: \x00\n", "1: error: the invisible character U+0000 stands here; remove it"),
        ("a: b\nfleet: edge\u2028\n".encode(), "2: error: the invisible character U+2028 stands here; remove it"),
        ("fleet: edge\x85\n".encode(), "1: error: the invisible character U+0085 stands here; remove it"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, data: bytes, answer: str) -> None:
    assert answer_to(tmp_path, data) == (answer,)


@pytest.mark.parametrize(
    "evil", ["a\\nb", "a\\rb", "a\\0b", "a\\x85b", "a\\u2028b", 'a\\"b', "a'b", "a#b", "a\\\\b", "a$b"]
)
def test_escapes_cannot_bring_in_what_the_text_may_not_hold(tmp_path: Path, evil: str) -> None:
    text = GOOD + f'haproxy: {{maps_dir: "/{evil}", health_uri: "/{evil}"}}\nstate_dir: "/{evil}"\n'
    lines = [line.partition(":")[0] for line in answer_to(tmp_path, text.encode())]
    assert lines == ["4", "4", "5"]


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    expected = f"{path}: error: the settings cannot be read: No such file or directory; name a readable file with -c"
    assert [problem.render() for problem in problems_of(path)] == [expected]


def test_a_path_that_no_file_can_have() -> None:
    (problem,) = problems_of(Path("a\0b"))
    assert problem.what == "the settings cannot be read: embedded null byte"


def test_a_folder(tmp_path: Path) -> None:
    expected = f"{tmp_path}: error: the settings cannot be read: Is a directory; name a readable file with -c"
    assert [problem.render() for problem in problems_of(tmp_path)] == [expected]


def test_a_pipe_that_nobody_writes_to(tmp_path: Path) -> None:
    path = tmp_path / "hafleet.yaml"
    os.mkfifo(path)
    expected = f"{path}: error: this is not a file; name the settings file with -c"
    assert [problem.render() for problem in problems_of(path)] == [expected]


def test_a_file_may_be_as_large_as_the_limit_but_not_larger(tmp_path: Path) -> None:
    filled = GOOD.encode() + b"#" * (config.LARGEST_FILE - len(GOOD))
    assert answer_to(tmp_path, filled) == ()
    path = tmp_path / "hafleet.yaml"
    path.write_bytes(filled + b"#")
    (problem,) = problems_of(path)
    assert problem.what == "the file is larger than 1048576 bytes"


def test_nesting_is_bounded_before_the_parser_recurses(tmp_path: Path) -> None:
    # 200,000 levels end the process when the tree is composed; the one level too many is what the guard stops.
    for levels in (DEEPEST, 200_000):
        text = "fleet: " + "[" * levels + "]" * levels
        assert answer_to(tmp_path, text.encode()) == ("1: error: nested more than 32 levels deep; flatten it",)
    bearable = "fleet: " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert "fleet: this must be a text, not a list" in answer_to(tmp_path, bearable.encode())[0]


def test_aliases_cannot_nest_without_bound(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x]", *(f"a{n}: &a{n} {'[' * 30}*a{n - 1}{']' * 30}" for n in range(1, 100))]
    (answer,) = answer_to(tmp_path, "\n".join(rows).encode())
    assert answer.endswith("error: nested more than 32 levels deep; flatten it")


def test_aliases_cannot_grow_without_bound(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    (answer,) = answer_to(tmp_path, "\n".join(rows).encode())
    assert answer.endswith("error: aliases expand to more than 200000 values; repeat fewer aliases")
