"""Locks between processes: held by an open file, so that they end with whoever holds them."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from edgequant.core.progress import task


@contextlib.contextmanager
def exclusive(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock file for the block; where another process holds it, say so and wait.

    Args:
        path: the lock file; it is made, with its folder, and never deleted: who deletes one
            that another process just opened lets both in.
        waiting: what is shown while waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with task(waiting):
                fcntl.flock(stream, fcntl.LOCK_EX)
        yield
