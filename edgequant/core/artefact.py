"""Immutable artefacts: one folder for each stage's result, found again by its inputs' hashes.

A folder is written under a temporary name and renamed when it is whole, so a killed run
leaves nothing that a later one would trust.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgequant import __version__
from edgequant.core.disk import disk_full_explained
from edgequant.core.errors import ArtefactError
from edgequant.core.hashing import sha256_file, sha256_json
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"


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


class Artefact:
    """A finished artefact's folder and manifest."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

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
    """An artefact being made: write files below ``folder``, then leave the ``with`` block."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of the enclosed block to the manifest's timings."""
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - start
            self.manifest.timings[step] = round(self.manifest.timings.get(step, 0.0) + seconds, 3)


def artefact_key(stage: str, inputs: dict[str, str], parameters: dict[str, object]) -> str:
    """The name an artefact is found by: 16 hex digits over everything that can change it."""
    return sha256_json([SCHEMA_VERSION, stage, inputs, parameters])[:16]


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
    """All artefacts below one folder, ``STAGE/KEY/``; by default in the cache."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root if root is not None else cache_root() / "artefacts"

    def folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def work_folder(self, stage: str, key: str) -> Path:
        """A folder that outlives an interruption, for what a later run takes up again."""
        folder = self.root / stage / f"{key}.work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_work_folder(self, stage: str, key: str) -> None:
        shutil.rmtree(self.root / stage / f"{key}.work", ignore_errors=True)

    def find(self, stage: str, key: str) -> Artefact | None:
        """The finished artefact, or None where there is none that is whole."""
        with contextlib.suppress(ArtefactError):
            return load_artefact(self.folder(stage, key))
        return None

    def lock(self, stage: str, key: str) -> contextlib.AbstractContextManager[None]:
        """Hold the right to make one artefact: two processes never make it at once."""
        what = f"Waiting for another edgequant that makes the same ({stage})"
        return exclusive(self.root / stage / f"{key}.lock", what)

    @contextlib.contextmanager
    def create(
        self,
        stage: str,
        inputs: dict[str, str],
        parameters: dict[str, object],
        *,
        llama_cpp_commit: str | None = None,
    ) -> Iterator[ArtefactDraft]:
        """Make an artefact: the folder appears under its final name only if the block succeeds.

        The caller holds :meth:`lock`. An artefact of that name that is there is replaced.

        Raises:
            DiskFullError: the disk filled up on the way.
        """
        key = artefact_key(stage, inputs, parameters)
        final = self.folder(stage, key)
        draft_folder = final.with_name(f"{key}.draft-{os.getpid()}")
        _remove_stale_drafts(final)
        draft_folder.mkdir(parents=True)
        manifest = Manifest(
            stage=stage,
            key=key,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            llama_cpp_commit=llama_cpp_commit,
            inputs=inputs,
            parameters=parameters,
        )
        draft = ArtefactDraft(draft_folder, manifest)
        replaced = final.with_name(f"{key}.draft-replaced-{os.getpid()}")
        try:
            with disk_full_explained(self.root):
                yield draft
                draft.manifest.files.update(file_records(draft.folder))
                write_json(draft_folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
                if final.exists():
                    # Aside in one step: whoever reads it just now finds all of it or none.
                    final.rename(replaced)
                draft_folder.rename(final)
        finally:
            shutil.rmtree(draft_folder, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)
        draft.folder = final


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every whole file below a folder, but for its own manifest."""
    return {
        path.relative_to(folder).as_posix(): FileRecord(
            bytes=path.stat().st_size, sha256=sha256_file(path)
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST_NAME and path.suffix != ".partial"
    }


def _remove_stale_drafts(final: Path) -> None:
    for stale in final.parent.glob(f"{final.name}.draft-*"):
        pid = int(stale.name.rpartition("-")[2])
        # A container gives every run the same few process ids: one with ours is no live one.
        if pid == os.getpid() or not Path(f"/proc/{pid}").exists():
            shutil.rmtree(stale, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is either whole or not there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
