"""What lies in the cache, and what may be removed from it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from edgequant.answers.cache import AnswerCache
from edgequant.core.artefact import ArtefactDraft, Recipe, Store
from edgequant.core.cache_contents import Entry, choose, list_cache, named_by, remove

DAY = 86400.0


def make(store: Store, stage: str, text: str) -> Path:
    def write(draft: ArtefactDraft) -> None:
        (draft.folder / "file").write_text(text)

    return store.get_or_make(Recipe(stage, {"text": text}, {}), write).folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    store = Store(root / "artefacts")
    make(store, "models", "one")
    make(store, "models", "two")
    make(store, "latency", "three")
    for folder in ("answers", "virtual/instances/board", "build-trees/host-1", "zig", "sources/x"):
        (root / folder).mkdir(parents=True)
        (root / folder / "data").write_text("x" * 10_000)
    (root / "answers" / "a.sqlite").write_text("x")
    (root / "answers" / "a.sqlite-wal").write_text("x")
    return root


def names(entries: list[Entry]) -> set[str]:
    return {f"{entry.kind}/{entry.name}" for entry in entries}


def kinds(entries: list[Entry]) -> set[str]:
    return {entry.kind for entry in entries}


def now_of(entries: list[Entry]) -> float:
    return max(entry.used for entry in entries)


def test_every_kind_is_listed_and_locks_are_not(cache: Path) -> None:
    listed = list_cache(cache)
    assert kinds(listed) == {
        "answers",
        "artefacts/latency",
        "artefacts/models",
        "build-trees",
        "sources",
        "virtual/instances",
        "zig",
    }
    assert not [name for name in names(listed) if name.endswith((".lock", "-wal"))]
    assert sum(entry.bytes for entry in listed) > 0


def test_only_what_is_old_of_the_kinds_asked_for(cache: Path) -> None:
    old = next(path for path in (cache / "artefacts" / "models").iterdir() if path.is_dir())
    os.utime(old, (0, 0))
    listed = list_cache(cache)
    now = now_of(listed)
    chosen = choose(listed, now=now, older_than_seconds=DAY)
    assert names(chosen) == {f"artefacts/models/{old.name}"}
    assert len(choose(listed, now=now, kinds=["artefacts"])) == 3
    assert kinds(choose(listed, now=now, kinds=["zig", "artefacts/latency"])) == {
        "zig",
        "artefacts/latency",
    }


def test_finding_an_artefact_again_makes_it_young(cache: Path) -> None:
    store = Store(cache / "artefacts")
    folder = make(store, "models", "one")
    os.utime(folder, (0, 0))
    assert make(store, "models", "one") == folder
    listed = list_cache(cache)
    assert choose(listed, now=now_of(listed), older_than_seconds=DAY) == []


def test_what_a_run_names_stays(cache: Path, tmp_path: Path) -> None:
    store = Store(cache / "artefacts")
    by_key, by_file = make(store, "models", "one"), make(store, "latency", "three")
    sha256 = json.loads((by_file / "manifest.json").read_text())["files"]["file"]["sha256"]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"inputs": {"stage": by_key.name}, "models": [{"x": sha256}]}))
    listed = list_cache(cache)
    chosen = choose(listed, now=now_of(listed), kinds=["artefacts"], kept=named_by(manifest))
    assert names(chosen) == {f"artefacts/models/{make(store, 'models', 'two').name}"}


def test_what_somebody_holds_stays(cache: Path) -> None:
    folder = cache / "build-trees" / "host-1"
    (cache / "virtual" / "instances" / "board" / "state.json").write_text(
        json.dumps({"pid": os.getpid()})
    )
    with (folder / "lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        listed = list_cache(cache)
        chosen = choose(listed, now=now_of(listed))
    # A compilation reads the source and its compiler, too.
    assert {entry.name for entry in listed if entry.in_use} == {"host-1", "board", "x", "zig"}
    assert not {"host-1", "board"} & {entry.name for entry in chosen}


def test_an_artefact_being_made_stays_with_all_its_maker_keeps(tmp_path: Path) -> None:
    """However long ago its folders changed: whoever makes it may have been at it for days."""
    store = Store(tmp_path / "artefacts")
    seen: list[Entry] = []
    chosen: list[Entry] = []
    removed: list[bool] = []

    def write(draft: ArtefactDraft) -> None:
        (draft.work_folder() / "run-1").write_text("kept")
        draft.log.write_text("so far")
        (draft.folder / "file").write_text("x")
        os.utime(draft.folder, (0, 0))
        seen.extend(list_cache(tmp_path))
        chosen.extend(choose(seen, now=now_of(seen) + 40 * DAY))
        removed.extend(remove(entry) for entry in seen)

    made = store.get_or_make(Recipe("latency", {"text": "long"}, {}), write)
    assert len(seen) == 3
    assert all(entry.in_use for entry in seen)
    assert chosen == []
    assert not any(removed)
    assert (made.folder / "file").read_text() == "x"


def test_answers_that_are_being_asked_for_stay(cache: Path) -> None:
    path = cache / "answers" / "b.sqlite"
    with AnswerCache(path) as answers, AnswerCache(path):
        answers.put_rendering("key", "text")
        entry = next(e for e in list_cache(cache) if e.path == path)
        assert entry.in_use
        assert not remove(entry)
        assert answers.get_rendering("key") == "text"
    entry = next(e for e in list_cache(cache) if e.path == path)
    assert not entry.in_use
    assert remove(entry)
    assert not path.exists()


def test_what_a_compilation_reads_stays_while_one_runs(cache: Path) -> None:
    with (cache / "build-trees" / "host-1" / "lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        used = {entry.kind for entry in list_cache(cache) if entry.in_use}
        assert used == {"build-trees", "sources", "zig"}
    assert not [entry for entry in list_cache(cache) if entry.in_use]


def test_the_programs_of_a_local_board_stay_while_it_is_measured(cache: Path) -> None:
    (cache / "local" / "desk").mkdir(parents=True)
    (cache / "local" / "desk" / "probe").write_text("x")
    with (cache / "artefacts" / "latency" / "board-desk.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert [e.name for e in list_cache(cache) if e.in_use] == ["desk"]


def test_what_came_into_use_since_it_was_listed_stays(cache: Path) -> None:
    folder = cache / "build-trees" / "host-1"
    entry = next(entry for entry in list_cache(cache) if entry.path == folder)
    assert not entry.in_use
    with (folder / "lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert not remove(entry)
        assert (folder / "data").exists()
    assert remove(entry)
    # The lock is left for whoever has just opened it.
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert folder not in {entry.path for entry in list_cache(cache)}


def test_removing_takes_what_lies_beside_and_leaves_locks(cache: Path) -> None:
    store = Store(cache / "artefacts")
    folder = make(store, "models", "one")
    for entry in list_cache(cache):
        if entry.path == folder or entry.name == "a.sqlite":
            remove(entry)
    assert not folder.exists()
    assert folder.with_name(f"{folder.name}.lock").exists()
    assert not list((cache / "answers").glob("a.sqlite*"))
    assert make(store, "models", "one") == folder
