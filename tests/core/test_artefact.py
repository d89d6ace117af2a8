"""Artefacts appear whole or not at all, and damage is noticed."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import polars as pl
import pytest

from edgequant.core.artefact import Store, artefact_key, load_artefact
from edgequant.core.errors import ArtefactError, DiskFullError


def make(store: Store, text: str = "hello") -> str:
    with store.create("build", {"source": "abc"}, {"flags": ["-O3"]}) as draft:
        (draft.folder / "bin").mkdir()
        (draft.folder / "bin" / "tool").write_text(text)
    return draft.manifest.key


def test_found_again_by_inputs_and_parameters(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = make(store)
    assert key == artefact_key("build", {"source": "abc"}, {"flags": ["-O3"]})
    found = store.find("build", key)
    assert found is not None
    assert found.file("bin/tool").read_text() == "hello"


def test_other_parameters_have_another_key() -> None:
    assert artefact_key("build", {}, {"a": 1}) != artefact_key("build", {}, {"a": 2})
    assert artefact_key("build", {}, {"a": 1}) != artefact_key("models", {}, {"a": 1})


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.create("build", {}, {}) as draft:
        (draft.folder / "half").write_text("half")
        raise RuntimeError
    assert list((tmp_path / "build").iterdir()) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), Store(tmp_path).create("build", {}, {}):
        raise OSError(28, "No space left on device")
    assert list((tmp_path / "build").iterdir()) == []


def test_a_full_disk_is_named_whatever_class_says_so(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), Store(tmp_path).create("answers", {}, {}) as draft:
        pl.DataFrame({"a": range(100_000)}).write_parquet("/dev/full")
    assert not draft.folder.exists()
    with pytest.raises(PermissionError), Store(tmp_path).create("answers", {}, {}):
        raise PermissionError(13, "Permission denied")


def test_a_truncated_file_is_not_trusted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = make(store)
    (store.folder("build", key) / "bin" / "tool").write_text("hell")
    assert store.find("build", key) is None


def test_a_changed_file_is_seen_when_verified(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = make(store)
    tool = store.folder("build", key) / "bin" / "tool"
    tool.write_text("jello")
    os.utime(tool, ns=(0, 0))  # As a bad disk does it: nobody wrote.
    load_artefact(store.folder("build", key))
    with pytest.raises(ArtefactError, match="SHA-256"):
        load_artefact(store.folder("build", key), verify=True)


def test_a_dead_process_leaves_no_draft_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = artefact_key("build", {"source": "abc"}, {"flags": ["-O3"]})
    child = multiprocessing.Process(target=lambda: None)
    child.start()
    child.join()
    stale = tmp_path / "build" / f"{key}.draft-{child.pid}"
    stale.mkdir(parents=True)
    make(store)
    assert not stale.exists()


def test_a_draft_of_an_earlier_process_with_our_id_is_in_nobodys_way(tmp_path: Path) -> None:
    key = artefact_key("build", {"source": "abc"}, {"flags": ["-O3"]})
    stale = tmp_path / "build" / f"{key}.draft-{os.getpid()}"
    stale.mkdir(parents=True)
    (stale / "half").write_text("half")
    found = Store(tmp_path).find("build", make(Store(tmp_path)))
    assert found is not None
    assert set(found.manifest.files) == {"bin/tool"}


def test_an_artefact_is_replaced_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store, "old")
    key = make(store, "new")
    found = store.find("build", key)
    assert found is not None
    assert found.file("bin/tool").read_text() == "new"
    assert [path.name for path in (tmp_path / "build").iterdir()] == [key]


def test_who_waits_for_a_lock_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    entered = threading.Event()

    def wait_for_it() -> None:
        with store.lock("build", "abc"):
            entered.set()

    other = threading.Thread(target=wait_for_it)
    said = ""
    with store.lock("build", "abc"):
        other.start()
        while "Waiting for another edgequant" not in said:
            said += capsys.readouterr().err
        assert not entered.is_set()
    other.join()
    assert entered.is_set()


def test_an_unknown_file_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = store.find("build", make(store))
    assert found is not None
    with pytest.raises(ArtefactError, match="bin/tool"):
        found.file("bin/other")


def test_a_file_overwritten_with_the_same_size_is_not_trusted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.create("models", {"input": "hash"}, {}) as draft:
        (draft.folder / "model.gguf").write_bytes(b"whole")
    key = artefact_key("models", {"input": "hash"}, {})
    file = store.folder("models", key) / "model.gguf"
    later = (store.folder("models", key) / "manifest.json").stat().st_mtime_ns + 1
    file.write_bytes(b"whole")
    os.utime(file, ns=(later, later))
    assert store.find("models", key) is not None
    file.write_bytes(b"wrong")
    os.utime(file, ns=(later, later))
    assert store.find("models", key) is None
