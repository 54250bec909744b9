import os
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from hafleet.adapters.templates import JinjaRenderer, shipped_templates
from hafleet.core import context
from hafleet.core.cfgtext import complete, parse
from hafleet.core.context import Context
from hafleet.core.mapplan import stamp
from hafleet.core.serverlines import ServerContext
from hafleet.errors import TemplateError
from tests.renderings import make_backend, make_desired, make_settings, member

VERSION = (3, 2, 26)


def make_renderer(folder: Path | None = None, **backend: object) -> JinjaRenderer:
    haproxy = {} if folder is None else {"templates_dir": str(folder)}
    backends = [{"name": "site", "port": 8080, "sources": [{"asg": "site"}], **backend}]
    return JinjaRenderer(
        make_settings(haproxy=haproxy, backends=backends), source="/etc/hafleet.yaml", digest="ab" * 32
    )


def render(renderer: JinjaRenderer) -> str:
    text = renderer.render(make_desired({"site": [member("i-0abc")]}), VERSION).text
    complete(text)
    return text


def replace(folder: Path, name: str, text: str) -> Path:
    """Put a template into the user's folder the way an editor does: a new file renamed over the old one."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, target)
    return target


def refused(folder: Path) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        render(make_renderer(folder))
    return caught.value


# --- the shipped templates -------------------------------------------------------------------------------------------


def test_the_text_names_its_maker_its_settings_and_its_structure() -> None:
    text = render(make_renderer())
    assert text.startswith("# Written by hafleet ")
    assert f"# Settings: /etc/hafleet.yaml sha256={'ab' * 32}\n" in text
    assert f"setenv HAFLEET_STRUCTURE {parse(text).structure}\n" in text


def test_two_renderings_of_one_state_are_the_same_text() -> None:
    assert render(make_renderer()) == render(make_renderer())


def test_every_map_the_text_names_is_rendered_and_stamped() -> None:
    settings = make_settings(
        frontends=[
            {"name": "web", "bind": ":80", "routes": [{"path": "/api", "backend": "site"}]},
            {"name": "tls", "bind": ":443", "mode": "tcp", "route_by": "sni"},
        ],
        haproxy={"maps_dir": "/var/maps"},
    )
    rendered = JinjaRenderer(settings, source="x", digest="y").render(make_desired(), VERSION)
    named = parse(rendered.text).maps
    assert named == {name: f"/var/maps/{name}" for name in rendered.maps}
    assert len(named) == 5
    assert all(stamp(content) for content in rendered.maps.values())


def test_servers_change_no_structure() -> None:
    renderer = JinjaRenderer(make_backend(zone_affinity="prefer", cookie={"name": "SRV"}), source="x", digest="y")
    fleets = [
        [],
        [member("i-0abc")],
        [member("i-0abc", zone="other")],
        [member("i-0abc", draining=True), member("i-0def", "fd00::1", zone="other", weight=7, port=9)],
    ]
    texts = [renderer.render(make_desired({"site": fleet}), VERSION).text for fleet in fleets]
    assert len({parse(text).structure for text in texts}) == 1
    assert [len(parse(text).servers) for text in texts] == [0, 1, 1, 2]


def test_a_first_domain_changes_no_structure() -> None:
    texts = [render(make_renderer(domains=domains)) for domains in ([], ["a.example", "*.b.example"])]
    assert parse(texts[0]).structure == parse(texts[1]).structure


def test_every_server_in_the_text_is_one_that_runtime_commands_can_change() -> None:
    parsed = parse(render(make_renderer(tls={"sni": "a.example"}, cookie={"name": "SRV"})))
    (server,) = parsed.servers.values()
    assert server.options in parsed.options["site"]
    assert server.command_options.endswith("cookie i-0abc")
    assert parsed.server_lines == 2  # the other one is the switch of the health endpoint


# --- the user's templates --------------------------------------------------------------------------------------------


def test_one_partial_replaces_one_shipped_partial(tmp_path: Path) -> None:
    replace(tmp_path, "partials/defaults.cfg.j2", "defaults\n    timeout connect {{ timeouts.connect }}\n")
    text = render(make_renderer(tmp_path))
    assert "defaults\n    timeout connect 5s\n\n" in text
    assert "redispatch" not in text
    assert "peers hafleet" in text


def test_a_partial_can_wrap_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    replace(tmp_path, "partials/global.cfg.j2", '{% include "partials/global.cfg.j2" %}\n    tune.bufsize 32768\n')
    assert "localpeer i-0aaa" in (text := render(make_renderer(tmp_path)))
    assert "    tune.bufsize 32768\n" in text


@pytest.mark.parametrize("parent", ["haproxy.cfg.j2", "shipped/haproxy.cfg.j2"])
def test_the_whole_can_be_extended_block_by_block(tmp_path: Path, parent: str) -> None:
    blocks = "{% block globals %}{{ super() }}    tune.bufsize 32768\n{% endblock %}{% block extra %}\n# mine\n{% endblock %}"
    replace(tmp_path, "haproxy.cfg.j2", f'{{% extends "{parent}" %}}\n{blocks}')
    text = render(make_renderer(tmp_path))
    assert "TLSv1.2\n    tune.bufsize 32768\n" in text
    assert "# mine\n" in text
    assert "server i-0abc " in text


def test_macros_of_a_template_may_print_lines(tmp_path: Path) -> None:
    macro = "{% macro two(name) %}\n# {{ name }}\n# again\n{% endmacro %}\n{{ two(fleet) }}"
    replace(tmp_path, "haproxy.cfg.j2", f'{{% extends "haproxy.cfg.j2" %}}{{% block extra %}}{macro}{{% endblock %}}')
    assert "# edge\n# again\n" in render(make_renderer(tmp_path))


def test_values_and_constants_are_printed_as_they_are(tmp_path: Path) -> None:
    text = """# {{ "a&b<'c'>" }} {{ fleet ~ "&" }} {{ ["<", fleet]|join("&") }} {{ version >= (3, 0) }}\n"""
    replace(tmp_path, "haproxy.cfg.j2", f'{{% extends "haproxy.cfg.j2" %}}{{% block extra %}}\n{text}{{% endblock %}}')
    assert "# a&b<'c'> edge& <&edge True\n" in render(make_renderer(tmp_path))


def test_templates_are_read_again_when_they_change(tmp_path: Path) -> None:
    renderer = make_renderer(tmp_path)
    shipped = render(renderer)
    path = replace(tmp_path, "partials/peers.cfg.j2", "peers hafleet\n    peer {{ peers.local.name }} 127.0.0.1:1\n")
    assert "127.0.0.1:1\n" in render(renderer)
    replace(tmp_path, "partials/peers.cfg.j2", "peers hafleet\n    peer {{ peers.local.name }} 127.0.0.1:2\n")
    assert "127.0.0.1:2\n" in render(renderer)
    path.unlink()
    assert render(renderer) == shipped


def test_the_folders_to_watch(tmp_path: Path) -> None:
    assert make_renderer().watch_paths() == (shipped_templates(),)
    assert make_renderer(tmp_path).watch_paths() == (tmp_path, shipped_templates())


def test_a_dangling_link_in_the_folder_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "gone.j2").symlink_to(tmp_path / "nowhere")
    assert "peers hafleet" in render(make_renderer(tmp_path))


def test_the_same_is_rendered_once_and_anything_else_anew(tmp_path: Path) -> None:
    renderer = make_renderer(tmp_path)
    first = renderer.render(make_desired({"site": [member("i-0abc")]}), VERSION)
    assert renderer.render(make_desired({"site": [member("i-0abc")]}), VERSION) is first
    assert renderer.render(make_desired({"site": [member("i-0abc", weight=1)]}), VERSION).text != first.text
    assert "pool-max-conn" in renderer.render(make_desired({"site": [member("i-0abc")]}), (2, 6, 12)).text
    replace(tmp_path, "partials/peers.cfg.j2", "peers hafleet\n    peer {{ peers.local.name }} 127.0.0.1:1\n")
    assert renderer.render(make_desired({"site": [member("i-0abc")]}), VERSION).text != first.text


def test_an_installation_without_templates_says_so(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="shipped templates are missing"):
        shipped_templates(tmp_path / "hafleet")


# --- templates that do not render ------------------------------------------------------------------------------------


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    path = replace(tmp_path, "partials/peers.cfg.j2", "peers hafleet\n{% for peer in peers.all %}\n{% endif %}\n")
    error = refused(tmp_path)
    assert error.where == f"{path}:3"
    assert "not valid" in error.what
    assert error.fix


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("{{ bakends }}", "'bakends' is undefined; did you mean 'backends'?"),
        ("{{ zzzzzz }}", "'zzzzzz' is undefined"),
        ("{{ timeouts.conect }}", "there is no 'conect' in TimeoutsContext; did you mean 'connect'?"),
        ("{% if process.zzzzzz %}x{% endif %}", "there is no 'zzzzzz' in GlobalContext"),
        ("{{ peers.all[9].name }}", "has no element 9"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ process.maxconn }}", "this value is None"),
        ("{{ fleet|safe }}", "No filter named 'safe'"),
        ("{{ fleet.__class__.__mro__ }}", "unsafe"),
        ("{% set _ = peers.all.append(1) %}", "append"),
        ("{{ timeouts['conect'] }}", "there is no 'conect' in TimeoutsContext; did you mean 'connect'?"),
        ('{% include "nothing.j2" %}', "there is no template 'nothing.j2'"),
        ('{% include "../secret.j2" %}', "there is no template '../secret.j2'"),
        ('{{ "a\\nb" }}', "holds a control character"),
        ('{{ "a" ~ "\\x00" }}', "holds a control character"),
        ('{{ "\\u0085" }}', "holds a control character"),
        ('{{ ["a", "b"]|join("\\n") }}', "holds a control character"),
    ],
)
def test_an_error_while_rendering_names_file_line_and_what_may_be_meant(
    tmp_path: Path, expression: str, words: str
) -> None:
    path = replace(tmp_path, "partials/peers.cfg.j2", f"peers hafleet\n# one\n{expression}\n")
    error = refused(tmp_path)
    assert words in error.what
    assert error.where == f"{path}:3"
    assert "\n" not in str(error)


def test_an_error_inside_a_macro_names_the_line_of_the_macro(tmp_path: Path) -> None:
    path = replace(
        tmp_path, "partials/peers.cfg.j2", "{% macro m(x) %}\n{{ x.nothing }}\n{% endmacro %}\n\n{{ m(fleet) }}\n"
    )
    assert refused(tmp_path).where == f"{path}:2"


def test_a_main_template_that_extends_nothing_known(tmp_path: Path) -> None:
    path = replace(tmp_path, "haproxy.cfg.j2", '{% extends "base.j2" %}')
    error = refused(tmp_path)
    assert error.what == "there is no template 'base.j2'"
    assert error.where == f"{path}:1"


def test_a_template_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg.j2").write_bytes(b"\xff\xfe")
    error = refused(tmp_path)
    assert error.where == str(tmp_path / "haproxy.cfg.j2")
    assert "cannot be read" in error.what


def test_a_template_that_includes_itself_without_end(tmp_path: Path) -> None:
    replace(tmp_path, "partials/peers.cfg.j2", '{% include "partials/other.j2" %}')
    replace(tmp_path, "partials/other.j2", '{% include "partials/peers.cfg.j2" %}')
    assert "recursion" in refused(tmp_path).what


def test_after_the_mistake_is_mended_it_renders_again(tmp_path: Path) -> None:
    renderer = make_renderer(tmp_path)
    path = replace(tmp_path, "partials/peers.cfg.j2", "{{ nothing }}")
    with pytest.raises(TemplateError):
        render(renderer)
    path.unlink()
    assert "peers hafleet" in render(renderer)


# --- their documentation ---------------------------------------------------------------------------------------------


def test_the_documentation_names_every_field_and_every_template() -> None:
    text = (Path(__file__).parents[2] / "docs" / "templates.md").read_text()
    classes: list[Any] = [
        Context,
        *(each for each in vars(context).values() if is_dataclass(each) and each.__module__ == context.__name__),
    ]
    names = {field.name for each in [*classes, ServerContext] for field in fields(each)}
    assert len(names) > 50
    assert {name for name in names if f"`{name}`" not in text} == set()
    folder = shipped_templates()
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.j2")} == set(
        re.findall(r"\| `(\S+\.j2)` \|", text)
    )
