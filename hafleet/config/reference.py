"""docs/settings.md, written from the JSON Schema so that it cannot fall behind: ``python -m hafleet.config FILE``."""

from collections.abc import Iterator

from pydantic import JsonValue

from hafleet.config import json_schema

Schema = dict[str, JsonValue]

_HEAD = """\
# Settings

`/etc/hafleet/hafleet.yaml`, one YAML file. `hafleet check` names every problem at once, each with its line;
`hafleet schema` prints the JSON Schema, so that an editor can complete and check the file.
[examples/edge.yaml](examples/edge.yaml) is a small one to begin with. This page is written by
`python -m hafleet.config docs/settings.md`; a test fails when it is not current.

How values are written:

- **duration**: a number and `us`, `ms`, `s`, `m`, `h` or `d`, such as `300ms`; a bare number is seconds. At most `24d`.
- **percentage**: `15%`, or a fraction from 0 to 1.
- **size**: a number, with `k`, `m` or `g` as powers of 1024, as in HAProxy.
- **address to listen on**: `":80"` (every IPv4 address), `"10.0.0.1:443"`, `"[::]:443"` (IPv6, and IPv4 too).
- **true or false** are written just so. `yes`, `no`, `on` and `off` are plain text.
- An empty value, `~` or `null` means "not set": the default holds.
- Put texts that begin with `*`, `@`, `%`, `[`, `{`, `&`, `!`, `#` or a quote in quotes.
- Anchors, aliases and the merge key `<<` work. Unknown keys, keys written twice and tags are errors.
- What reaches haproxy.cfg is refused rather than escaped when it holds quotes, `#`, `$`, backslashes or line breaks.
"""


def markdown() -> str:
    """The whole page."""
    schema = json_schema()
    return "\n".join([_HEAD, *_section("", schema, _object(schema["$defs"]), {})])


def _section(path: str, section: Schema, known: Schema, places: dict[str, str]) -> Iterator[str]:
    """A heading, the section's table, then the sections inside it.

    ``places`` collects where each kind of section is described: once, though it may stand in several places, or in itself.
    """
    yield f"## {f'`{path}`' if path else 'The whole file'}\n"
    yield f"{section.get('description', '')}\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    required = section.get("required")
    inside: list[tuple[str, Schema]] = []
    for key, value in _object(section["properties"]).items():
        field = _object(value)
        must = isinstance(required, list) and key in required
        name = _reference(field)
        inner = _object(known.get(name))
        place = f"{path}.{key}".removeprefix(".") + _below(field)
        new = "properties" in inner and name not in places
        kind = _kind(field) + (f" (see `{places[name]}`)" if name in places else "")
        default = "**required**" if must else _default(kind, field.get("default"), whole="required" in inner)
        meaning = field.get("description") or inner.get(
            "description", ""
        )  # pydantic drops a field's when both are alike
        yield f"| `{key}` | {kind} | {default} | {_cell(str(meaning))} |"
        if new:
            places[name] = place
            inside.append((place, inner))
    yield ""
    for place, part in inside:
        yield from _section(place, part, known, places)


def _kind(field: Schema) -> str:
    """What stands after the colon, in a few words."""
    branches = [each for each in _branches(field) if each.get("type") != "null"]
    told = [str(each["description"]) for each in branches if "description" in each and "anyOf" in field]
    if told:
        return told[0]
    return " or ".join(dict.fromkeys(_one(each) for each in branches))


def _one(field: Schema) -> str:
    if "enum" in field:
        values = field["enum"]
        return " or ".join(f"`{each}`" for each in values) if isinstance(values, list) else ""
    if "$ref" in field:
        return "section"
    kind = field.get("type")
    if kind == "array":
        items = dict.fromkeys(_one(each) for each in _branches(_object(field.get("items"))))
        many = {"section": "sections", "text": "texts"}
        return "list of " + " or ".join(many.get(each, each if each.startswith("`") else "values") for each in items)
    if kind == "object":
        return "keys, each with " + " or ".join(dict.fromkeys(_one(each) for each in _values(field)))
    if kind == "integer":
        low, high = field.get("minimum"), field.get("maximum")
        limits = f" from {low}" if high is None else f" {low} to {high}"
        return "whole number" + (limits if low is not None else "")
    words = {"boolean": "true or false", "number": "number"}
    return words.get(str(kind), "text")


def _default(kind: str, value: JsonValue, *, whole: bool) -> str:
    """A default as it would be written; that of a section only when ``whole``: its own table tells the others."""
    if isinstance(value, dict) and whole:
        return (
            "`{"
            + ", ".join(f"{key}: {_default('', each, whole=True).strip('`')}" for key, each in value.items())
            + "}`"
        )
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, int | float):
        if kind.startswith("duration"):
            return f"`{value:g}s`" if value >= 1 or value == 0 else f"`{value * 1000:g}ms`"
        if kind == "percentage":
            return f"`{value * 100:g}%`"
        if kind == "size":
            return f"`{value // 1024:g}k`"
        return f"`{value:g}`"
    return f"`{value}`" if value else ""


def _branches(field: Schema) -> list[Schema]:
    found = field.get("anyOf", field.get("oneOf"))
    if not isinstance(found, list):
        return [field]
    return [inner for each in found for inner in _branches(_object(each))]


def _values(field: Schema) -> list[Schema]:
    """What may stand behind the keys of a field whose keys are free."""
    return [inner for each in _object(field.get("patternProperties")).values() for inner in _branches(_object(each))]


def _below(field: Schema) -> str:
    """What a path needs to reach into the field's sections: an index, a key, or nothing."""
    kinds = [each.get("type") for each in _branches(field)]
    return "[]" if "array" in kinds else ".*" if "object" in kinds else ""


def _reference(field: Schema) -> str:
    """The name of the section that a field holds, or a list of, or under keys; empty when it holds none."""
    for each in _branches(field):
        for inner in (each, *_branches(_object(each.get("items"))), *_values(each)):
            if "$ref" in inner:
                return str(inner["$ref"]).rsplit("/", 1)[-1]
    return ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _object(value: JsonValue | None) -> Schema:
    return value if isinstance(value, dict) else {}
