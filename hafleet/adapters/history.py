"""Earlier configurations, kept so that ``hafleet rollback`` can put one back. One JSON file per structure, newest last."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hafleet.adapters.files import write_atomic
from hafleet.core.model import Rendered
from hafleet.errors import StoreError

KEPT = 10


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept configuration. ``at`` is the wall clock at which it was last the live one."""

    at: float
    structure: str
    path: Path


class History:
    """The folder ``state_dir/history``. A text with the same structure as the newest replaces it."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "history"

    def list(self) -> tuple[Kept, ...]:
        """What is kept, newest first. Files that are not ours are passed over."""
        found = []
        for path in self._folder.glob("*.json"):
            moment, _, structure = path.stem.partition("-")
            if moment.isdigit() and structure:
                found.append(Kept(int(moment) / 1000, structure, path))
        return tuple(sorted(found, key=lambda kept: kept.at, reverse=True))

    def keep(self, rendered: Rendered, structure: str, at: float) -> None:
        """Remember what is now live. Raises StoreError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{round(at * 1000)}-{structure}.json"
            body = json.dumps({"text": rendered.text, "maps": dict(rendered.maps)})
            write_atomic(path, body.encode(), mode=0o640)
            kept = self.list()
            same = [k for k in kept[1:2] if k.structure == structure]
            for old in (*same, *kept[KEPT:]):
                os.unlink(old.path)
        except OSError as error:
            raise StoreError(
                f"the history cannot be written: {error.strerror}",
                where=str(self._folder),
                fix="check the disk; HAProxy keeps serving, only rollback lacks this entry",
            ) from error

    def load(self, kept: Kept) -> Rendered:
        """The text and maps of one entry. Raises StoreError."""
        try:
            found = json.loads(kept.path.read_text())
            text, maps = found["text"], found["maps"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                "the kept configuration cannot be read", where=str(kept.path), fix="choose another"
            ) from error
        if not isinstance(text, str) or not isinstance(maps, Mapping):
            raise StoreError("the kept configuration is damaged", where=str(kept.path), fix="choose another")
        return Rendered(text, {str(name): str(content) for name, content in maps.items()})
