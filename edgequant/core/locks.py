"""Locks between processes: held by an open file, so that they end with whoever holds them."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

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
        _lock(stream, fcntl.LOCK_EX, waiting)
        yield


@contextlib.contextmanager
def shared(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock file together with others for the block; only :func:`exclusive` keeps it out.

    Args:
        path: as for :func:`exclusive`.
        waiting: what is shown while waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        _lock(stream, fcntl.LOCK_SH, waiting)
        yield


@contextlib.contextmanager
def at_once(paths: Iterable[Path]) -> Iterator[bool]:
    """Hold those of some lock files that exist, without waiting; whether nobody holds one.

    Args:
        paths: lock files; none is made.
    """
    with contextlib.ExitStack() as held:
        try:
            for path in dict.fromkeys(paths):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    # For writing: NFS gives an exclusive lock to nobody else.
                    stream = held.enter_context(path.open("r+"))
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock(stream: IO[str], kind: int, waiting: str) -> None:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        with task(waiting):
            fcntl.flock(stream, kind)
