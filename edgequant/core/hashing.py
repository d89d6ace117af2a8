"""SHA-256 of files and of plain values."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from edgequant.core.hash_memory import fingerprint, recall, remember

REMEMBERED_BYTES = 16 << 20
"""Smaller files are hashed more quickly than looked up."""


READ_BYTES = 1 << 20

Look = Callable[[int, memoryview], None]
"""Is shown a file piece by piece: where a piece begins, and its bytes, which it may not keep."""


def sha256_file(path: Path, *, verify: bool = False, look: Look | None = None) -> str:
    """Hex SHA-256 of a file's bytes; that of a large file is remembered while nothing touches it.

    Args:
        path: the file.
        verify: hash it in any case.
        look: is shown all that is read, and it is read in any case.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        before = fingerprint(os.fstat(stream.fileno()))
        large = before[2] >= REMEMBERED_BYTES
        resolved = path.resolve() if large else path
        if (
            large
            and not verify
            and look is None
            and (known := recall(resolved, before)) is not None
        ):
            return known
        sha256 = _digest(stream, look)
        unchanged = fingerprint(os.fstat(stream.fileno())) == before
    if large and unchanged:
        remember(resolved, before, sha256)
    return sha256


def is_remembered(path: Path) -> bool:
    """Whether :func:`sha256_file` will answer at once."""
    status = path.stat()
    small = status.st_size < REMEMBERED_BYTES
    return small or recall(path.resolve(), fingerprint(status)) is not None


def _digest(stream: BufferedReader, look: Look | None) -> str:
    if look is None:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    digest, buffer, offset = hashlib.sha256(), memoryview(bytearray(READ_BYTES)), 0
    while count := stream.readinto(buffer):
        digest.update(buffer[:count])
        look(offset, buffer[:count])
        offset += count
    return digest.hexdigest()


def sha256_tree(folder: Path) -> str:
    """Hex SHA-256 over the relative names and contents of all files below a folder.

    Raises:
        FileNotFoundError: there is no file: the hash of nothing would be found again whatever
            comes to lie there.
    """
    digest = hashlib.sha256()
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if not files:
        raise FileNotFoundError(errno.ENOENT, "holds no file that could be hashed", str(folder))
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()


def sha256_json(value: object) -> str:
    """Hex SHA-256 of a plain value's canonical JSON (sorted keys, no white space)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
