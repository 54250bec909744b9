"""The house rules that a machine can look after, each with a control that breaks it and must be caught."""

import ast
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES, FUNCTION_LINES, PARAMETERS = 300, 50, 5
# file or file:function -> why it may be larger than the rule
LARGER: dict[str, str] = {}

# Written in two halves, so that this file does not find itself.
HOSTS = tuple(
    "".join(halves)
    for halves in (
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("npm", "js.org"),
        ("crates", ".io"),
        ("proxy.go", "lang.org"),
        ("docker", ".io"),
        ("ghcr", ".io"),
        ("quay", ".io"),
        ("deb.debi", "an.org"),
        ("snapshot.debi", "an.org"),
        ("archive.ubu", "ntu.com"),
        ("security.ubu", "ntu.com"),
    )
)
MACHINE_PATH = re.compile(r"(?<![\w.}/-])/" + r"(?:work|home/\w+)/")


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def tracked_files() -> list[Path]:
    """What git would hand out, new files included; outside a checkout every file that is not hidden or built."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not {".venv", ".cache", "__pycache__"} & set(path.parts)
        and path.stat().st_size < 1_000_000
    ]


def too_large(name: str, source: str) -> Iterator[str]:
    """The module if it is too long, then every function that is too long or takes too much."""
    lines = source.count("\n")
    if lines > MODULE_LINES:
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{name}:{node.name}: {length} lines"
            taken = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            count = len([argument for argument in taken if argument not in {"self", "cls"}])
            if count > PARAMETERS and not is_command(node):
                yield f"{name}:{node.name}: {count} parameters"


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command of the CLI takes as many parameters as it has options."""
    return any(
        "option" in ast.unparse(decorator) or "command" in ast.unparse(decorator) for decorator in node.decorator_list
    )


def mocks(source: str) -> Iterator[str]:
    """Every import of a mocking library, and every use of a mocking fixture."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        yield from (name for name in names if re.match(r"(unittest\.mock|mock|pytest_mock|mocker)\b", name))


def foreign(text: str) -> Iterator[str]:
    """Registry hosts and paths of one developer's machine."""
    yield from (host for host in HOSTS if host in text)
    yield from MACHINE_PATH.findall(text)


# --- size -----------------------------------------------------------------------------------------------------------


def test_modules_and_functions_stay_small() -> None:
    found = {
        complaint.rsplit(": ", 1)[0]: complaint
        for path in python_files("hafleet")
        for complaint in too_large(str(path.relative_to(ROOT)), path.read_text())
    }
    assert sorted(found[name] for name in found.keys() - LARGER.keys()) == []
    assert LARGER.keys() <= found.keys(), "an exception that is no longer needed"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("x = 1\n" * 301, "m: 301 lines"),
        ("def f():\n" + "    x = 1\n" * 50, "m:f: 51 lines"),
        ("class C:\n    def f(self, a, b, c, *, d, e, g): ...\n", "m:f: 6 parameters"),
    ],
)
def test_what_is_too_large_is_found(source: str, complaint: str) -> None:
    assert list(too_large("m", source)) == [complaint]


def test_what_just_fits_is_not() -> None:
    source = "class C:\n    def f(self, a, b, c, *, d, e):\n" + "        x = 1\n" * 49
    assert list(too_large("m", source + "x = 1\n" * 249)) == []


# --- tests ----------------------------------------------------------------------------------------------------------


def test_no_test_and_no_code_uses_a_mocking_library() -> None:
    assert [(str(path), name) for path in python_files("tests", "hafleet") for name in mocks(path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "from unittest.mock import patch",
        "from unittest import mock",
        "import unittest.mock as m",
        "def test_x(mocker): ...",
    ],
)
def test_a_mocking_library_is_found(source: str) -> None:
    assert len(list(mocks(source))) == 1


# --- what is handed out ----------------------------------------------------------------------------------------------


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    found = [
        (str(path.relative_to(ROOT)), name)
        for path in tracked_files()
        for name in foreign(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize("text", [f"https://{HOSTS[0]}/simple", "cd /" + "work/x", "open('/" + "home/ann/x')"])
def test_a_registry_and_a_machine_path_are_found(text: str) -> None:
    assert len(list(foreign(text))) == 1


@pytest.mark.parametrize(
    "text", ["https://registry.invalid/simple", "/var/lib/hafleet/x", "actions/work/x", "$HOME/work/x"]
)
def test_ordinary_text_is_not(text: str) -> None:
    assert list(foreign(text)) == []


# --- layers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product that may be spoilt."""
    folder = tmp_path_factory.mktemp("layers")
    shutil.copytree(ROOT / "hafleet", folder / "hafleet", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def broken_contracts(checkout: Path) -> set[str]:
    """The names of the contracts that import-linter finds broken."""
    command = (f"{sysconfig.get_path('scripts')}/lint-imports", "--no-cache")
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    found = set(re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE))
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    assert done.returncode == (1 if found else 0)
    return found


def test_the_layers_hold(checkout: Path) -> None:
    assert broken_contracts(checkout) == set()


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/model.py", "import os", "core has no I/O"),
        ("core/model.py", "def f() -> None:\n    import time", "core has no I/O"),
        ("core/model.py", "from hafleet import ports", "dependencies point down only"),
        ("errors.py", "from hafleet.core import model", "errors knows nobody"),
        ("reconcile.py", "from hafleet.adapters import store", "dependencies point down only"),
        ("reconcile.py", "import boto3", "only the AWS adapters speak boto3"),
        ("adapters/store.py", "from hafleet.adapters import lock", "adapters do not know each other"),
        ("adapters/store.py", "import botocore.session", "only the AWS adapters speak boto3"),
        ("agent.py", "def f() -> None:\n    from hafleet.lab import haproxies", "the product never imports the lab"),
        ("agent.py", "import moto", "the product never imports the lab"),
        ("reconcile.py", "from hafleet import cli", "dependencies point down only"),
    ],
)
def test_an_import_that_breaks_a_layer_is_found(checkout: Path, module: str, line: str, contract: str) -> None:
    path = checkout / "hafleet" / module
    good = path.read_text()
    path.write_text(f"{good}\n{line}\n")
    try:
        found = broken_contracts(checkout)
    finally:
        path.write_text(good)
    assert any(name.startswith(contract) for name in found), found


def test_a_module_without_a_place_in_the_layers_is_found(checkout: Path) -> None:
    stray = checkout / "hafleet/stray.py"
    stray.write_text("")
    try:
        found = broken_contracts(checkout)
    finally:
        stray.unlink()
    assert found == {"dependencies point down only"}
