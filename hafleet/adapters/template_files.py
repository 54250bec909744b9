"""Where templates lie: a file in the user's folder replaces the shipped one of the same name, each on its own."""

import os
from collections.abc import Callable
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
