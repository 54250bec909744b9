"""The vars file of the load balancer of old, converted: texts, warnings with their lines, refusals."""

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from hafleet import config
from hafleet.adapters.templates import JinjaRenderer
from hafleet.checking import check
from hafleet.cli import main
from hafleet.core.hostregex import covered
from hafleet.core.migration import migrate
from hafleet.core.oldvars import OldVars
from hafleet.errors import SettingsError
from hafleet.migrating import convert
from tests.renderings import make_desired, member

DATA = Path(__file__).parent / "data" / "migration"
SITE = {"name": "shop", "domain": r"^shop\.example\.com$", "servers": ["10.0.1.10"]}
Write = Callable[..., Path]


def mapping(name: str, domain: str, *servers: str) -> dict[str, object]:
    return {"name": name, "domain": domain, "servers": list(servers or ("10.0.1.10",))}


def old(*mappings: dict[str, object], **keys: object) -> OldVars:
    return OldVars.model_validate({"lb_mappings": mappings or (SITE,), **keys})


def domains(found: OldVars) -> dict[str, tuple[str, ...]]:
    return {site.name: site.domains for site in migrate(found).sites}


def lookup(sites: dict[str, tuple[str, ...]], name: str) -> str | None:
    """As the maps do it: exactly first, then the longest suffix."""
    labels = name.split(".")
    for key in (name, *("*." + ".".join(labels[depth:]) for depth in range(1, len(labels)))):
        for site, listed in sites.items():
            if key in listed:
                return site
    return None


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a vars file, from text or from values."""

    def written(text: str = "", **values: object) -> Path:
        path = tmp_path / "vars.yml"
        path.write_text(text or yaml.safe_dump({"lb_mappings": [SITE], **values}))
        return path

    return written


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["migrate", *map(str, arguments)])


def problems(path: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        convert(path)
    return [problem.render().removeprefix(f"{path}:") for problem in caught.value.problems if problem.fatal]


# --- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small", "acme"])
def test_golden(name: str) -> None:
    made = dict(convert(DATA / f"{name}.yml").files)
    expected = {file: DATA / f"{name}.{file}" for file in made}
    if os.environ.get("HAFLEET_GOLDEN") == "write":
        for file, text in made.items():
            expected[file].write_text(text)
    assert made == {file: path.read_text() for file, path in expected.items()}


@pytest.mark.parametrize("name", ["small", "acme"])
def test_the_golden_settings_pass_check_and_render(name: str) -> None:
    path = DATA / f"{name}.hafleet.yaml"
    assert [problem.render() for problem in check(path) if problem.fatal] == []
    settings = config.load(path).settings
    members = {
        backend.name: [
            member(f"static-{address}", str(address), port=backend.ports[0])
            for address in backend.sources[0].static or ()
        ]
        for backend in settings.backends
    }
    rendered = JinjaRenderer(settings, source="hafleet.yaml", digest="0" * 64).render(make_desired(members), (3, 2, 26))
    expected = DATA / f"{name}.haproxy.cfg"
    if os.environ.get("HAFLEET_GOLDEN") == "write":
        expected.write_text(rendered.text)
    assert lasting(rendered.text) == lasting(expected.read_text())


def lasting(text: str) -> list[str]:
    """The lines that a new release of hafleet leaves as they are: all but its name at the top, and the digest at the end."""
    return text.splitlines()[1:-1]


def test_the_variables_read_the_same_in_the_yaml_of_ansible() -> None:
    values = yaml.safe_load((DATA / "acme.fleet.yml").read_text())
    assert values == {
        "hafleet_fleet_region": "us-east-1",
        "hafleet_fleet_instance_type": "t2.nano",
        "hafleet_fleet_min": 1,
        "hafleet_fleet_max": 3,
        "hafleet_fleet_subnets": ["subnet-f7e20b80", "subnet-8e9992c8"],
        "hafleet_fleet_ingress": [
            {"proto": "tcp", "from_port": 443, "to_port": 443, "cidr_ip": "0.0.0.0/0"},
            {"proto": "icmp", "from_port": -1, "to_port": -1, "cidr_ip": "0.0.0.0/0"},
        ],
    }
    settings = yaml.safe_load(
        (DATA / "acme.hafleet.yaml").read_text()
    )  # the role hafleet takes them as values of YAML 1.1
    assert settings["backends"][0]["stick"] == {"size": "200k", "expire": "30m"}
    assert settings["frontends"][0]["bind"] == ":80"


def test_the_role_knows_every_variable() -> None:
    role = Path(__file__).parents[2] / "ansible" / "roles" / "hafleet_fleet" / "meta" / "argument_specs.yml"
    known = yaml.safe_load(role.read_text())["argument_specs"]["main"]["options"]
    values = yaml.safe_load((DATA / "acme.fleet.yml").read_text())
    assert values.keys() <= known.keys()
    shapes = {"str": str, "int": int, "list": list}
    for key, value in values.items():
        assert isinstance(value, shapes[known[key]["type"]]), key


@pytest.mark.parametrize("word", ["on", "No", "123", "null", "1e5"])
def test_names_that_yaml_reads_as_something_else_are_quoted(write: Write, word: str) -> None:
    files = dict(convert(write(server_name=word, key_name=word)).files)
    assert yaml.safe_load(files["hafleet.yaml"])["fleet"] == word
    assert yaml.safe_load(files["fleet.yml"])["hafleet_fleet_key_name"] == word


def test_servers_with_ipv6_addresses(write: Write) -> None:
    text = dict(convert(write(lb_mappings=[mapping("v6", "^a$", "fd00::1", "fd00::2")])).files)["hafleet.yaml"]
    assert "    family: ipv6\n" in text


def test_a_load_balancer_that_was_not_in_dns(write: Write) -> None:
    assert "\ndns:" not in dict(convert(write()).files)["hafleet.yaml"]


def test_nothing_of_the_old_file_can_add_a_line(write: Write) -> None:
    text = '"a\\nbackends: []": 1\nlb_mappings:\n- {name: a, domain: ^a$, servers: [10.0.0.1], "x\\ny": 1}\n'
    files = dict(convert(write(text)).files)
    assert [line for line in files["hafleet.yaml"].splitlines() if line.startswith(("backends: []", "y"))] == []


# --- who gets a name --------------------------------------------------------------------------------------------------


def test_a_name_goes_to_the_mapping_that_took_it_first() -> None:
    found = old(mapping("all", r"\.example\.com$"), mapping("shop", r"^(shop\.example\.com|shop\.example\.org)$"))
    assert domains(found) == {"all": ("*.example.com",), "shop": ("shop.example.org",)}
    (finding,) = [each for each in migrate(found).findings if "before it" in each.what]
    assert "shop.example.com of mapping 'shop' was taken by mapping 'all'" in finding.what
    assert finding.path == ("lb_mappings", 1, "domain") and not finding.fatal


def test_a_name_that_only_the_open_expression_took_stays_there() -> None:
    found = old(mapping("shop", "shop.com"), mapping("mine", r"^(myshop|mine)\.com$"))
    assert domains(found) == {"shop": ("shop.com", "*.shop.com", "myshop.com"), "mine": ("mine.com",)}


def test_a_special_name_before_a_general_one_is_no_conflict() -> None:
    found = old(mapping("shop", r"^shop\.example\.com$"), mapping("all", r"\.example\.com$"))
    assert domains(found) == {"shop": ("shop.example.com",), "all": ("*.example.com",)}
    assert not [each for each in migrate(found).findings if "before it" in each.what]


def test_a_mapping_that_was_never_reached_is_left_out() -> None:
    found = old(mapping("all", r"\.example\.com$"), mapping("shop", r"^shop\.example\.com$"))
    assert domains(found) == {"all": ("*.example.com",)}
    assert [each.what for each in migrate(found).findings if "never reached" in each.what] == [
        "mapping 'shop' was never reached: earlier ones take all its names"
    ]


def test_names_go_where_they_went() -> None:
    """Against the expressions themselves, asked in order, for every name that any mapping lists."""
    chance = random.Random(5)
    pool = [
        r"^a\.x\.com$", r"^(a|b)\.x\.com$", r"\.x\.com$", r"^(.*\.)?x\.com$", r"b\.x\.com$", r"\.a\.x\.com$", "x.com",
        r"^[ab]\.x\.com$", r"^www\.(x|y)\.com$", r"^y\.com$", r"\.y\.com$", r"^([a-z]+\.)+y\.com$",
    ]  # fmt: skip
    for _ in range(300):
        chosen = chance.sample(pool, chance.randint(1, 4))
        found = old(*(mapping(f"m{number}", domain) for number, domain in enumerate(chosen)))
        sites = domains(found)
        listed = {domain for each in found.lb_mappings for domain in each.names.domains}
        for name in {domain.replace("*", "zz") for domain in listed} | {"a.x.com", "b.x.com", "www.y.com"}:
            first = next((f"m{n}" for n, domain in enumerate(chosen) if re.search(domain, name)), None)
            assert lookup(sites, name) == first or (first is None and covered(name, listed)), (chosen, name)


# --- what is told, and where ------------------------------------------------------------------------------------------

WARNINGS = """\
server_type: loadbalancer
branch: master
auto_register_domain: lb.{{ domain_name }}
domain_name: "{{ company }}.com"
company: acme
ami: ami-0abc
key_name: "{{ lookup('env', 'KEY') }}"
lb_mappings:
  - name: shop
    domain: shop.{{ domain_name }}
    servers: [10.0.1.10]
    mode: http
    weight: 3
"""


def test_what_does_not_come_over_is_told_with_its_line(write: Write) -> None:
    path = write(WARNINGS)
    made = convert(path)
    told = [(int(each.where.removeprefix(f"{path}:")), each.what) for each in made.problems]
    assert [(line, what[:46]) for line, what in told] == [
        (1, "the key 'server_type' is not carried over: not"),
        (1, "the statistics page on :9999 and its fixed pas"),
        (1, "HTTP and HTTPS of a site shared one stick tabl"),
        (2, "the key 'branch' is not carried over: nodes do"),
        (3, "the old Lambda deletes every record of this na"),
        (5, "the key 'company' is not carried over: hafleet"),
        (6, "the image ami-0abc is not carried over: it hol"),
        (7, "the expression \"{{ lookup('env', 'KEY') }}\" is"),
        (10, "the expression of mapping 'shop' matched other"),
        (12, "mode: http of mapping 'shop' is not carried ov"),
        (13, "the key 'weight' of lb_mappings[0] is not carr"),
    ]
    assert all(each.fix and not each.fatal for each in made.problems)
    files = dict(made.files)
    for each in made.problems:
        assert sum(f"#   - {each.what}; {each.fix}\n" in text for text in files.values()) == 1, each.what
    assert "domains: [shop.acme.com, " in files["hafleet.yaml"]
    assert "  name: lb.acme.com\n  zone: acme.com\n" in files["hafleet.yaml"]


@pytest.mark.parametrize("source", [{"group_name": "lb"}, {"group_id": "sg-0abc"}, {"ip_prefix": "pl-0abc"}])
def test_a_rule_without_a_network_is_left_out_and_told(write: Write, source: dict[str, str]) -> None:
    other = {"from_port": 22, "to_port": 22, **source}
    made = convert(write(security_group_rules=[other, {"from_port": 80, "to_port": 80, "cidr_ip": "0.0.0.0/0"}]))
    assert "security_group_rules[0] is not carried over: it names no network" in {each.what for each in made.problems}
    rules = yaml.safe_load(dict(made.files)["fleet.yml"])["hafleet_fleet_ingress"]
    assert [rule["from_port"] for rule in rules] == [80]
    alone = convert(write(security_group_rules=[other]))
    assert "hafleet_fleet_ingress" not in yaml.safe_load(dict(alone.files)["fleet.yml"])


REFUSED: dict[str, tuple[str, list[str]]] = {
    "no mappings": ("region: eu-west-1", ["1: error: lb_mappings is missing; add `lb_mappings:`"]),
    "an empty file": ("", ["1: error: the file is empty; name the vars file of a load balancer, with lb_mappings"]),
    "a list": (
        "- a",
        ["1: error: the file must hold `key: value` settings; name the vars file of a load balancer, with lb_mappings"],
    ),
    "a name twice, a server twice, both kinds": (
        ("lb_mappings:\n- {name: a, domain: ^a$, servers: [10.0.0.1, 10.0.0.1]}\n"
        "- {name: a, domain: ^b$, servers: [10.0.0.1, 'fd00::1']}"),
        [
            "2: error: the server 10.0.0.1 stands in mapping 'a' twice; keep one of them",
            ("3: error: the name 'a' is taken by an earlier mapping; "
            "give each its own name; one domain may list several names: ^(a|b)$"),
            "3: error: mapping 'a' has servers with IPv4 and with IPv6 addresses; keep to one kind: a backend has one family",
        ],
    ),
    "expressions": (
        "lb_mappings:\n- name: a\n  domain: ^(a\n  servers: [10.0.0.1]\n- name: b\n  domain: ^shop\n  servers: [10.0.0.1]",
        [
            ("3: error: lb_mappings[0].domain: '^(a' is no regular expression: a ( is never closed; "
            "HAProxy refuses it, too: mend it"),
            ("6: error: lb_mappings[1].domain: '^shop' takes names with any ending; list the names instead, "
            r"such as ^(shop|www)\.example\.com$, or take all below with \.example\.com$"),
        ],
    ),
    "servers that are names": (
        "lb_mappings:\n- name: a\n  domain: ^a$\n  servers:\n  - 10.0.0.1\n  - app.internal",
        [
            ("6: error: lb_mappings[0].servers[1]: 'app.internal' is not an IP address; "
            "write an IPv4 or IPv6 address; host names are not looked up, so that no reload depends on DNS")
        ],
    ),
    "no servers, a reserved name, a shape": (
        "lb_mappings:\n- {name: hafleet_a, domain: ^a$, servers: []}\n- just text",
        [
            "2: error: lb_mappings[0].name: the name 'hafleet_a' is reserved; choose another; all that begin with hafleet_ are taken",
            "2: error: lb_mappings[0].servers: this is empty; write at least one item, or remove the key where it may be left out",
            "3: error: lb_mappings[1]: this must be a section, not the text 'just text'; write `key: value` lines below it",
        ],
    ),
    "an expression of Jinja, and one that names itself": (
        "lb_mappings:\n- name: a\n  domain: '{{ x | lower }}'\n  servers: [10.0.0.1]\nserver_name: '{{ server_name }}'",
        [
            ("3: error: the expression '{{ x | lower }}' is not evaluated: only {{ name }} of a value in this file is; "
            "write the value itself, or set the role's variable by hand"),
            ("5: error: the expression '{{ server_name }}' is not evaluated: only {{ name }} of a value in this file is; "
            "write the value itself, or set the role's variable by hand"),
        ],
    ),
    "Jinja beside another fault": (
        "lb_mappings: '{{ sites }}'\nregion: Mars\ndomain_name:",
        [
            ("1: error: the expression '{{ sites }}' is not evaluated: only {{ name }} of a value in this file is; "
            "write the value itself, or set the role's variable by hand"),
            "2: error: region: 'Mars' is not a region; write it as AWS does, such as eu-west-1",
        ],
    ),
    "two that shared out a suffix": (
        "lb_mappings:\n- {name: a, domain: '^[0-9]+\\.x$', servers: [10.0.0.1]}\n- {name: b, domain: '^[a-z-]+\\.x$', servers: [10.0.0.1]}",
        [
            (
                "3: error: mapping 'b' comes down to *.x, and so does mapping 'a'; "
                r"list the names of one of them: ^(a|b)\.example\.com$"
            )
        ],
    ),
    "a suffix that is too deep": (
        r"lb_mappings: [{name: a, domain: '\.a.b.c.d.e.f.g.h.i$', servers: [10.0.0.1]}]",
        [
            ("1: error: *.a.b.c.d.e.f.g.h.i has more than 8 labels after its star; "
            "anchor the name with ^, or name a shorter suffix")
        ],
    ),
    "a name in DNS without a zone": (
        "auto_register_domain: lb\nlb_mappings: [{name: a, domain: ^a$, servers: [10.0.0.1]}]",
        ["1: error: 'lb' has no part after its first dot, which named the hosted zone; write the whole name, such as lb.example.com"],
    ),
    "more nodes at least than at most": (
        "min_size: 2\nlb_mappings: [{name: a, domain: ^a$, servers: [10.0.0.1]}]",
        ["1: error: min_size 2 is more than max_size 1; write both; without a line each is 1, as it was"],
    ),
    "a tag": (
        "lb_mappings: [{name: a, domain: ^a$, servers: [10.0.0.1]}]\nkey_name: !vault x",
        ["2: error: the tag !vault has no meaning here; remove it"],
    ),
    "a list with a hole": (
        "lb_mappings: [{name: a, domain: ^a$, servers: [10.0.0.1, ~]}]",
        ["1: error: lb_mappings[0].servers[1] is empty; write a value, or remove the line"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_refusals(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "vars.yml"
    path.write_text(text)
    assert problems(path) == expected


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_settings_and_tells_on_stderr(write: Write) -> None:
    path = write(colour="blue")
    done = run(path)
    assert done.exit_code == 0
    assert done.stdout == dict(convert(path).files)["hafleet.yaml"]
    assert "the key 'colour' is not carried over" in done.stderr


def test_the_command_as_json(write: Write) -> None:
    shown: Any = json.loads(run(path := write(colour="blue"), "--json").stdout)
    assert shown["files"] == dict(convert(path).files) and shown["written"] == []
    assert {row["where"].removeprefix(f"{path}:") for row in shown["problems"]} == {"1"}


def test_files_are_never_replaced_without_force(write: Write, tmp_path: Path) -> None:
    path, folder = write(), tmp_path / "new" / "folder"
    done = run(path, "--into", folder)
    assert (done.exit_code, done.stdout) == (0, f"{folder}/hafleet.yaml\n{folder}/fleet.yml\n")
    assert {file.name: file.read_text() for file in folder.iterdir()} == dict(convert(path).files)
    (folder / "hafleet.yaml").unlink()
    (folder / "fleet.yml").write_text("mine")
    done = run(path, "--into", folder)
    assert done.exit_code == 1
    assert f"{folder}/fleet.yml: this file is there already; say --force to replace it" in done.stderr
    assert [file.name for file in folder.iterdir()] == ["fleet.yml"] and (folder / "fleet.yml").read_text() == "mine"
    assert run(path, "--into", folder, "--force").exit_code == 0
    assert (folder / "fleet.yml").read_text() == dict(convert(path).files)["fleet.yml"]


def test_a_folder_that_cannot_be(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(write(), "--into", tmp_path / "file" / "below")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr and "name another folder" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("{folder}/none.yml",),
            "none.yml: error: the vars cannot be read: No such file or directory; name a readable file",
        ),
        (("{folder}",), "the vars cannot be read: Is a directory"),
        (("{folder}/vars.yml", "--force"), "--force goes with --into"),
    ],
)
def test_arguments_that_cannot_be_used(write: Write, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    write("region: [")
    done = run(*(each.format(folder=tmp_path) for each in arguments))
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_file_that_cannot_be_converted_writes_nothing(write: Write, tmp_path: Path) -> None:
    done = run(write("lb_mappings: []"), "--into", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert not (tmp_path / "out").exists()
