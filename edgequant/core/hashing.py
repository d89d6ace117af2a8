"""SHA-256 of files and of plain values."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

from edgequant.core.hash_memory import fingerprint, recall, remember

REMEMBERED_BYTES = 16 << 20
"""Smaller files are hashed more quickly than looked up."""


def sha256_file(path: Path, *, verify: bool = False) -> str:
    """Hex SHA-256 of a file's bytes; that of a large file is remembered while nothing touches it.

    Args:
        path: the file.
        verify: hash it in any case.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        before = fingerprint(os.fstat(stream.fileno()))
        large = before[2] >= REMEMBERED_BYTES
        resolved = path.resolve() if large else path
        if large and not verify and (known := recall(resolved, before)) is not None:
            return known
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        unchanged = fingerprint(os.fstat(stream.fileno())) == before
    if large and unchanged:
        remember(resolved, before, sha256)
    return sha256


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
