"""What needs no index: which file is rewritten, how, and what is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgequant.build.source import update as update_module
from edgequant.build.source.lock import LOCK_NAME, SourceLock, load_lock, lock_path
from edgequant.build.source.update import lock_to_write, rewritten, update
from edgequant.core.errors import FileAccessError, SourceError
from edgequant.core.paths import data_folder

COMMIT = "4df29be4f4c3673f428170fda944a5b19f743bb8"
LOCK = f"""\
# The one pin.
project = "llama-cpp-python"  # on the index
version = '0.3.36'

sha256 = "{"0a" * 32}"
llama_cpp_commit = "0c1e57098"
# The end.
"""
NEW = SourceLock(
    project="llama-cpp-python", version="0.3.37", sha256="1b" * 32, llama_cpp_commit="abcdef012"
)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock.toml"
    path.write_text(LOCK)
    return path


def test_the_same_version_asks_nobody(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_module, "published_sha256", pytest.fail)
    done = update("0.3.36", lock=lock)
    assert done.same
    assert not done.written
    assert lock.read_text() == LOCK


def test_a_lock_that_is_named_and_absent_is_made_also_for_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_module, "published_sha256", pytest.fail)
    in_force = lock_path()
    path = tmp_path / "new" / "lock.toml"
    version = load_lock(in_force).version
    planned = update(version, lock=path, dry_run=True)
    assert (planned.written, planned.same, path.exists()) == (False, False, False)
    done = update(version, lock=path)
    assert (done.written, done.same) == (True, False)
    assert path.read_bytes() == in_force.read_bytes()
    again = update(version, lock=path)
    assert (again.written, again.same) == (False, True)


def test_a_lock_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileAccessError, match="cannot be written"):
        update(load_lock(lock_path()).version, lock=tmp_path / "lock.toml")


@pytest.mark.parametrize("version", ["", "main", "0.3.1; x", "0.3.1 --index-url=x", "-r", "../x"])
def test_what_is_no_version_never_reaches_pip(
    lock: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_module, "published_sha256", pytest.fail)
    with pytest.raises(SourceError, match="is no version"):
        update(version, lock=lock)


def test_a_lock_that_may_not_be_written_is_told_before_anything_is_fetched(
    lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_module, "published_sha256", pytest.fail)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileAccessError, match="cannot be written") as caught:
        update("0.3.37", lock=lock)
    assert "--lock" in str(caught.value.next_step)


def test_a_checkouts_lock_is_rewritten_in_place() -> None:
    assert lock_to_write() == data_folder("toolchain") / LOCK_NAME


@pytest.mark.parametrize(
    "text",
    [
        LOCK.replace("version = '0.3.36'", "version = '''0.3.36'''"),
        LOCK.replace("sha256 =", '"sha256" ='),
    ],
)
def test_a_lock_written_in_an_odd_way_is_left_alone(text: str) -> None:
    with pytest.raises(SourceError, match="cannot be rewritten") as caught:
        rewritten(text, NEW, subject=Path("lock.toml"))
    assert NEW.sha256 in str(caught.value.next_step)
