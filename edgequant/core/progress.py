"""Progress on stderr: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Literal

from rich.console import Console
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

from edgequant.core.interrupts import keep_interruptible

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
        self._id: TaskID = progress.add_task(description, total=total)

    def _show(self) -> None:
        self._progress.update(
            self._id, completed=self.completed, total=self.total, description=self.description
        )


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
    keep_interruptible()
    # A dumb terminal cannot redraw a bar: rich would show it once, at the end.
    shown = _bars if console.is_terminal and not console.is_dumb_terminal else _lines
    with shown(description, total, unit) as shown_task:
        yield shown_task


@contextlib.contextmanager
def _bars(description: str, total: float | None, unit: Unit) -> Iterator[Task]:
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
    if unit == "bytes":
        columns += [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    else:
        columns += [MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console) as progress:
        yield _BarTask(progress, description, total, unit)


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
    if console.is_terminal:
        console.print(message, markup=False)
    else:
        print(message, file=sys.stderr, flush=True)
