"""SHA-256 of files and of plain values."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

CHUNK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
