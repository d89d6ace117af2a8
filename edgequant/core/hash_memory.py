"""Hashes of large files, remembered for as long as nothing touches the file.

A file of many gigabytes is looked at by several stages, and by every later run: it is hashed once.
What is remembered holds while the file's size, inode, and times of change (of its content and of
its inode, which nobody can set back) stand.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from edgequant.core.paths import cache_root

FILE_NAME = "hashes.sqlite"
BUSY_SECONDS = 10.0
SETTLED_SECONDS = 1.0
"""A file touched more recently may be written to once more within the same tick of its clock."""

Fingerprint = tuple[int, int, int, int, int]
"""Device, inode, bytes, and nanoseconds of the last change of content and of inode."""


def fingerprint(status: os.stat_result) -> Fingerprint:
    """What stands for a file's content as long as it is the same."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def recall(path: Path, found: Fingerprint) -> str | None:
    """The remembered hex SHA-256 of a file with this fingerprint.

    Args:
        path: resolved.
        found: the file's fingerprint now.
    """
    with contextlib.suppress(sqlite3.Error, OSError), _open() as connection:
        row = connection.execute(
            "SELECT sha256 FROM hashes WHERE path = ? AND fingerprint = ?", (str(path), str(found))
        ).fetchone()
        return None if row is None else str(row[0])
    return None


def remember(path: Path, found: Fingerprint, sha256: str) -> None:
    """Keep a hash; a cache that cannot be written costs only another hash later."""
    if time.time_ns() - max(found[3], found[4]) < SETTLED_SECONDS * 1e9:
        return
    with contextlib.suppress(sqlite3.Error, OSError), _open() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", (str(path), str(found), sha256)
        )


@contextlib.contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(
        cache_root() / FILE_NAME, timeout=BUSY_SECONDS, isolation_level=None
    )
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS hashes "
            "(path TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
        )
        yield connection
    finally:
        connection.close()
