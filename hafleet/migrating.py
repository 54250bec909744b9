"""``hafleet migrate``: the vars file of an older load balancer -> hafleet.yaml and fleet.yml."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hafleet import config
from hafleet.adapters.files import write_atomic
from hafleet.config import oldvars
from hafleet.core.migration import migrate
from hafleet.core.migration_text import settings_text, told_of, vars_text
from hafleet.errors import Problem, SettingsError, StoreError

SETTINGS, VARS = "hafleet.yaml", "fleet.yml"


@dataclass(frozen=True, slots=True)
class Converted:
    """Both texts, by file name, and what the operator is to be told."""

    files: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]  # warnings only, in the order of the vars file


def convert(path: Path) -> Converted:
    """The vars file at this path, converted. The settings pass `hafleet check`.

    Raises:
        SettingsError: with every problem of the vars file.
    """
    read = oldvars.load(path)
    made = migrate(read.old)
    findings = (*read.findings, *made.findings)
    problems = read.problems(findings)
    if any(problem.fatal for problem in problems):
        raise SettingsError(problems)
    files = (
        (SETTINGS, settings_text(made, told_of(findings, ansible=False))),
        (VARS, vars_text(made, told_of(findings, ansible=True))),
    )
    _prove(dict(files)[SETTINGS])
    return Converted(files, problems)


def write(converted: Converted, folder: Path, *, force: bool) -> tuple[Path, ...]:
    """Write both files into a folder, which is made where there is none; their paths.

    Raises:
        StoreError: a file is there already and ``force`` does not say to replace it (nothing is written then), or the folder
            cannot be written.
    """
    paths = tuple(folder / name for name, _ in converted.files)
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        raise StoreError("this file is there already", where=str(there[0]), fix="say --force to replace it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, (_, text) in zip(paths, converted.files, strict=True):
            write_atomic(path, text.encode())
    except OSError as error:
        raise StoreError(
            f"cannot be written: {error.strerror}", where=str(error.filename or folder), fix="name another folder"
        ) from error
    return paths


def _prove(text: str) -> None:
    """Read the settings back: what is handed out is what `hafleet check` takes. Raises SettingsError."""
    with tempfile.TemporaryDirectory(prefix="hafleet-migrate-") as folder:
        file = Path(folder) / SETTINGS
        file.write_text(text)
        try:
            config.load(file, elsewhere=True)
        except SettingsError as error:
            found = (replace(each, where=each.where.removeprefix(f"{folder}/")) for each in error.problems)
            raise SettingsError(tuple(found)) from error
