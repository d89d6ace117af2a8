"""Progress: bars where they can be redrawn, lines elsewhere."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from edgequant.core import progress


@pytest.mark.parametrize(("terminal", "begun"), [("dumb", "Compiling ..."), ("xterm", "\x1b[")])
def test_a_terminal_shows_work_as_soon_as_it_begins(
    monkeypatch: pytest.MonkeyPatch, terminal: str, begun: str
) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, _environ={"TERM": terminal})
    monkeypatch.setattr(progress, "console", console)
    with progress.task("Compiling", 10):
        assert begun in stream.getvalue()


def test_two_threads_share_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, _environ={"TERM": "xterm"}, width=120)
    monkeypatch.setattr(progress, "console", console)
    both, first_ended = threading.Barrier(2, timeout=30), threading.Event()

    def board() -> None:
        with progress.task("Measuring", 10):
            both.wait()
        first_ended.set()

    thread = threading.Thread(target=board)
    thread.start()
    with progress.task("Answers", 1e6, unit="bytes") as shown:
        both.wait()
        assert first_ended.wait(30)
        shown.update(5e5)
    thread.join()
    printed = stream.getvalue()
    assert "Measuring done" in printed
    assert "0.5/1.0 MB" in printed
