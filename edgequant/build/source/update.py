"""Move the pin to another version of llama-cpp-python, after verifying what it would name."""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edgequant.build.source.lock import LOCK_NAME, SourceLock, load_lock, lock_path
from edgequant.build.source.package_index import VERSION_PATTERN, published_sha256
from edgequant.build.source.tree import (
    UNKNOWN_COMMIT,
    commit_of_archive,
    download_folder,
    fetch_archive,
    fetch_source,
)
from edgequant.build.targets.target import load_target, target_names
from edgequant.core.disk import disk_full_explained
from edgequant.core.errors import FileAccessError, SourceError
from edgequant.core.files import write_text_whole
from edgequant.core.paths import PACKAGE_FOLDER

UNFOUND_COMMIT = "0" * 7
OWN_LOCK = Path("toolchain") / LOCK_NAME


@dataclass(frozen=True)
class Update:
    """What an update changed, or would change."""

    path: Path
    """The lock file that it is about."""
    old: SourceLock
    new: SourceLock
    written: bool
    """False in a dry run, and where the lock names that version already."""
    existed: bool = True
    """Whether there was such a file before; where not, ``old`` is the lock in force."""

    @property
    def same(self) -> bool:
        """Whether there was nothing to do."""
        return self.existed and self.old == self.new


def update(version: str, *, lock: Path | None = None, dry_run: bool = False) -> Update:
    """Fetch and verify a version's source, then make the lock file name it.

    The archive and its unpacked tree stay in the cache, for the next build.

    Args:
        version: a version of the lock's project on the package index.
        lock: the file to rewrite, or to make; by default see :func:`lock_to_write`.
        dry_run: do everything but write.

    Raises:
        SourceError: no such version, it cannot be fetched or verified, or lacks what we need.
        FileAccessError: the lock file cannot be written.
        DiskFullError: the disk is full.
    """
    version = version.strip().removeprefix("v")
    if re.fullmatch(VERSION_PATTERN, version) is None:
        raise SourceError(f"{version!r} is no version", next_step="name one such as 0.3.36")
    path = lock if lock is not None else lock_to_write()
    existed = path.is_file()
    in_force = path if existed else lock_path()
    old = load_lock(in_force)
    if existed and version == old.version:
        return Update(path, old, old, written=False)
    if not dry_run:
        _check_writable(path)
    # The lock in force was verified when it was written: a copy of it asks nobody.
    new = old if version == old.version else verified_lock(old.project, version)
    if not dry_run:
        text = in_force.read_text(encoding="utf-8")
        _write(path, text if new == old else rewritten(text, new, subject=in_force))
    return Update(path, old, new, written=not dry_run, existed=existed)


def lock_to_write() -> Path:
    """The lock file that an update rewrites: the one in force, but for an installed package's.

    That one is the package manager's, and gone with the next upgrade; a file of the user's own,
    ``toolchain/llama_cpp.lock.toml`` where they are, hides it.
    """
    path = lock_path()
    installed = path.resolve().is_relative_to(PACKAGE_FOLDER)
    return Path.cwd() / OWN_LOCK if installed else path


def verified_lock(project: str, version: str) -> SourceLock:
    """The lock of a version, after its archive was fetched, verified and looked through.

    pip compares the archive with the SHA-256 that the index states, twice; ours is computed from
    the file. Nothing of the archive is executed.

    Raises:
        SourceError: see :func:`update`.
    """
    with download_folder() as temporary:
        sha256 = published_sha256(project, version, temporary)
    unfound = SourceLock(
        project=project, version=version, sha256=sha256, llama_cpp_commit=UNFOUND_COMMIT
    )
    archive = fetch_archive(unfound)
    commit = commit_of_archive(archive)
    if commit == UNKNOWN_COMMIT:
        raise SourceError(
            f"{project} {version} does not tell which llama.cpp commit it carries: it has neither "
            "its submodule's HEAD nor a line of it in CHANGELOG.md",
            subject=archive,
            next_step=f"name another version, or build it with --source {archive}",
        )
    found = unfound.model_copy(update={"llama_cpp_commit": commit})
    try:
        fetch_source(found, all_tools())
    except SourceError as error:
        raise SourceError(
            f"{error.cause}; the lock file is as it was",
            subject=f"{project} {version}",
            next_step="name a newer version; this one can still be built in part: "
            f"edgequant build --source {archive} --tool NAME",
        ) from error
    return found


def all_tools() -> list[str]:
    """Every program that some target builds when nothing else is asked for."""
    return sorted({tool for name in target_names() for tool in load_target(name).tools})


def rewritten(text: str, lock: SourceLock, *, subject: Path) -> str:
    """A lock file's text with other values: its comments and order stay.

    Args:
        text: the file as it is.
        lock: the new values.
        subject: the file, for the message.

    Raises:
        SourceError: the file is written in a way that this does not understand.
    """
    for key, value in lock.model_dump().items():
        pattern = rf"^([ \t]*{key}[ \t]*=[ \t]*)(?:\"[^\"\n]*\"|'[^'\n]*')"
        # No value needs an escape: the model and the version's pattern see to that.
        text = re.sub(pattern, rf'\g<1>"{value}"', text, count=1, flags=re.MULTILINE)
    with contextlib.suppress(tomllib.TOMLDecodeError, ValidationError):
        if SourceLock.model_validate(tomllib.loads(text)) == lock:
            return text
    raise SourceError(
        "cannot be rewritten: its values are not plain quoted text, one on each line",
        subject=subject,
        next_step=f"write them by hand: {_as_words(lock.model_dump().items())}",
    )


def _as_words(values: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f'{key} = "{value}"' for key, value in values)


def _check_writable(path: Path) -> None:
    """Before anything is fetched; whoever may write a file's folder may replace the file."""
    folder = path.resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        raise _not_writable(path, "its folder may not be written to")


def _write(path: Path, text: str) -> None:
    # Through a link, to what it points at.
    path = path.resolve()
    try:
        with disk_full_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
            write_text_whole(path, text, mode=mode, sync=True)
    except OSError as error:
        raise _not_writable(path, str(error.strerror)) from error


def _not_writable(path: Path, why: str) -> FileAccessError:
    return FileAccessError(
        f"the lock file cannot be written: {why}",
        subject=path,
        next_step=f"go to a folder of your own and give --lock {OWN_LOCK}: where such a file is, "
        "it is used instead of the shipped one",
    )
