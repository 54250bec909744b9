"""What a usable file means: the meaning of YAML, the schema for editors, and the reference page."""

import hashlib
import json
from ipaddress import IPv4Address
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from hafleet import config
from hafleet.config.reference import markdown
from hafleet.core.settings import Settings
from hafleet.core.values import shown
from hafleet.errors import SettingsError

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))
HEAD = "fleet: edge\nfrontends: [{name: web, bind: ':80', default_backend: site}]\n"

EVERYTHING = """\
fleet: edge                     # names everything that belongs to this fleet
aws: {region: eu-west-1}
node: {source: imds}
peers: {port: 10000, tls: {cert: /etc/hafleet/peer.pem, ca: /etc/hafleet/ca.pem}}
frontends:
  - {name: web, bind: ":80", mode: http, default_backend: site}
  - {name: tls, bind: ":443", mode: tcp, route_by: sni}
backends:
  - name: site
    domains: [example.com, "*.example.com"]
    port: 8080
    balance: leastconn
    sources:
      - {asg: site-blue, weight: 90}
      - {asg: site-green, weight: 10}
      - {asg_tag: {hafleet:backend: site}}
      - {static: [10.0.9.10]}
    stick: {on: src, size: 200k, expire: 30m}
    check: {path: /healthz, host: example.com, expect: "200", interval: 2s, rise: 2, fall: 3}
    slow_start: 30s
    drain: 300s
    zone_affinity: prefer
dns:
  name: lb.example.com
  zone: example.com
  weight: 100
  ttl: 30
  group: eu-west-1
  tree: {latency: {eu-west-1: eu-west-1}, shards: 1}
  health: {endpoint: {port: 8403, path: /hafleet-health}}
signals: {cpu: 90%, errors_5xx: 5%, connect_errors: 5%, p99: 800ms}
lifecycle: {join_timeout: 15m, drain: {quiet: 10s, max: 15m}}
events: {queue: auto}
safety: {max_removal: 15%, confirm_reads: 2, reload_min_interval: 10s, max_old_workers: 5}
status: {listen: 127.0.0.1:8405}
"""


def load(folder: Path, text: str) -> config.Loaded:
    path = folder / "hafleet.yaml"
    path.write_bytes(text.encode())
    return config.load(path)


def backend(folder: Path, lines: str) -> Settings:
    return load(folder, f"{HEAD}backends:\n  - name: site\n    sources: [{{asg: a}}]\n{lines}").settings


def test_every_section_parses_and_what_has_no_effect_yet_says_so(tmp_path: Path) -> None:
    loaded = load(tmp_path, EVERYTHING)
    warned = [problem.render().removeprefix(f"{loaded.path}:") for problem in loaded.problems]
    nothing = "frontend 'tls' routes by sni, but no tcp backend has domains"
    nothing += "; add domains to a backend of mode tcp, or set default_backend"
    later = "is read but not acted on yet; keep it for a later version, or remove it"
    assert warned == [
        f"7: warning: {nothing}",
        f"31: warning: `signals` {later}",
    ]
    site = loaded.settings.backends[0]
    assert site.sources[2].asg_tag == {"hafleet:backend": "site"}
    assert site.sources[3].static == (IPv4Address("10.0.9.10"),)
    assert (site.stick.size, site.stick.expire) == (204800, 1800.0) if site.stick else False
    assert loaded.settings.signals is not None
    assert (loaded.settings.signals.cpu, loaded.settings.signals.p99) == (0.9, 0.8)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, EVERYTHING)
    assert loaded.digest == hashlib.sha256(EVERYTHING.encode()).hexdigest()
    assert loaded.path == tmp_path / "hafleet.yaml"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_the_examples_have_no_problem_and_pass_their_own_schema(path: Path) -> None:
    assert config.load(path).problems == ()
    document = yaml.safe_load(path.read_text().replace("{on:", '{"on":'))  # PyYAML reads YAML 1.1
    jsonschema.validate(document, config.json_schema())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("    stick: {on: src}\n", "src"),  # YAML 1.1 reads the key as true
        ("    stick: {on: url_param(a)}\n", "url_param(a)"),
    ],
)
def test_the_key_on_is_a_key(tmp_path: Path, lines: str, expected: str) -> None:
    stick = backend(tmp_path, lines).backends[0].stick
    assert stick is not None
    assert stick.on == expected


def test_a_scalar_means_what_its_setting_takes(tmp_path: Path) -> None:
    lines = "    check: {path: /, expect: 200, interval: 3, port: 0080}\n    drain: 1.5\n    send_proxy: True\n"
    site = backend(tmp_path, lines).backends[0]
    assert (site.check.expect, site.check.interval, site.check.port) == ("200", 3.0, 80)
    assert (site.drain, site.send_proxy) == (1.5, True)
    groups = load(
        tmp_path, HEAD + "backends:\n- {name: site, sources: [{asg: 0123}, {asg: yes}, {asg: 1:30}, {asg: 1e3}]}"
    )
    assert [source.asg for source in groups.settings.backends[0].sources] == ["0123", "yes", "1:30", "1e3"]


@pytest.mark.parametrize("unset", ["", "~", "null", "Null", "NULL"])
def test_an_empty_value_leaves_the_default(tmp_path: Path, unset: str) -> None:
    settings = backend(tmp_path, f"    drain: {unset}\npeers: {unset}\nhaproxy:\n  config: {unset}\n")
    assert (settings.backends[0].drain, settings.peers.port) == (300.0, 10000)
    assert settings.haproxy.config == "/etc/haproxy/haproxy.cfg"


def test_a_quoted_null_is_a_text(tmp_path: Path) -> None:
    groups = load(tmp_path, HEAD + 'backends: [{name: site, sources: [{asg: "null"}, {asg: "~"}]}]')
    assert [source.asg for source in groups.settings.backends[0].sources] == ["null", "~"]


def test_anchors_aliases_and_merges(tmp_path: Path) -> None:
    text = """\
fleet: edge
frontends:
  - {name: web, bind: ":80", default_backend: one, routes: [{path: /b, backend: two}, {path: /c, backend: three}]}
backends:
  - &base
    name: one
    sources: &sources [{asg: a}]
    check: &check {path: /, rise: 5}
    drain: 60s
  - {<<: *base, name: two, drain: 30s}
  - {<<: [{balance: first}, *base], name: three, check: {<<: *check, rise: 1}, sources: *sources}
"""
    one, two, three = load(tmp_path, text).settings.backends
    assert (two.name, two.drain, two.check, two.sources) == ("two", 30.0, one.check, one.sources)
    assert (three.name, three.drain, three.balance) == ("three", 60.0, "first")
    assert (three.check.path, three.check.rise) == ("/", 1)


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_marks_and_line_ends_of_other_systems(tmp_path: Path, change: object) -> None:
    assert callable(change)
    assert load(tmp_path, change(EVERYTHING)).settings == load(tmp_path, EVERYTHING).settings


def test_a_node_described_by_hand_is_meant(tmp_path: Path) -> None:
    settings = backend(tmp_path, "node: {static: {id: n1, private_ip: 10.0.0.9}}\n")
    assert settings.node.source == "static"


def test_names_are_normalised(tmp_path: Path) -> None:
    settings = backend(tmp_path, '    domains: [EXAMPLE.com., "*.Bücher.example"]\nstatus: {listen: "*:81"}\n')
    assert settings.backends[0].domains == ("example.com", "*.xn--bcher-kva.example")
    assert settings.status.listen == ":81"


def test_a_templates_folder_that_exists(tmp_path: Path) -> None:
    assert backend(tmp_path, f"haproxy: {{templates_dir: {tmp_path}}}\n").haproxy.templates_dir == str(tmp_path)


def test_the_schema_describes_every_key() -> None:
    schema = config.json_schema()
    text = json.dumps(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    sections = [schema, *json.loads(text)["$defs"].values()]
    for section in sections:
        for key, field in section.get("properties", {}).items():
            inner = field.get("$ref") or any("$ref" in each for each in field.get("anyOf", []))
            assert field.get("description") or inner, f"{section['title']}.{key} has no description"
    assert len(sections) > 20


@pytest.mark.parametrize(
    "change",
    [
        "fleet: 'a b'",
        "zzz: 1",
        "peers: {port: 0}",
        "peers: {settle: 5 s}",
        "safety: {max_removal: 15 %}",
        "backends: []",
    ],
)
def test_the_schema_refuses_what_load_refuses(tmp_path: Path, change: str) -> None:
    document = yaml.safe_load(EVERYTHING) | yaml.safe_load(change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, config.json_schema())
    with pytest.raises(SettingsError):
        load(tmp_path, yaml.safe_dump(document))


def test_the_reference_page_is_current() -> None:
    page = ROOT / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run: python -m hafleet.config docs/settings.md"


def test_long_values_are_cut_in_messages() -> None:
    assert shown("x" * 61) == "'" + "x" * 57 + "...'"


def test_away_from_the_nodes_their_folders_are_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "hafleet.yaml"
    text = f"{HEAD}haproxy: {{templates_dir: /nowhere/templates}}\nbackends: [{{name: site, sources: [{{asg: a}}]}}]\n"
    path.write_text(text)
    assert config.load(path, elsewhere=True).settings.haproxy.templates_dir == "/nowhere/templates"
    with pytest.raises(SettingsError, match="does not exist"):
        config.load(path)
    path.write_text(text.replace("default_backend: site", "default_backend: other"))
    with pytest.raises(SettingsError, match="other"):
        config.load(path, elsewhere=True)
