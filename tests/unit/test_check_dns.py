"""Rules of the dns section: the line, the words, and what to do, for every way it can be wrong; and the shipped examples."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafleet import checking, config
from hafleet.errors import SettingsError

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.yaml"))
CASES = Path(__file__).parent / "data" / "dns_problems.txt"
REST = """fleet: edge
frontends: [{name: web, bind: ":80", default_backend: site}, {name: safe, bind: ":443", mode: tcp, default_backend: pass}]
backends: [{name: site, sources: [{asg: a}]}, {name: pass, mode: tcp, port: 443, sources: [{asg: a}]}]
"""
ZONE = "dns:\n  name: lb.example.com\n  zone: example.com\n"


def cases() -> list[object]:
    return list(read_cases())


def read_cases() -> Iterator[object]:
    """Blocks of the table: a name, lines of settings, answers after >>>. Line 1 is the first of the block."""
    for block in CASES.read_text(encoding="utf-8").split("\n=== ")[1:]:
        name, _, body = block.partition("\n")
        lines = body.rstrip("\n").split("\n")
        answer = tuple(line.removeprefix(">>> ") for line in lines if line.startswith(">>> "))
        text = "".join(f"{line}\n" for line in lines if not line.startswith(">>> "))
        yield pytest.param(text, answer, id=name)


def answer_to(folder: Path, text: str) -> tuple[str, ...]:
    """What `hafleet check` says of these lines, without the file's name, counted from the first of them."""
    path = folder / "hafleet.yaml"
    path.write_text(text + REST, encoding="utf-8")
    try:
        problems = config.load(path).problems
    except SettingsError as error:
        problems = error.problems
    return tuple(problem.render().removeprefix(f"{path}:") for problem in problems)


@pytest.mark.parametrize(("text", "answer"), cases())
def test_each_problem_says_where_what_and_what_to_do(tmp_path: Path, text: str, answer: tuple[str, ...]) -> None:
    assert answer_to(tmp_path, text) == answer


def test_the_table_is_read_whole() -> None:
    assert len(cases()) == CASES.read_text(encoding="utf-8").count("\n=== ") >= 60


def nested(levels: int) -> str:
    branch = "b0"
    for level in range(1, levels + 1):
        branch = f"{{failover: [b{level}, {branch}]}}"
    return branch


def test_names_of_a_deep_tree_are_bounded(tmp_path: Path) -> None:
    long = ".".join([*("x" * 63 for _ in range(3)), "yyyyy.example.com"])  # 209 characters; the branches add 44
    tree = f"  group: b0\n  tree: {nested(5)}\n"
    assert answer_to(tmp_path, ZONE.replace("lb.example.com", long) + tree) == ()
    (answer,) = answer_to(tmp_path, ZONE.replace("lb.example.com", long.replace("y.", "yy.")) + tree)
    assert answer.startswith("2: error: dns.tree makes names of 254 characters below ")
    assert answer.endswith("; DNS allows 253; shorten it, or the groups, or nest less")
    shards = "  tree: {shards: 2}\n"
    name = ".".join([*("x" * 63 for _ in range(3)), "y" * 41, "example.com"])  # 245 characters; shards add 9
    assert answer_to(tmp_path, ZONE.replace("lb.example.com", name[1:]) + shards) == ()
    assert len(answer_to(tmp_path, ZONE.replace("lb.example.com", name) + shards)) == 1


def test_more_places_than_one_name_can_hold(tmp_path: Path) -> None:
    countries = [f"{a}{b}" for a in "ABCDEFGHIJ" for b in "ABCDEFGHIJ"]
    for count, answer in (
        (99, ()),
        (
            100,
            ("5: error: dns.tree.geolocation leads to 101 targets; Route 53 takes 100 at one name; nest some of them",),
        ),
    ):
        places = ", ".join(f"{country}: a" for country in countries[:count])
        text = ZONE + f'  group: a\n  tree: {{geolocation: {{"*": a, {places}}}}}\n'
        assert answer_to(tmp_path, text) == answer


def test_an_alarm_s_name_is_bounded_once_it_is_filled_in(tmp_path: Path) -> None:
    long = "dns.health.alarm.name is longer than 255 characters once it is filled in; shorten it"
    for length, answer in ((255 - 19, ()), (256 - 19, (f"4: error: {long}",))):
        alarm = '  health: {alarm: {name: "{instance}' + "x" * length + '"}}\n'
        assert answer_to(tmp_path, ZONE + alarm) == answer


def test_without_a_dns_section_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert answer_to(tmp_path, "haproxy: {health: '127.0.0.1:8403'}\n") == ()


@pytest.mark.parametrize(
    "path", [each for each in EXAMPLES if each.name != "edge.yaml"], ids=lambda path: str(path.stem)
)
def test_every_example_passes_hafleet_check(path: Path) -> None:
    problems = checking.check(path)
    settings = config.load(path).settings
    assert settings.dns is not None
    here = "" if shutil.which(settings.haproxy.binary) else f"{path}: warning: haproxy is not installed here"
    assert all(here and problem.render().startswith(here) for problem in problems), problems


def test_the_five_set_ups_are_shipped_and_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "dns.md").read_text(encoding="utf-8")
    names = {"round-robin-shards", "two-gateways", "three-regions", "failover-chain", "ancestor"}
    assert names <= {path.stem for path in EXAMPLES}
    assert all(f"(examples/{name}.yaml)" in page for name in names)
