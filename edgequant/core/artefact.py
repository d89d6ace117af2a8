"""Immutable artefacts: one folder for each stage's result, found again by its inputs' hashes.

A folder is written under a temporary name and renamed when it is whole, so a killed run
leaves nothing that a later one would trust.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgequant.core.disk import disk_full_explained
from edgequant.core.errors import ArtefactError
from edgequant.core.files import PARTIAL, write_json
from edgequant.core.hashing import sha256_file, sha256_json
from edgequant.core.host import mark_of_this_process, may_be_at_work
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root
from edgequant.core.version import __version__

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
LOG_NAME = "output.log"
FOREIGN_DRAFT_SECONDS = 7 * 24 * 3600.0
"""A draft of another machine in which nothing has changed for so long is taken for abandoned."""


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of one file of an artefact."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an artefact is, what it was made from, and how long that took."""

    schema_version: int = SCHEMA_VERSION
    stage: str
    key: str
    created: str
    edgequant_version: str = __version__
    llama_cpp_commit: str | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    """Name of each input to its SHA-256 (or to another stage's key)."""
    parameters: dict[str, object] = Field(default_factory=dict)
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds of each step."""
    files: dict[str, FileRecord] = Field(default_factory=dict)
    """Path inside the folder to its record."""
    details: dict[str, object] = Field(default_factory=dict)
    """What the stage found out: nothing here is part of the key."""


@dataclass(frozen=True)
class Recipe:
    """All that decides what an artefact is; its key is the name it is found by."""

    stage: str
    inputs: Mapping[str, str]
    """Name of each input to its SHA-256 (or to another stage's key)."""
    parameters: Mapping[str, object]
    llama_cpp_commit: str | None = None
    """Recorded; where it can change the result it is among the parameters, too."""

    @functools.cached_property
    def key(self) -> str:
        """16 hex digits over everything that can change the result."""
        values = [SCHEMA_VERSION, self.stage, dict(self.inputs), dict(self.parameters)]
        return sha256_json(values)[:16]


class Artefact:
    """A finished artefact's folder and manifest."""

    def __init__(self, folder: Path, manifest: Manifest, *, reused: bool = True) -> None:
        self.folder = folder
        self.manifest = manifest
        self.reused = reused
        """It was found as it is; nothing was made."""

    @property
    def key(self) -> str:
        return self.manifest.key

    def file(self, name: str) -> Path:
        """Path of one recorded file.

        Raises:
            ArtefactError: the artefact has no such file.
        """
        if name not in self.manifest.files:
            raise ArtefactError(
                f"has no file {name!r}; it has {', '.join(sorted(self.manifest.files))}",
                subject=self.folder,
            )
        return self.folder / name


class ArtefactDraft:
    """An artefact being made: its files go below ``folder``."""

    def __init__(self, folder: Path, manifest: Manifest, place: Path) -> None:
        self.folder = folder
        self.manifest = manifest
        self.log = place.with_name(f"{place.name}.log")
        """For the output of programs. It outlives a failure; else it becomes ``output.log``."""
        self._work = place.with_name(f"{place.name}.work")
        self.keep_work = False
        """Leave the work folder for a later try also where this one succeeds."""

    def work_folder(self) -> Path:
        """A folder that outlives an interruption, for what a later try takes up again."""
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work

    def drop_work(self) -> None:
        """Begin anew: what earlier tries left is not taken up."""
        shutil.rmtree(self._work, ignore_errors=True)

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of the enclosed block to the manifest's timings."""
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - start
            self.manifest.timings[step] = round(self.manifest.timings.get(step, 0.0) + seconds, 3)


def load_artefact(folder: Path, *, verify: bool = False) -> Artefact:
    """Read an artefact's manifest and check that its files are there and as they were.

    Args:
        folder: the artefact's folder.
        verify: compare every file's SHA-256, not only of those written to since.

    Raises:
        ArtefactError: no manifest, another schema version, or a file missing or changed.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArtefactError("no manifest.json here", subject=folder) from None
    except ValidationError as error:
        raise ArtefactError(f"unreadable manifest: {error}", subject=path) from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise ArtefactError(
            f"schema version {manifest.schema_version}, this edgequant reads {SCHEMA_VERSION}",
            subject=path,
        )
    finished = path.stat().st_mtime_ns
    for name, record in manifest.files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != record.bytes:
            raise ArtefactError(f"{name} is missing or has another size", subject=folder)
        # The manifest is written last: a younger file was written to since, perhaps through a
        # hard link of it in a folder of the user's.
        written_since = file.stat().st_mtime_ns > finished
        if (verify or written_since) and sha256_file(file, verify=verify) != record.sha256:
            raise ArtefactError(f"{name} has another SHA-256 than recorded", subject=folder)
    return Artefact(folder, manifest)


class Store:
    """All artefacts below one folder, ``STAGE/KEY/``; by default in the cache.

    Several machines may share the folder if its file system keeps locks for all of them (NFS does
    from version 4 on); where it does not, two of them may make the same artefact at once, and the
    one that is whole last stays.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root() / "artefacts"
        self.cache = root / ".cache" if root is not None else cache_root()
        """For what stages keep beside artefacts, such as single answers."""

    def folder(self, recipe: Recipe) -> Path:
        """Where an artefact lies, or will lie."""
        return self.root / recipe.stage / recipe.key

    def find(
        self, recipe: Recipe, *, accept: Callable[[Artefact], bool] | None = None
    ) -> Artefact | None:
        """The finished artefact, or None where there is none that is whole.

        Args:
            recipe: what is looked for.
            accept: says whether one that is there will do; by default any will.
        """
        folder = self.folder(recipe)
        with contextlib.suppress(ArtefactError):
            found = load_artefact(folder)
            if accept is None or accept(found):
                with contextlib.suppress(OSError):
                    os.utime(folder)  # Used now: what is pruned by age is what nobody uses.
                return found
        return None

    def get_or_make(
        self,
        recipe: Recipe,
        make: Callable[[ArtefactDraft], None],
        *,
        accept: Callable[[Artefact], bool] | None = None,
        force: bool = False,
    ) -> Artefact:
        """Find an artefact, or make it: whatever happens, it is there whole or not at all.

        Args:
            recipe: what decides what it is.
            make: fills the draft; at most one process on this machine is in it at a time.
            accept: says whether one that is there will do; by default any will.
            force: make it, also where it is there.

        Raises:
            DiskFullError: the disk filled up on the way.
            EdgequantError: of whatever ``make`` raises.
        """
        if not force and (found := self.find(recipe, accept=accept)) is not None:
            return found
        with self.lock(recipe):
            if not force and (found := self.find(recipe, accept=accept)) is not None:
                return found
            self._make(recipe, make)
        folder = self.folder(recipe)
        return Artefact(folder, load_artefact(folder).manifest, reused=False)

    def lock(self, recipe: Recipe) -> contextlib.AbstractContextManager[None]:
        """Hold the right to make one artefact."""
        place = self.folder(recipe)
        what = f"Waiting for another edgequant that makes the same ({recipe.stage})"
        return exclusive(place.with_name(f"{place.name}.lock"), what)

    def _make(self, recipe: Recipe, make: Callable[[ArtefactDraft], None]) -> None:
        final = self.folder(recipe)
        _remove_stale_drafts(final)
        folder = final.with_name(f"{final.name}.draft-{mark_of_this_process()}")
        folder.mkdir(parents=True)
        draft = ArtefactDraft(folder, _new_manifest(recipe), final)
        draft.log.unlink(missing_ok=True)
        replaced = final.with_name(f"{final.name}.draft-{mark_of_this_process()}.replaced")
        try:
            with disk_full_explained(self.root):
                make(draft)
                if draft.log.is_file():
                    shutil.move(draft.log, folder / LOG_NAME)
                draft.manifest.files.update(file_records(folder))
                write_json(folder / MANIFEST_NAME, draft.manifest.model_dump(mode="json"))
                if final.exists():
                    # Aside in one step: whoever reads it just now finds all of it or none.
                    final.rename(replaced)
                folder.rename(final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)
        if not draft.keep_work:
            draft.drop_work()


def _new_manifest(recipe: Recipe) -> Manifest:
    return Manifest(
        stage=recipe.stage,
        key=recipe.key,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        llama_cpp_commit=recipe.llama_cpp_commit,
        inputs=dict(recipe.inputs),
        parameters=dict(recipe.parameters),
    )


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every whole file below a folder, but for its own manifest."""
    return {
        path.relative_to(folder).as_posix(): FileRecord(
            bytes=path.stat().st_size, sha256=sha256_file(path)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST_NAME and path.suffix != PARTIAL
    }


def _remove_stale_drafts(final: Path) -> None:
    for stale in final.parent.glob(f"{final.name}.draft-*"):
        if _is_stale(stale):
            shutil.rmtree(stale, ignore_errors=True)


def _is_stale(draft: Path) -> bool:
    """Whether nobody can be writing a draft any more; its artefact's lock is held."""
    mark = draft.name.rpartition(".draft-")[2].partition(".")[0]
    at_work = may_be_at_work(mark)
    if at_work is None:
        # A draft of another system: only time tells.
        return time.time() - _last_change(draft) > FOREIGN_DRAFT_SECONDS
    return not at_work


def _last_change(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)
