"""What ninja prints: how far it is, and what failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgequant.core.errors import BuildError
from edgequant.core.progress import Task

FAILURE_LINES = 30
END_OF_FAILURE = "..."


def show_ninja_progress(line: str, shown: Task) -> None:
    """Feed a line of ninja (``[12/220] Building CXX object ...``) to a progress bar."""
    match = re.match(r"\[(\d+)/(\d+)\] ", line)
    if match is not None:
        shown.update(int(match[1]), total=int(match[2]))


def collect_failure(line: str, failure: list[str]) -> None:
    """Keep the lines from ninja's first complaint to the next finished step."""
    if line.startswith(("FAILED:", "ninja: error:")) and not failure:
        failure.append(line)
    elif failure and failure[-1] != END_OF_FAILURE and len(failure) < FAILURE_LINES:
        over = line.startswith(("[", "FAILED:", "ninja:"))
        failure.append(END_OF_FAILURE if over else line)


def explain_failure(lines: Sequence[str], target: str, log: Path) -> BuildError:
    """The error for what ninja printed from its first ``FAILED:`` or ``error:`` on."""
    unknown = re.search(r"unknown target '([^']+)'", lines[0])
    if unknown is not None:
        return BuildError(
            f"this llama.cpp has no program called {unknown[1]}",
            next_step="name one of its tools, for example llama-cli or llama-gguf-split",
        )
    return BuildError(
        f"compiling for {target} failed:\n  " + "\n  ".join(lines).rstrip(),
        subject=log,
        next_step=f"read the whole log: {log}",
    )
