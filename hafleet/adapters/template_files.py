"""Files that decide the configuration: templates, where the user's file replaces the shipped one of the same name, each on its
own; and the certificates that HAProxy reads when it loads.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import BaseLoader, Environment, TemplateNotFound
from jinja2.loaders import split_template_path

from hafleet.errors import TemplateError

FolderState = frozenset[tuple[str, int, int, int]]  # (path, mtime in ns, size, inode) of every file

SHIPPED = "shipped/"  # prefix that names a shipped template, even where the user's folder replaces it


class TemplateFolders(BaseLoader):
    """Looks a template up in the user's folder, then in the shipped one, and notices every change of that answer.

    Args:
        own: the user's folder; None when there is none.
        shipped: folder of the shipped templates.
    """

    def __init__(self, own: Path | None, shipped: Path) -> None:
        self._shipped = shipped
        self.paths = (own, shipped) if own is not None else (shipped,)

    def get_source(
        self,
        environment: Environment,  # noqa: ARG002 - Jinja's signature
        template: str,
    ) -> tuple[str, str, Callable[[], bool]]:
        """Jinja's question for a template: its text, file, and a function that tells whether both still hold.

        Raises:
            TemplateNotFound: neither folder has it.
            TemplateError: the file cannot be read as UTF-8 text.
        """
        path, stamp = self._find(template)
        if path is None:
            raise TemplateNotFound(template)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = f"the template cannot be read: {error}"
            raise TemplateError(what, where=str(path), fix="make it a readable UTF-8 file") from error
        return text, str(path), lambda: self._find(template) == (path, stamp)

    def holds(self, filename: str) -> bool:
        """True for a file inside the folders."""
        return any(Path(filename).is_relative_to(folder) for folder in self.paths)

    def state(self) -> FolderState:
        """What changes whenever a file of the folders does, or comes or goes."""
        found: set[tuple[str, int, int, int]] = set()
        for folder in self.paths:
            for path in folder.rglob("*"):
                try:
                    found.add((str(path), *_stamp(path.stat())))
                except OSError:
                    continue  # gone since it was listed, or a link to nothing
        return frozenset(found)

    def _find(self, template: str) -> tuple[Path | None, tuple[int, int, int]]:
        """The file of this template, and what changes when the file does."""
        parts = split_template_path(template.removeprefix(SHIPPED))
        for folder in (self._shipped,) if template.startswith(SHIPPED) else self.paths:
            path = folder.joinpath(*parts)
            try:
                found = path.stat()
            except OSError:
                continue
            return path, _stamp(found)
        return None, (0, 0, 0)


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


class UsedFiles:
    """Digests of the files that HAProxy reads when it loads, read again only when their stat changes."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(Path(path) for path in paths)
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def digests(self) -> tuple[tuple[str, str], ...]:
        """(path, short digest) of each file; of a folder, of everything in it. "missing" where there is nothing to read."""
        return tuple((str(path), self._digest(path)) for path in self._paths)

    def _digest(self, path: Path) -> str:
        if path.is_dir():
            inside = [f"{entry.name} {self._of_file(entry)}" for entry in sorted(path.iterdir()) if entry.is_file()]
            return hashlib.sha256("\n".join(inside).encode("utf-8", "replace")).hexdigest()[:16]
        return self._of_file(path)

    def _of_file(self, path: Path) -> str:
        try:
            stamp = _stamp(path.stat())
            if path not in self._known or self._known[path][0] != stamp:
                self._known[path] = (stamp, hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        except OSError:
            return "missing"  # or closed to this user: HAProxy's own check says so, with the line
        return self._known[path][1]
