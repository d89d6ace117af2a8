"""One file into the hub's own cache: resumed, bounded by its size, verified by its hash.

The layout (``blobs``, ``snapshots``, ``refs``) and the locks are those of huggingface_hub, so that
other programs find what is pulled here, and the other way round.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgequant.core.disk import disk_full_explained
from edgequant.core.errors import HubAnswerError, HubUnreachableError
from edgequant.core.files import write_text_whole
from edgequant.core.hashing import sha256_file
from edgequant.core.progress import Task
from edgequant.core.text import printable
from edgequant.models.pull.hub import Hub
from edgequant.models.pull.listing import Entry
from edgequant.models.pull.request import PullRequest

CHUNK_BYTES = 1 << 16
"""What a connection that breaks may lose."""
TRIES = 5
"""So often a download is taken up that gets nowhere."""
PROGRESS_BYTES = 1 << 16
"""A try that brought so much got somewhere."""
SHA256_DIGITS = 64


@dataclass(frozen=True)
class CachedRepo:
    """A repository's folder in the hub's cache."""

    cache: Path
    request: PullRequest

    @property
    def name(self) -> str:
        """``models--org--name``."""
        return "--".join([f"{self.request.kind}s", *self.request.id.split("/")])

    @property
    def folder(self) -> Path:
        """Where its blobs, snapshots and refs lie."""
        return self.cache / self.name

    def snapshot(self, commit: str) -> Path:
        """The folder with a commit's files."""
        return self.folder / "snapshots" / commit

    def commit(self) -> str | None:
        """The commit that the request's revision stood for when it was last asked for."""
        if self.request.names_commit:
            return self.request.revision
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = (self.folder / "refs" / self.request.revision).read_text(encoding="ascii")
            return text.strip() or None
        return None

    def remember(self, commit: str) -> None:
        """Note what the revision stands for."""
        if not self.request.names_commit:
            ref = self.folder / "refs" / self.request.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            write_text_whole(ref, commit)


def is_there(place: Path, entry: Entry) -> bool:
    """Whether a file lies there with its size; its contents are not read."""
    return place.is_file() and place.stat().st_size == entry.bytes


def fetch(hub: Hub, repo: CachedRepo, commit: str, entry: Entry, shown: Task) -> Path:
    """A file of a commit in the cache, verified.

    Args:
        hub: where it is had.
        repo: where it goes.
        commit: 40 hex digits.
        entry: the file, with size and hash.
        shown: is told of each byte, also of those that are there already.

    Raises:
        HubUnreachableError: the link broke again and again; what arrived is kept for the next try.
        HubAnswerError: what arrives is not what the hub says it is.
        DiskFullError: the disk filled up.
    """
    from huggingface_hub.utils import WeakFileLock

    assert entry.hash is not None
    blob = repo.folder / "blobs" / entry.hash
    place = repo.snapshot(commit) / entry.path
    lock = repo.cache / ".locks" / repo.name / f"{entry.hash}.lock"
    with disk_full_explained(repo.cache):
        for folder in (blob.parent, place.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if is_there(place, entry) and _is_right(place, entry):
                shown.advance(entry.bytes or 0)
                return place
            if is_there(blob, entry) and _is_right(blob, entry):
                shown.advance(entry.bytes or 0)
            else:
                partial = blob.with_name(f"{blob.name}.incomplete")
                _download(hub, repo.request, commit, entry, partial, shown)
                partial.replace(blob)
            _link(blob, place)
    return place


def _download(
    hub: Hub, request: PullRequest, commit: str, entry: Entry, partial: Path, shown: Task
) -> None:
    """All of a file; one that comes damaged is fetched a second time, from its beginning."""
    before = shown.completed
    for _ in range(2):
        _complete(hub, request, commit, entry, partial, shown, before)
        if _is_right(partial, entry):
            return
        partial.unlink()
    raise HubAnswerError(
        f"{printable(entry.path)} is not what the hub says it is: another hash, twice",
        subject=request.shown,
        next_step="run it again later, or name another mirror in HF_ENDPOINT",
    )


def _complete(
    hub: Hub,
    request: PullRequest,
    commit: str,
    entry: Entry,
    partial: Path,
    shown: Task,
    before: float,
) -> None:
    """Go on until the file has its size; a link that breaks is taken up again."""
    url = hub.file_url(request, commit, entry.path)
    failures = 0
    partial.touch()
    while (size := partial.stat().st_size) != entry.bytes:
        if size > (entry.bytes or 0):
            # Of another program; no server has anything from there on.
            os.truncate(partial, 0)
            continue
        try:
            with hub.get(url, request, start=size) as response, partial.open("r+b") as stream:
                stream.seek(_start(response, size))
                stream.truncate()
                _append(hub, response, stream, entry, shown, before)
            if partial.stat().st_size < (entry.bytes or 0):
                raise HubUnreachableError(
                    f"broke off in {printable(entry.path)}",
                    subject=hub.shown,
                    next_step="run it again: it goes on where it stopped",
                )
        except HubUnreachableError:
            got_somewhere = partial.stat().st_size >= size + PROGRESS_BYTES
            failures = 0 if got_somewhere else failures + 1
            if failures >= TRIES:
                raise
            time.sleep(hub.pause_seconds * 2**failures)


def _start(response: Any, wanted: int) -> int:
    """Where what is sent begins: a server that knows no ranges sends all of it."""
    told = response.headers.get("Content-Range", "")
    return wanted if response.status_code == 206 and told.startswith(f"bytes {wanted}-") else 0


def _append(hub: Hub, response: Any, stream: Any, entry: Entry, shown: Task, before: float) -> None:
    for chunk in response.iter_content(CHUNK_BYTES):
        if stream.tell() + len(chunk) > (entry.bytes or 0):
            stream.truncate(0)
            raise HubAnswerError(
                f"sends more than the {entry.bytes} bytes of {printable(entry.path)}",
                subject=hub.shown,
                next_step="run it again later, or name another mirror in HF_ENDPOINT",
            )
        stream.write(chunk)
        shown.update(before + stream.tell())


def _is_right(file: Path, entry: Entry) -> bool:
    if len(entry.hash or "") == SHA256_DIGITS:
        return sha256_file(file) == entry.hash
    with file.open("rb") as stream:
        # As git hashes a file; no protection against an attacker, but that of the hub itself.
        digest = hashlib.sha1(f"blob {entry.bytes}\0".encode(), usedforsecurity=False)
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == entry.hash


def _link(blob: Path, place: Path) -> None:
    """A link from the snapshot to the blob; the file itself where the disk knows no links."""
    aside = place.with_name(f"{place.name}.link")
    aside.unlink(missing_ok=True)
    try:
        aside.symlink_to(os.path.relpath(blob, place.parent))
    except OSError:
        shutil.copyfile(blob, aside)
    aside.replace(place)
