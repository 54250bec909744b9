"""2,000 names, addresses, tags and hostnames that mean harm: none adds, removes or changes a directive."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hafleet.adapters.templates import JinjaRenderer
from hafleet.core.cfgtext import parse
from hafleet.core.model import Desired, Member, Node, Peer
from hafleet.core.settings import Backend, Frontend, Route, Settings
from hafleet.errors import HafleetError
from hafleet.lab.haproxies import Haproxy
from tests.integration.render_stage import check, render, write
from tests.renderings import ASG, NODE, make_desired, make_settings, member, peer

CASES = 2000
NASTY = [
    *(
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\x00",
        "\x0b",
        "\x0c",
        "\x85",
        "\u2028",
        "\u2029",
        " ",
        "\xa0",
        "\x1b[2J",
        "\ufeff",
        "\ud800",
    ),
    *(
        "#",
        '"',
        "'",
        "\\",
        "\\x0a",
        "\\n",
        "$HOME",
        "${HOME}",
        "%N",
        "%[env(HOME)]",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "`id`",
    ),
    *(
        ";",
        "|",
        "&",
        "<<",
        ">",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "@1",
        "*",
        "..",
        "/../",
        ":0",
        ",",
        "=",
        "é",
        "名",
        "I\u0307",
    ),
    *("\nglobal\n", "\n    stats socket ipv4@0.0.0.0:9999 level admin\n", "\n.if 1\n", "\nserver x 1.2.3.4:80\n"),
    *("\n# hafleet:options x\n", "\n# hafleet:end sha256=0\n", " disabled", " id 1", "x" * 300, "-", ".", "_"),
]
PLAIN = [
    "i-0abc",
    "i-0123456789abcdef0",
    "static-10-0-9-10",
    "example.com",
    "*.example.com",
    "/api",
    "200",
    "X-1",
    "src",
]


def texts(seed: int) -> Iterator[str]:
    """CASES texts: plain ones, with one to three nasty pieces put in somewhere; one in ten stays plain."""
    chance = random.Random(seed)
    for number in range(CASES):
        text = chance.choice(PLAIN)
        for _ in range(0 if number % 10 == 0 else chance.randint(1, 3)):
            at = chance.randint(0, len(text))
            text = text[:at] + chance.choice(NASTY) + text[at:]
        yield text


def directives(text: str) -> list[str]:
    """The first word of every line that HAProxy would read, sections with their kind alone."""
    return [line.split()[0] for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]


def accepted(make: Callable[[str], Any], found: Iterator[str]) -> list[Any]:
    """What the typed values let through."""
    values = []
    for text in found:
        try:
            values.append(make(text))
        except (ValidationError, HafleetError):
            continue
    return values


def backend_with(**fields: Any) -> Backend:
    return Backend.model_validate({"name": "site", "port": 8080, "sources": ASG, **fields})


FIELDS: dict[str, Callable[[str], Backend]] = {
    "name": lambda text: backend_with(name=f"x{text}"),
    "domain": lambda text: backend_with(domains=[text]),
    "check.host": lambda text: backend_with(check={"path": "/", "host": text}),
    "check.path": lambda text: backend_with(check={"path": f"/{text}"}),
    "check.expect": lambda text: backend_with(check={"path": "/", "expect": text}),
    "check.body": lambda text: backend_with(check={"path": "/", "body": text}),
    "cookie": lambda text: backend_with(cookie={"name": text}),
    "stick": lambda text: backend_with(stick={"on": text}),
    "balance": lambda text: backend_with(balance=f"hdr({text})"),
    "sni": lambda text: backend_with(tls={"sni": text, "verify": False}),
    "group": lambda text: backend_with(sources=[{"asg": text}]),
    "tag": lambda text: backend_with(sources=[{"asg_tag": {text: text}}]),
}
SHAPE: dict[str, dict[str, Any]] = {"check.host": {"check": {"path": "/"}}, "check.path": {"check": {"path": "/"}}, "check.expect": {"check": {"path": "/"}},
         "check.body": {"check": {"path": "/", "body": "x"}}, "cookie": {"cookie": {"name": "x"}}, "stick": {"stick": {}},
         "balance": {"balance": "hdr(x)"}, "sni": {"tls": {"verify": False}}}  # fmt: skip


def fleet_of(backends: list[Backend], folder: Path) -> Settings:
    """Settings with these backends, each under a name of its own where names are not what is tried."""
    names = [each.name if each.name != "site" else f"be{number}" for number, each in enumerate(backends)]
    unique = {name: each.model_copy(update={"name": name}) for name, each in zip(names, backends, strict=True)}
    domains: set[str] = set()
    kept = []
    for each in unique.values():
        fresh = tuple(domain for domain in each.domains if domain not in domains)
        domains.update(fresh)
        kept.append(each.model_copy(update={"domains": fresh}))
    files = {"maps_dir": str(folder / "maps"), "server_state": str(folder / "state"), "runtime_socket": "/run/x.sock"}
    return make_settings(haproxy=files).model_copy(update={"backends": tuple(kept)})


@pytest.mark.parametrize("field", FIELDS)
def test_no_text_of_the_settings_changes_a_directive(field: str, haproxy: Haproxy, tmp_path: Path) -> None:
    passed = accepted(FIELDS[field], texts(seed=1))
    assert 10 <= len(passed) < CASES
    plain = backend_with(**SHAPE.get(field, {}))
    for start in range(0, len(passed), 400):
        batch = passed[start : start + 400]
        settings = fleet_of(batch, tmp_path)
        harmless = fleet_of([plain] * len(settings.backends), tmp_path)
        desired = [
            make_desired({each.name: [member("i-0abc")] for each in made.backends}) for made in (settings, harmless)
        ]
        text, expected = render(settings, desired[0], haproxy), render(harmless, desired[1], haproxy)
        assert directives(text.text) == directives(expected.text)
        for name, content in text.maps.items():
            assert all(len(line.split(" ")) == 2 for line in content.splitlines()), name
        if start == 0:
            complaints = check(haproxy, write(text, tmp_path, settings))
            if field == "stick":  # well formed, but HAProxy knows no such fetch or converter
                complaints = "".join(line for line in complaints.splitlines() if "parsing [" in line)
                assert complaints.count("unknown ") == complaints.count("parsing [")
            else:
                assert complaints == ""


def test_no_name_of_the_fleet_changes_a_directive(haproxy: Haproxy, tmp_path: Path) -> None:
    """Names of instances, nodes and peers, zones and groups, as AWS or an attacker of AWS might tell them."""
    settings = fleet_of([backend_with(zone_affinity="prefer")], tmp_path)
    renderer = JinjaRenderer(settings, source="x", digest="y")
    plain = renderer.render(make_desired({"be0": [member("i-0abc")]}, [peer("i-0bbb", "10.0.0.2")]), haproxy.version)
    passed: dict[str, list[str]] = {}
    for text in texts(seed=2):
        for kind, desired in harmful(text):
            try:
                rendered = renderer.render(desired, haproxy.version)
            except HafleetError:
                continue
            passed.setdefault(kind, []).append(text)
            assert directives(rendered.text) == directives(plain.text), (kind, text)
            assert parse(rendered.text).server_lines == 2
            if kind in {"member", "told"}:
                assert parse(rendered.text).structure == parse(plain.text).structure, (kind, text)
    assert {kind: len(found) == CASES for kind, found in passed.items()} == {
        "node": False,
        "peer": False,
        "member": False,
        "told": True,
    }
    members = {"be0": [member(name) for name in sorted(set(passed["member"]))]}
    peers = [peer(name, "10.0.0.2", 1 + number) for number, name in enumerate(sorted(set(passed["peer"])))]
    assert (
        check(haproxy, write(renderer.render(make_desired(members, peers), haproxy.version), tmp_path, settings)) == ""
    )


def harmful(text: str) -> Iterator[tuple[str, Desired]]:
    """The plain fleet with the text in one place each."""
    one, other = member("i-0abc"), peer("i-0bbb", "10.0.0.2")
    address = NODE.address
    yield "member", make_desired({"be0": [member(text)]}, [other])
    yield "peer", make_desired({"be0": [one]}, [Peer(text, address, 10000)])
    yield "node", make_desired({"be0": [one]}, [other], Node(id=text, address=address, zone="", region=""))
    told = Node(NODE.id, address, zone=text, region=text, group=text)
    yield "told", make_desired({"be0": [replaced(one, instance=text, zone=text)]}, [other], told)


def replaced(one: Member, **fields: str) -> Member:
    return Member(**{**{name: getattr(one, name) for name in Member.__slots__}, **fields})


def test_no_route_and_no_frontend_changes_a_directive(haproxy: Haproxy, tmp_path: Path) -> None:
    def route(text: str) -> Route:
        return Route.model_validate({"path": f"/{text}", "backend": "be0", "host": None})

    def host(text: str) -> Route:
        return Route.model_validate({"path": "/", "backend": "be0", "host": text})

    def frontend(text: str) -> Frontend:
        return Frontend.model_validate({"name": f"x{text}", "bind": ":80"})

    routes = {f"{each.host}{each.path}": each for make in (route, host) for each in accepted(make, texts(seed=3))}
    frontends = {each.name: each for each in accepted(frontend, texts(seed=4))}
    assert len(routes) > 100
    assert len(frontends) > 5
    settings = fleet_of([backend_with()], tmp_path)
    first = settings.frontends[0].model_copy(update={"routes": tuple(routes.values())})
    hostile = settings.model_copy(update={"frontends": (first, *frontends.values())})
    plain_routes = tuple(each.model_copy(update={"path": f"/{n}"}) for n, each in enumerate(routes.values()))
    plain_first = first.model_copy(update={"routes": plain_routes})
    plain_rest = tuple(each.model_copy(update={"name": f"fe{n}"}) for n, each in enumerate(frontends.values()))
    harmless = settings.model_copy(update={"frontends": (plain_first, *plain_rest)})
    text = render(hostile, make_desired(), haproxy)
    assert directives(text.text) == directives(render(harmless, make_desired(), haproxy).text)
    assert all(len(line.split(" ")) == 2 for content in text.maps.values() for line in content.splitlines())
    assert check(haproxy, write(text, tmp_path, hostile)) == ""


def test_a_directive_that_was_slipped_in_would_be_seen(tmp_path: Path) -> None:
    """Negative control: without the typed values and the renderer's guard, the same text adds a directive."""
    settings = fleet_of([backend_with(check={"path": "/", "host": "x"})], tmp_path)
    text = JinjaRenderer(settings, "x", "y").render(make_desired(), (3, 2, 26)).text
    hostile = text.replace("hdr Host x", "hdr Host x\n    stats socket ipv4@0.0.0.0:9999 level admin")
    assert directives(hostile) != directives(text)


def outcome(settings: Settings) -> list[str] | str:
    """The directives of what is rendered, or why it is not."""
    try:
        return directives(JinjaRenderer(settings, "x", "y").render(make_desired(), (3, 2, 26)).text)
    except HafleetError as error:
        return error.what


def test_the_renderer_refuses_a_line_break_that_no_typed_value_let_through(tmp_path: Path) -> None:
    """The second guard on its own: the first one is taken away by ``model_copy``, which validates nothing."""
    settings = fleet_of([backend_with(check={"path": "/"})], tmp_path)
    (one,) = settings.backends
    plain = outcome(settings)
    refused = 0
    for text in NASTY:
        hostile = one.model_copy(update={"check": one.check.model_copy(update={"host": f"x{text}"})})
        found = outcome(settings.model_copy(update={"backends": (hostile,)}))
        refused += "control character" in found
        assert found == plain or "control character" in found, text
    assert refused >= sum(not text.isascii() or not text.isprintable() for text in NASTY) // 2
