"""``hafleet render`` and the world document: configuration from settings and a world, live or offline."""

import re
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hafleet import compose
from hafleet.adapters.files import write_atomic
from hafleet.core import membership
from hafleet.core.model import Memory, Rendered, Unknown, Version, World
from hafleet.core.worlddoc import WorldDoc, from_doc, to_doc
from hafleet.errors import HafleetError, StoreError

_DOC: TypeAdapter[WorldDoc] = TypeAdapter(WorldDoc)
OFFLINE_VERSION: Version = (2, 6, 12)  # Debian 12's: what it accepts, the later ones accept


def world_json(world: World) -> str:
    """The world as ``hafleet observe --json`` prints it."""
    return _DOC.dump_json(to_doc(world), indent=2).decode()


def render(path: Path, world_file: Path | None, version: str | None) -> Rendered:
    """The configuration as a pass would want it now, or, with a world file, offline.

    Raises:
        SettingsError, TemplateError: the input is unusable.
        HafleetError: the world file cannot be read, or this node is not known.
    """
    parts = compose.build(path)
    if world_file is None:
        plan = parts.plan()
        if plan.wanted is None:
            raise (
                plan.errors[-1] if plan.errors else HafleetError("nothing can be rendered", fix="run `hafleet doctor`")
            )
        return plan.wanted
    doc = read_world(world_file)
    decision = membership.decide(parts.settings, from_doc(doc), Memory())
    if isinstance(decision.desired, Unknown):
        raise HafleetError(
            decision.desired.reason, where=str(world_file), fix="give it a node, as `hafleet observe --json` does"
        )
    wanted = parse_version(version) if version else doc.haproxy.version if doc.haproxy else OFFLINE_VERSION
    return parts.renderer.render(decision.desired, wanted)


def read_world(path: Path) -> WorldDoc:
    """A world document. Raises HafleetError with what is wrong in it."""
    try:
        return _DOC.validate_json(path.read_bytes())
    except OSError as error:
        raise HafleetError(f"cannot be read: {error.strerror}", where=str(path), fix="name a readable file") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise HafleetError(
            f"is not a world document: {place or 'document'}: {first['msg']}",
            where=str(path),
            fix="make it with `hafleet observe --json`",
        ) from error


def parse_version(text: str) -> Version:
    """``3.2.22`` -> (3, 2, 22). Raises HafleetError."""
    found = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not found:
        raise HafleetError(f"{text!r} is not an HAProxy version", where="--haproxy-version", fix="write it as 3.0.11")
    return int(found[1]), int(found[2]), int(found[3] or 0)


def write_maps(rendered: Rendered, folder: Path) -> None:
    """Write the map files into a folder. Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in rendered.maps.items():
            write_atomic(folder / name, content.encode())
    except OSError as error:
        raise StoreError(
            f"cannot be written: {error.strerror}", where=str(folder), fix="choose another folder"
        ) from error
