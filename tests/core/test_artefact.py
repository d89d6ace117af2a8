"""Artefacts appear whole or not at all, and damage is noticed."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from edgequant.core.artefact import (
    Artefact,
    ArtefactDraft,
    Recipe,
    Store,
    load_artefact,
)
from edgequant.core.errors import ArtefactError, DiskFullError
from edgequant.core.host import host_identity

RECIPE = Recipe("build", {"source": "abc"}, {"flags": ["-O3"]}, "0c1e57098")


def make(store: Store, text: str = "hello", *, force: bool = False) -> Artefact:
    def write(draft: ArtefactDraft) -> None:
        (draft.folder / "bin").mkdir()
        (draft.folder / "bin" / "tool").write_text(text)

    return store.get_or_make(RECIPE, write, force=force)


def refuse(draft: ArtefactDraft) -> None:
    raise AssertionError("it was there already")


def test_made_once_and_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)
    assert (made.reused, made.key) == (False, RECIPE.key)
    assert made.manifest.llama_cpp_commit == "0c1e57098"
    found = store.get_or_make(RECIPE, refuse)
    assert found.reused
    assert found.file("bin/tool").read_text() == "hello"
    assert store.find(RECIPE) is not None


def test_other_inputs_have_another_key() -> None:
    keys = {
        Recipe("build", {}, {"a": 1}).key,
        Recipe("build", {}, {"a": 2}).key,
        Recipe("build", {"a": "1"}, {}).key,
        Recipe("models", {}, {"a": 1}).key,
    }
    assert len(keys) == 4
    assert Recipe("build", {}, {}, "commit").key == Recipe("build", {}, {}).key


def test_a_failure_leaves_nothing_but_its_log(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(draft: ArtefactDraft) -> None:
        (draft.folder / "half").write_text("half")
        draft.log.write_text("why")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.get_or_make(RECIPE, fail)
    left = sorted(path.name for path in (tmp_path / "build").iterdir())
    assert left == [f"{RECIPE.key}.lock", f"{RECIPE.key}.log"]
    assert store.find(RECIPE) is None

    def succeed(draft: ArtefactDraft) -> None:
        assert not draft.log.exists(), "the log of another try"
        draft.log.write_text("all is well")

    assert store.get_or_make(RECIPE, succeed).file("output.log").read_text() == "all is well"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    def fill(draft: ArtefactDraft) -> None:
        raise OSError(28, "No space left on device")

    def fill_through_a_library(draft: ArtefactDraft) -> None:
        pd.DataFrame({"a": range(100_000)}).to_parquet("/dev/full")

    def be_refused(draft: ArtefactDraft) -> None:
        raise PermissionError(13, "Permission denied")

    store = Store(tmp_path)
    for write in (fill, fill_through_a_library):
        with pytest.raises(DiskFullError):
            store.get_or_make(RECIPE, write)
    with pytest.raises(PermissionError):
        store.get_or_make(RECIPE, be_refused)
    assert store.find(RECIPE) is None


def test_a_damaged_artefact_is_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (make(store).folder / "bin" / "tool").write_text("hell")
    assert store.find(RECIPE) is None
    assert not make(store).reused
    assert store.find(RECIPE) is not None


def test_a_changed_file_is_seen_when_verified(tmp_path: Path) -> None:
    folder = make(Store(tmp_path)).folder
    (folder / "bin" / "tool").write_text("jello")
    os.utime(folder / "bin" / "tool", ns=(0, 0))  # As a bad disk does it: nobody wrote.
    load_artefact(folder)
    with pytest.raises(ArtefactError, match="SHA-256"):
        load_artefact(folder, verify=True)


def test_one_that_will_not_do_is_made_again_and_its_work_taken_up(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def run(draft: ArtefactDraft) -> None:
        runs = draft.work_folder() / "runs"
        done = (runs.read_text() if runs.exists() else "") + "x"
        runs.write_text(done)
        draft.keep_work = len(done) < 3
        draft.manifest.details["failed"] = draft.keep_work

    def whole(artefact: Artefact) -> bool:
        return not artefact.manifest.details["failed"]

    for failed in (True, True, False):
        made = store.get_or_make(RECIPE, run, accept=whole)
        assert (made.reused, made.manifest.details["failed"]) == (False, failed)
    assert store.get_or_make(RECIPE, refuse, accept=whole).reused
    assert not list((tmp_path / "build").glob("*.work"))


def stale_draft(store: Store, host: str, pid: object) -> Path:
    path = store.root / "build" / f"{RECIPE.key}.draft-{host}-{pid}"
    path.mkdir(parents=True)
    (path / "half").write_text("half")
    return path


def test_drafts_of_dead_processes_go(tmp_path: Path) -> None:
    child = multiprocessing.Process(target=lambda: None)
    child.start()
    child.join()
    store = Store(tmp_path)
    stale = [stale_draft(store, host_identity(), pid) for pid in (child.pid, os.getpid())]
    made = make(store)
    assert not any(path.exists() for path in stale)
    assert set(made.manifest.files) == {"bin/tool"}


def test_a_draft_of_another_machine_is_not_judged_by_a_process_id_here(tmp_path: Path) -> None:
    store = Store(tmp_path)
    young = stale_draft(store, "0badcafe", 1)
    dead_here = stale_draft(store, "0badcafe", 4_000_000)
    old = stale_draft(store, "0badcafe", 2)
    for path in (old / "half", old):
        os.utime(path, (0, 0))
    make(store)
    assert young.exists()
    assert dead_here.exists()
    assert not old.exists()


def test_an_artefact_is_replaced_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store, "old")
    made = make(store, "new", force=True)
    assert made.file("bin/tool").read_text() == "new"
    left = {path.name for path in (tmp_path / "build").iterdir()}
    assert left == {RECIPE.key, f"{RECIPE.key}.lock"}


MAKER = """
import sys, time
from pathlib import Path
from edgequant.core.artefact import Recipe, Store

def write(draft):
    (Path(sys.argv[1]) / f"made-by-{sys.argv[2]}").touch()
    (draft.folder / "half").write_text("half")
    time.sleep(float(sys.argv[3]))
    (draft.folder / "whole").write_text("whole")

made = Store(Path(sys.argv[1])).get_or_make(Recipe("build", {}, {}), write)
print("reused" if made.reused else "made", flush=True)
"""


def start_maker(folder: Path, name: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAKER, str(folder), name, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    makers = [start_maker(tmp_path, name, 0.5) for name in "ab"]
    said = sorted(maker.communicate()[0].strip() for maker in makers)
    assert said == ["made", "reused"]
    assert len(list(tmp_path.glob("made-by-*"))) == 1


def test_a_killed_maker_leaves_nothing_that_is_trusted(tmp_path: Path) -> None:
    killed = start_maker(tmp_path, "killed", 600)
    wait_for(tmp_path / "made-by-killed")
    killed.kill()
    killed.communicate()
    store, recipe = Store(tmp_path), Recipe("build", {}, {})
    assert store.find(recipe) is None
    assert start_maker(tmp_path, "next", 0).communicate()[0].strip() == "made"
    found = store.find(recipe)
    assert found is not None
    assert set(found.manifest.files) == {"half", "whole"}
    assert not list((tmp_path / "build").glob("*.draft-*"))


def test_who_waits_for_a_lock_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    entered = threading.Event()

    def wait_for_it() -> None:
        with store.lock(RECIPE):
            entered.set()

    other = threading.Thread(target=wait_for_it)
    said = ""
    with store.lock(RECIPE):
        other.start()
        while "Waiting for another edgequant" not in said:
            said += capsys.readouterr().err
        assert not entered.is_set()
    other.join()
    assert entered.is_set()


def test_an_unknown_file_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    found = make(Store(tmp_path))
    with pytest.raises(ArtefactError, match="bin/tool"):
        found.file("bin/other")


def test_a_file_overwritten_with_the_same_size_is_not_trusted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = make(store, "whole").folder
    file = folder / "bin" / "tool"
    later = (folder / "manifest.json").stat().st_mtime_ns + 1
    for text, trusted in (("whole", True), ("wrong", False)):
        file.write_text(text)
        os.utime(file, ns=(later, later))
        assert (store.find(RECIPE) is not None) is trusted
