"""Whatever the file holds, load answers with Settings or with a SettingsError whose lines stand in the file."""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hafleet import config
from hafleet.errors import SettingsError

SCHEMA = json.loads(json.dumps(config.json_schema()))
KEYS = sorted({key for part in [SCHEMA, *SCHEMA["$defs"].values()] for key in part.get("properties", {})})
WORDS = [
    "",
    "~",
    "a",
    "site",
    "web",
    ":80",
    "[::]:443",
    "10.0.0.1",
    "30s",
    "15%",
    "200k",
    "80",
    "0",
    "true",
    "http",
    "tcp",
]
SCALARS = st.one_of(st.sampled_from(WORDS), st.text(max_size=20), st.integers(), st.booleans(), st.none(), st.floats())
SEED = {
    "fleet": "edge",
    "frontends": [{"name": "web", "bind": ":80", "default_backend": "site"}],
    "backends": [{"name": "site", "sources": [{"asg": "a"}]}],
}

PATIENT = settings(deadline=None)  # a busy machine is no failure


def documents(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=5))
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=25,
    )


def check(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.yaml"
        path.write_bytes(data)
        try:
            problems = config.load(path).problems
            assert not any(problem.fatal for problem in problems)
        except SettingsError as error:
            problems = error.problems
            assert any(problem.fatal for problem in problems)
    lines = [int(problem.where.rsplit(":", 1)[1]) for problem in problems]
    assert lines == sorted(lines)
    assert all(1 <= line <= data.count(b"\n") + data.count(b"\r") + 1 for line in lines)
    assert all("\n" not in problem.render() and problem.what for problem in problems)


@PATIENT
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"%YAML 9.9\n---\na: 1")
@example(b"? ")
@example(b"&a {<<: *a}")
@example(b"<<: [*a, 1]")
@example(b"a: !<tag:x> b")
def test_any_bytes(data: bytes) -> None:
    check(data)


@PATIENT
@example("---")
@given(st.text(alphabet="abc:-[]{}&*!|>'\"%@`#~ \t\n,?<0", max_size=80))
def test_any_punctuation(text: str) -> None:
    check(text.encode())


@PATIENT
@given(documents(SCALARS))
def test_any_yaml(document: object) -> None:
    check(yaml.safe_dump(document).encode())


@PATIENT
@given(st.dictionaries(st.sampled_from(KEYS), documents(SCALARS), max_size=6), st.data())
def test_a_good_file_with_anything_written_over(change: dict[str, Any], data: st.DataObject) -> None:
    site = {**SEED["backends"][0], **data.draw(st.dictionaries(st.sampled_from(KEYS), documents(SCALARS), max_size=3))}  # type: ignore[dict-item]
    check(yaml.safe_dump({**SEED, "backends": [site, SEED["backends"][0]], **change}).encode())
