"""Progress on stderr: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Literal

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Task as RichTask
from rich.table import Table

from edgequant.core.text import printable

Unit = Literal["items", "bytes"]
LINE_SECONDS = 5.0

console = Console(stderr=True, highlight=False)


class Task:
    """One piece of work being shown."""

    def __init__(self, description: str, total: float | None, unit: Unit) -> None:
        self.description = description
        self.total = total
        self.unit = unit
        self.completed = 0.0

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        self.update(self.completed + amount)

    def update(self, completed: float | None = None, *, total: float | None = None) -> None:
        """So much is done in all."""
        if completed is not None:
            self.completed = completed
        if total is not None:
            self.total = total
        self._show()

    def describe(self, description: str) -> None:
        """Say what is being done just now."""
        self.description = description
        self._show()

    def _show(self) -> None:
        """Overridden by what draws."""


class _BarTask(Task):
    def __init__(self, progress: Progress, description: str, total: float | None, unit: Unit):
        super().__init__(description, total, unit)
        self._progress = progress
        self._id: TaskID = progress.add_task(description, total=total, unit=unit)

    def _show(self) -> None:
        self._progress.update(
            self._id, completed=self.completed, total=self.total, description=self.description
        )

    def leave(self) -> None:
        """Make room for what others still show."""
        self._progress.remove_task(self._id)
        say(f"{self.description} done")


class _LineTask(Task):
    def _line(self, elapsed: float) -> str:
        amount = ""
        if self.total and self.unit == "bytes":
            amount = f" {self.completed / 1e6:.1f}/{self.total / 1e6:.1f} MB"
        elif self.total:
            amount = f" {self.completed:.0f}/{self.total:.0f}"
        return f"{self.description}{amount} ({elapsed:.0f} s)"


@contextlib.contextmanager
def task(description: str, total: float | None = None, unit: Unit = "items") -> Iterator[Task]:
    """Show a piece of work while the block runs.

    Args:
        description: what is being done, e.g. "Compiling for armv8.2-a".
        total: how much there is to do, or None where nobody knows.
        unit: "bytes" also shows the rate and the time left.
    """
    # A dumb terminal cannot redraw a bar: rich would show it once, at the end.
    bars = console.is_terminal and not console.is_dumb_terminal
    shown = _display.show if bars else _lines
    with shown(description, total, unit) as shown_task:
        yield shown_task


class _Display:
    """The terminal's one place for bars: host and boards work at the same time, and share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._tasks = 0

    @contextlib.contextmanager
    def show(self, description: str, total: float | None, unit: Unit) -> Iterator[Task]:
        with self._lock:
            if self._progress is None:
                self._progress = Progress(*_columns(), console=console)
                self._progress.start()
            self._tasks += 1
            progress = self._progress
        shown = _BarTask(progress, description, total, unit)
        try:
            yield shown
        finally:
            with self._lock:
                self._tasks -= 1
                if self._tasks == 0:
                    progress.stop()
                    self._progress = None
                else:
                    shown.leave()


_display = _Display()


def _columns() -> list[ProgressColumn]:
    return [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        _AmountColumn(),
        TimeElapsedColumn(),
    ]


class _AmountColumn(ProgressColumn):
    """How much is done: a number of things, or bytes with their rate and the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._of_unit: dict[str, tuple[ProgressColumn, ...]] = {
            "items": (MofNCompleteColumn(),),
            "bytes": (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()),
        }

    def render(self, task: RichTask) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_row(*(column(task) for column in self._of_unit[task.fields["unit"]]))
        return row


@contextlib.contextmanager
def _lines(description: str, total: float | None, unit: Unit) -> Iterator[Task]:
    shown = _LineTask(description, total, unit)
    start = time.monotonic()
    finished = threading.Event()

    def print_lines() -> None:
        while not finished.wait(LINE_SECONDS):
            say(shown._line(time.monotonic() - start))

    say(f"{description} ...")
    printer = threading.Thread(target=print_lines, daemon=True)
    printer.start()
    try:
        yield shown
        say(f"{shown._line(time.monotonic() - start)} done")
    finally:
        finished.set()
        printer.join()


def say(message: str) -> None:
    """One line of what is going on, to stderr."""
    message = printable(message)
    if console.is_terminal:
        console.print(message, markup=False)
    else:
        print(message, file=sys.stderr, flush=True)
