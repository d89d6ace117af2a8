"""Progress: bars where they can be redrawn, lines elsewhere."""

from __future__ import annotations

import io

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
