"""Artefacts appear whole or not at all, and damage is noticed."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

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


def test_a_truncated_file_is_not_trusted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = make(store)
    (store.folder("build", key) / "bin" / "tool").write_text("hell")
    assert store.find("build", key) is None


def test_a_changed_file_is_seen_when_verified(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = make(store)
    (store.folder("build", key) / "bin" / "tool").write_text("jello")
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


def test_an_unknown_file_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = store.find("build", make(store))
    assert found is not None
    with pytest.raises(ArtefactError, match="bin/tool"):
        found.file("bin/other")
