"""What a hub says is in a revision; a stranger's word, checked before anything is done with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from edgequant.core.errors import HubAnswerError
from edgequant.core.fields import Count
from edgequant.core.json_file import parse_json
from edgequant.core.text import printable
from edgequant.models.pull.hub import Hub
from edgequant.models.pull.request import COMMIT, PullRequest

MAX_LISTING_BYTES = 64 << 20
MAX_FILES = 50_000
MAX_PATH_BYTES = 1024
_SIZE = re.compile(r"[0-9]{1,18}")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One file of a revision."""

    path: str
    """Relative, with slashes; never leads out of its folder."""
    bytes: int | None
    hash: str | None
    """SHA-256 of a large file, git's SHA-1 of a small one, in hex; its blob is named so."""


@dataclass(frozen=True)
class Listing:
    """A revision's commit and files."""

    commit: str
    """40 hex digits."""
    entries: tuple[Entry, ...]


class _Lfs(BaseModel):
    sha256: str
    size: Count


class _File(BaseModel):
    rfilename: str
    size: Count | None = None
    blobId: str | None = None  # noqa: N815 (the hub's own name)
    lfs: _Lfs | None = None


class _Info(BaseModel):
    sha: Annotated[str, Field(pattern=rf"^{COMMIT.pattern}$")]
    siblings: Annotated[list[_File], Field(max_length=MAX_FILES)]


def read_listing(hub: Hub, request: PullRequest) -> Listing:
    """Ask a hub what a revision is, and holds.

    Raises:
        HubNotFoundError, HubAccessError, HubUnreachableError: as :meth:`Hub.get`.
        HubAnswerError: what it sends is none, or names files outside of their folder.
    """
    with hub.get(hub.listing_url(request), request) as response:
        content = bytearray()
        for chunk in response.iter_content(1 << 20):
            content += chunk
            if len(content) > MAX_LISTING_BYTES:
                raise _no_listing(hub, "it is too long")
    listing = parse_listing(bytes(content), hub)
    if request.names_commit and listing.commit != request.revision:
        raise _no_listing(hub, f"asked for commit {request.revision}, it has {listing.commit}")
    return listing


def parse_listing(content: bytes, hub: Hub) -> Listing:
    """The listing in what a hub sent.

    Raises:
        HubAnswerError: it is none.
    """
    try:
        info = _Info.model_validate(parse_json(content))
    except ValidationError as error:
        first = error.errors()[0]
        raise _no_listing(hub, f"{first['loc']}: {first['msg']}") from None
    except ValueError as error:
        raise _no_listing(hub, str(error)) from None
    for file in info.siblings:
        if not is_safe_path(file.rfilename):
            raise _no_listing(hub, f"it names the file {file.rfilename[:80]!r}")
    return Listing(info.sha, tuple(_entry(file) for file in info.siblings))


def is_safe_path(path: str) -> bool:
    """Whether a path stays in the folder it starts at, and is one that can be shown."""
    parts = path.split("/")
    return (
        0 < len(path.encode("utf-8", "replace")) <= MAX_PATH_BYTES
        and path.isprintable()
        and "\\" not in path
        and not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
    )


def complete(entry: Entry, hub: Hub, request: PullRequest, commit: str) -> Entry:
    """The entry with size and hash, asked of the file's own address where the listing lacks them.

    Raises:
        HubAnswerError: nobody tells them, so that the file could not be verified.
    """
    if entry.bytes is not None and entry.hash is not None:
        return entry
    with hub.get(hub.file_url(request, commit, entry.path), request) as response:
        passed = [*response.history, response]
    size = _first(passed, "X-Linked-Size") or response.headers.get("Content-Length")
    tag = _first(passed, "X-Linked-Etag") or response.headers.get("ETag") or ""
    found = tag.removeprefix("W/").strip('"')
    if not _SIZE.fullmatch(size or "") or not _HASH.fullmatch(found):
        raise HubAnswerError(
            f"tells no size and hash of {printable(entry.path)}: it could not be verified",
            subject=hub.shown,
            next_step="use a mirror that passes the hub's own headers on",
        )
    return Entry(entry.path, int(str(size)), found)


def _first(responses: list[Any], header: str) -> str | None:
    return next((str(r.headers[header]) for r in responses if header in r.headers), None)


def _entry(file: _File) -> Entry:
    found = file.blobId if file.lfs is None else file.lfs.sha256
    size = file.size if file.lfs is None else file.lfs.size
    return Entry(file.rfilename, size, found if found and _HASH.fullmatch(found) else None)


def _no_listing(hub: Hub, why: str) -> HubAnswerError:
    return HubAnswerError(
        f"does not send a list of files: {printable(why)}",
        subject=hub.shown,
        next_step="see that HF_ENDPOINT is the address of a hub",
    )
