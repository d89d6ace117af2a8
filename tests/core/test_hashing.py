"""Hashes of files: large ones are remembered, and never longer than they are true."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from edgequant.core import hash_memory, hashing
from edgequant.core.hashing import sha256_file, sha256_tree


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the files whose bytes were really read; every file counts as large and settled."""
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "REMEMBERED_BYTES", 1)
    monkeypatch.setattr(hash_memory, "SETTLED_SECONDS", 0.0)
    read: list[str] = []
    digest = hashlib.file_digest

    def counted(stream: Any, name: Any) -> Any:
        read.append(Path(stream.name).name)
        return digest(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return path


def test_a_large_file_is_hashed_once(hashed: list[str], file: Path, tmp_path: Path) -> None:
    expected = hashlib.sha256(b"weights").hexdigest()
    link = tmp_path / "link.gguf"
    link.symlink_to(file)
    assert [sha256_file(file), sha256_file(file), sha256_file(link)] == [expected] * 3
    assert hashed == ["model.gguf"]
    assert sha256_file(file, verify=True) == expected
    assert hashed == ["model.gguf", "model.gguf"]


def test_a_small_file_is_not_remembered(
    hashed: list[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "REMEMBERED_BYTES", 1 << 20)
    sha256_file(file)
    sha256_file(file)
    assert len(hashed) == 2


def rewrite_with_old_times(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path) -> None:
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"WEIGHTS")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite_with_old_times, replace])
def test_a_file_of_the_same_size_and_time_with_other_bytes_is_hashed_anew(
    hashed: list[str], file: Path, change: Any
) -> None:
    before = sha256_file(file)
    change(file)
    assert sha256_file(file) == hashlib.sha256(b"WEIGHTS").hexdigest() != before


def test_a_file_just_written_is_not_remembered(
    hashed: list[str], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_memory, "SETTLED_SECONDS", 3600.0)
    sha256_file(file)
    sha256_file(file)
    assert len(hashed) == 2


def test_a_damaged_memory_costs_only_a_hash(hashed: list[str], file: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / hash_memory.FILE_NAME).write_bytes(b"no database" * 100)
    assert sha256_file(file) == hashlib.sha256(b"weights").hexdigest()


def test_the_hash_of_no_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        sha256_tree(tmp_path)
