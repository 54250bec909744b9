"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

PLAIN_WIDTH = 132  # columns where there is no terminal to ask
NOTE = 300  # characters of a note in the summary
STEP = 20  # columns for a step's name in the live table
FIGURES = 38  # columns that the figures and the gaps take there


class Row(NamedTuple):
    """One line of the summary."""

    name: str
    converged: float | None  # seconds
    dns: float | None  # seconds
    reloads: int
    requests: int
    failed: int
    may_lose: str  # why requests are lost here whatever anybody does; "": none may be
    note: str

    @property
    def style(self) -> str | None:
        """How it is to be seen."""
        if self.converged is None or (self.failed and not self.may_lose):
            return "red"
        return "yellow" if self.failed else None


class Progress:
    """Plain lines with the time since the start. ``with`` it while something happens."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    @staticmethod
    def on_terminal(*, to_stderr: bool) -> "Progress":
        """A live table on a terminal, plain lines otherwise."""
        console = Console(stderr=to_stderr, highlight=False)
        if console.is_terminal:
            return LiveProgress(console)
        return Progress(Console(stderr=to_stderr, highlight=False, width=PLAIN_WIDTH))

    def __enter__(self) -> Self:
        """Start to show."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""

    def begin(self, name: str, counts: Callable[[], tuple[int, int]]) -> None:  # noqa: ARG002  a live table asks it
        """A chapter begins; ``counts`` tells its requests and failures up to now."""
        self._line(f"{name} ...")

    def say(self, text: str, name: str = "") -> None:  # noqa: ARG002  a live table asks it
        """Something worth a line happened, in the chapter of this name if in any."""
        self._line(f"  {text}")

    def end(self, name: str, good: bool, note: str) -> None:
        """The chapter of this name is over."""
        self._line(f"  {name}: {note}" if good else f"  {name} FAILED: {note}")

    def summary(self, rows: Sequence[Row]) -> None:
        """The table at the end."""
        table = Table(title="hafleet demo")
        table.add_column("step")
        for name in ("converged", "DNS", "reloads", "requests", "failed"):
            table.add_column(name, justify="right")
        for row in rows:
            figures = (_seconds(row.converged), _seconds(row.dns), str(row.reloads), str(row.requests), str(row.failed))
            table.add_row(row.name, *figures, style=row.style)
        sent, total = sum(row.requests for row in rows), sum(row.failed for row in rows if not row.may_lose)
        excused = [row for row in rows if row.may_lose]
        table.add_section()
        table.add_row(
            "all", "", "", str(sum(row.reloads for row in rows)), str(sent), str(sum(row.failed for row in rows))
        )
        self.console.print(table)
        for row in rows:
            self.console.print(f"{row.name}: {_short(row.note)}", markup=False)
        for row in excused:
            self.console.print(f"{row.name}: {row.failed} requests were lost; {row.may_lose}", markup=False)
        took = time.monotonic() - self._began
        apart = f", apart from {excused[0].name}" if excused else ""
        self.console.print(
            f"{total} of {sent} requests failed{apart}, in {took:.0f} s", style="red" if total else "green"
        )

    def _line(self, text: str) -> None:
        self.console.print(f"{time.monotonic() - self._began:6.1f} s  {text}", markup=False)


@dataclass(slots=True)
class _Open:
    """A chapter that is under way."""

    counts: Callable[[], tuple[int, int]]  # requests and failures up to now
    began: float  # monotonic
    note: str = ""


class LiveProgress(Progress):
    """A table that grows: one row per chapter, those under way at its end with a moving clock."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._rows: list[tuple[str, str, tuple[int, int], str]] = []
        self._open: dict[str, _Open] = {}  # the chapters that are under way, by name
        self._note = ""  # before the first
        self._live = Live(console=console, refresh_per_second=5, get_renderable=self.table, transient=True)

    def __enter__(self) -> Self:
        """Take the screen's last lines."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back; what broke off stays to be read."""
        self._live.transient = kind is None
        self._live.stop()

    def begin(self, name: str, counts: Callable[[], tuple[int, int]]) -> None:
        """A new row."""
        self._open[name] = _Open(counts, time.monotonic())

    def say(self, text: str, name: str = "") -> None:
        """The note of a row that is under way, or a line of its own before the first."""
        if name in self._open:
            self._open[name].note = text
        else:
            self._note = text

    def end(self, name: str, good: bool, note: str) -> None:
        """Close a row."""
        row = self._open.pop(name)
        self._rows.append((name, "done" if good else "FAILED", row.counts(), note))

    def table(self) -> Table:
        """All of it as it is now."""
        table = Table(title=f"hafleet demo, {time.monotonic() - self._began:.0f} s", box=SIMPLE_HEAD)
        table.add_column("step", overflow="fold", max_width=STEP)
        for name in ("state", "requests", "failed"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("seen")
        # Cut to one line a row, so that all of it fits a terminal of 24 lines; the summary has the whole sentences.
        room = max(10, self.console.width - STEP - FIGURES)
        rows = list(self._rows)
        for name, row in list(self._open.items()):
            rows.append((name, f"{time.monotonic() - row.began:.1f} s", row.counts(), row.note))
        if not rows:
            rows.append(("", "", (0, 0), self._note))
        for name, state, (requests, failed), note in rows:
            style = "red" if state == "FAILED" else "yellow" if failed else None
            table.add_row(name, state, str(requests), str(failed), _short(note, room), style=style)
        return table


def _short(note: str, most: int = NOTE) -> str:
    return note if len(note) <= most else note[: most - 3] + "..."


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
