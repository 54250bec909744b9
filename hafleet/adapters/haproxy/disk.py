"""The files of HAProxy on disk: the configuration, its maps, the server-state file, and the mark of a reload under way."""

import os
from dataclasses import dataclass
from pathlib import Path

from hafleet.adapters.files import flush_folder, write_atomic
from hafleet.core.cfgtext import complete
from hafleet.core.model import Installed, Rendered
from hafleet.core.serverstate import STATE_HEADER
from hafleet.core.settings import Haproxy
from hafleet.errors import ConfigRejected, StoreError

_CEILING = 256 * 1024 * 1024  # bytes of one file; 100,000 servers need 15 MB
_DEFAULT_MODE = 0o644  # HAProxy runs as another user than the agent and must read these files


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read, and by what it is known to be the same still."""

    mark: tuple[int, int, int, int]  # device, inode, size, mtime in ns
    text: str


class Disk:
    """The paths of ``settings``, read and written. Remembers what it read, by inode and mtime."""

    def __init__(self, settings: Haproxy) -> None:
        self.config = Path(settings.config)
        self.maps = Path(settings.maps_dir)
        self.state = Path(settings.server_state)
        self.loading = self.config.with_name(f"{self.config.name}.loading")
        self.replaced = self.config.with_name(
            f"{self.config.name}.replaced"
        )  # the last text that was not hafleet's own
        self._known: dict[Path, _Read] = {}

    def installed(self) -> Installed:
        """What HAProxy would load if it cold-started now. Raises StoreError."""
        try:
            names = sorted(path.name for path in self.maps.iterdir() if path.suffix == ".map" and path.is_file())
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise _refused("cannot be read", self.maps, error) from error
        maps = {name: self._read(self.maps / name) for name in names}
        return Installed(self._read(self.config), {name: text for name, text in maps.items() if text is not None})

    def _read(self, path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
                known = self._known.get(path)
                if known is not None and known.mark == mark:
                    return known.text
                if found.st_size > _CEILING:
                    raise StoreError(f"the file is too large ({found.st_size} bytes)", where=str(path), fix="remove it")
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused("cannot be read", path, error) from error
        self._known[path] = _Read(mark, text)
        return text

    def install(self, candidate: Rendered) -> None:
        """Put the files in place, maps first, each by an atomic rename; a file that is the same already is left alone.

        Raises:
            StoreError: the disk refused. Each single file is whole, old or new; the configuration goes last.
        """
        self.prepare()
        path = self.maps
        try:
            for name, content in sorted(candidate.maps.items()):
                path = self.maps / name
                if self._read(path) != content:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(path, content.encode(), mode=_mode(path))
            path = self.config
            before = self._read(path)
            if before != candidate.text:
                if before and not _is_ours(before):
                    write_atomic(self.replaced, before.encode(), mode=_mode(path))
                write_atomic(path, candidate.text.encode(), mode=_mode(path))
        except OSError as error:
            raise _refused("cannot be written", path, error) from error

    def restore(self, previous: Installed) -> None:
        """Put back what was there before an install. Raises StoreError."""
        if previous.text is not None:
            self.install(Rendered(previous.text, previous.maps))
            return
        try:
            self.config.unlink(missing_ok=True)
            flush_folder(self.config.parent)
        except OSError as error:
            raise _refused("cannot be removed", self.config, error) from error

    def prepare(self) -> None:
        """See that the server-state file exists: HAProxy 2.6 warns of a missing or empty one. Raises StoreError."""
        if not self.state.exists():
            self.write_state(STATE_HEADER)

    def write_state(self, text: str) -> None:
        """The server-state file. Raises StoreError."""
        try:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.state, text.encode(), mode=_mode(self.state))
        except OSError as error:
            raise _refused("cannot be written", self.state, error) from error

    def mark_loading(self, pid: int) -> None:
        """Note, before new files are put in place, which worker they are to replace. Raises StoreError."""
        try:
            write_atomic(self.loading, f"{pid}\n".encode(), mode=0o640)
        except OSError as error:
            raise _refused("cannot be written", self.loading, error) from error

    def unmark_loading(self) -> None:
        """The reload came to its end, good or bad."""
        try:
            self.loading.unlink(missing_ok=True)
        except OSError as error:
            raise _refused("cannot be removed", self.loading, error) from error

    def loading_pid(self) -> int | None:
        """The worker that an unfinished reload was to replace; None when there is none."""
        try:
            return int(self.loading.read_text())
        except (OSError, ValueError):
            return None


def _is_ours(text: str) -> bool:
    """False for a file that somebody else wrote, or edited by hand: it is kept aside before it is replaced."""
    try:
        complete(text)
    except ConfigRejected:
        return False
    return True


def _mode(path: Path) -> int:
    """Keep the mode of a file that is there."""
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return _DEFAULT_MODE


def _refused(what: str, path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{what}: {error.strerror or error}",
        where=str(path),
        fix="check free space, mount and owner; HAProxy goes on with what it has loaded",
    )
