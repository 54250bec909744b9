"""YAML text -> a tree that knows its lines. What a scalar means is left to the setting that takes it.

YAML 1.1 reads ``on``, ``yes``, ``022`` and ``1:30`` as something else than their text, so no scalar is resolved here:
each stays text, and only an empty value, ``~`` or ``null`` is special: it means "not set".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from hafleet.core.checks.finding import Path

DEEPEST = 32  # levels; libyaml's composer recurses without a limit of its own
LARGEST = 200_000  # values after aliases are expanded

Plain = None | str | list["Plain"] | dict[str, "Plain"]

_LOADER: type[yaml.BaseLoader] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_MERGE = "<<"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the text itself. ``line`` counts from 1."""

    line: int
    what: str
    fix: str = ""


class Unreadable(Exception):
    """The text is no YAML that hafleet reads. Holds the one fault that ends the reading."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML mapping, addressed by paths such as ("backends", 0, "check", "path")."""

    root: yaml.MappingNode
    faults: tuple[Fault, ...]  # those that do not end the reading: keys written twice, tags

    def place(self, path: Path) -> tuple[Path, int]:
        """The part of a path that stands in the text, and the line of its last key or item."""
        node: yaml.Node = self.root
        line = _line(self.root)
        for depth, step in enumerate(path):
            if isinstance(node, yaml.MappingNode) and step in (entries := dict(_entries(node))):
                key, node = entries[str(step)]
                line = _line(key)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = _line(node)
            else:
                return path[:depth], line
        return path, line

    def plain(self, without: frozenset[Path] = frozenset()) -> tuple[dict[str, Plain], dict[Path, tuple[int, ...]]]:
        """The values as dicts, lists and text, less those at ``without`` and those not set.

        Returns:
            The values, and for each list that lost items (by its path in the values) the places its items had in the text.
        """
        moved: dict[Path, tuple[int, ...]] = {}

        def build(node: yaml.Node, here: Path, there: Path) -> Plain:
            """``here`` is the path in the text, ``there`` the one in the result."""
            if isinstance(node, yaml.MappingNode):
                built = {
                    key: build(value, (*here, key), (*there, key))
                    for key, (_, value) in _entries(node)
                    if (*here, key) not in without
                }
                return {key: value for key, value in built.items() if value is not None}
            if isinstance(node, yaml.SequenceNode):
                kept = tuple(index for index in range(len(node.value)) if (*here, index) not in without)
                if len(kept) != len(node.value):
                    moved[there] = kept
                return [build(node.value[old], (*here, old), (*there, new)) for new, old in enumerate(kept)]
            return _scalar(node)

        values = build(self.root, (), ())
        return (values if isinstance(values, dict) else {}), moved


def read(data: bytes, *, fix: str = "") -> Document:
    """The document in these bytes; ``fix`` is what to do about a file that holds no section, where it is not the settings.

    Raises Unreadable with the first fault that leaves nothing to go on with.
    """
    text = _decode(data)
    try:
        _bound_depth(text)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise Unreadable(_syntax(error, text)) from None
    if root is None:
        raise Unreadable(Fault(1, "the file is empty", fix or "write the settings; docs/settings.md lists them"))
    if not isinstance(root, yaml.MappingNode):
        line = min(
            _line(root), max(1, len(text.splitlines()))
        )  # what follows a bare --- is "on" the line after the last
        raise Unreadable(Fault(line, "the file must hold `key: value` settings", fix or "begin with fleet: NAME"))
    return Document(root, tuple(_walk(root)))


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(Fault(line, "this is not UTF-8 text", "save the file as UTF-8")) from None
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        what = f"the invisible character U+{ord(found[0]):04X} stands here"
        raise Unreadable(Fault(line, what, "remove it"))
    return text


def _bound_depth(text: str) -> None:
    """Refuse texts nested so deeply that composing them would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise Unreadable(Fault(_line(event), f"nested more than {DEEPEST} levels deep", "flatten it"))


def _walk(root: yaml.Node) -> Iterator[Fault]:
    """Faults of the whole tree. Raises Unreadable for aliases that contain themselves or grow without bound."""
    count = 0
    open_nodes: set[int] = set()

    def visit(node: yaml.Node) -> Iterator[Fault]:
        nonlocal count
        count += 1
        if count > LARGEST:
            raise Unreadable(
                Fault(_line(node), f"aliases expand to more than {LARGEST} values", "repeat fewer aliases")
            )
        if id(node) in open_nodes:
            raise Unreadable(Fault(_line(node), "this anchor contains an alias to itself", "remove the inner alias"))
        if node.tag not in _TAGS:
            yield Fault(_line(node), f"the tag {_tag(node.tag)} has no meaning here", "remove it")
        if len(open_nodes) > DEEPEST:  # aliases nest deeper than the text does
            raise Unreadable(Fault(_line(node), f"nested more than {DEEPEST} levels deep", "flatten it"))
        open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield from _key_faults(node)
            for _, value in node.value:
                yield from visit(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from visit(item)
        open_nodes.discard(id(node))

    return visit(root)


def _key_faults(node: yaml.MappingNode) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            yield Fault(_line(key), "a key must be plain text", "write `key: value`")
            continue
        if key.value in seen:
            what = f"the key {key.value!r} stands in line {seen[key.value]} already"
            yield Fault(_line(key), what, "keep one of them")
        seen.setdefault(key.value, _line(key))
        if key.value == _MERGE and not all(isinstance(each, yaml.MappingNode) for each in _merged(value)):
            yield Fault(_line(key), "<< merges something that is not a section", "give it an alias of a section")


def _merged(value: yaml.Node) -> list[yaml.Node]:
    return list(value.value) if isinstance(value, yaml.SequenceNode) else [value]


def _entries(node: yaml.MappingNode) -> Iterator[tuple[str, tuple[yaml.Node, yaml.Node]]]:
    """Keys with their nodes, in order: the first of keys written twice; merged keys last, unless the node has them."""
    seen: set[str] = set()
    merges: list[yaml.Node] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value == _MERGE:
            merges += _merged(value)
        elif key.value not in seen:
            seen.add(key.value)
            yield key.value, (key, value)
    for merge in merges:
        if isinstance(merge, yaml.MappingNode):
            for name, pair in _entries(merge):
                if name not in seen:
                    seen.add(name)
                    yield name, pair


def _syntax(error: yaml.YAMLError, text: str) -> Fault:
    """A parser's complaint in the words of someone who writes settings."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Fault(1, "this is not YAML", "check the file for stray characters")
    lines = text.splitlines()
    row = lines[mark.line] if mark.line < len(lines) else ""
    problem = str(getattr(error, "problem", "") or "this is not YAML")
    line = min(mark.line + 1, max(1, len(lines)))
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return Fault(line, "a tab indents this line", "indent with spaces")
    if "undefined alias" in problem or row[: mark.column].endswith("*"):
        return Fault(line, "a text that begins with * is read as an alias", 'put it in quotes, such as "*.example.com"')
    if "cannot start any token" in problem:
        return Fault(line, f"a text cannot begin with {row[mark.column : mark.column + 1]}", "put it in quotes")
    if "another document" in problem:
        return Fault(line, "a second document begins here", "keep one document per file")
    return Fault(line, f"this is not YAML: {problem}", "check the indentation, colons, brackets and quotes around here")


def _scalar(node: yaml.Node) -> str | None:
    """The text of a scalar; None for a bare one that means "not set"."""
    plain = not getattr(node, "style", None)
    return None if plain and node.value in ("", "~", "null", "Null", "NULL") else str(node.value)


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _line(node: yaml.Node | yaml.Event) -> int:
    mark = node.start_mark
    return int(mark.line) + 1 if mark is not None else 1
