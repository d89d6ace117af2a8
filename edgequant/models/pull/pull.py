"""Pull what a request asks for, or find it pulled: used in place, in the hub's own cache."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from edgequant.core.artefact import Artefact, ArtefactDraft, Store
from edgequant.core.disk import require_room
from edgequant.core.errors import (
    EdgequantError,
    HubNotFoundError,
    HubUnreachableError,
)
from edgequant.core.progress import say, task
from edgequant.models.folder import ModelFolder, check_model_folder
from edgequant.models.pull.choose import choose, matches
from edgequant.models.pull.download import CachedRepo, fetch, is_there
from edgequant.models.pull.hub import Hub
from edgequant.models.pull.listing import Entry, complete, is_safe_path, read_listing
from edgequant.models.pull.request import (
    COMMIT,
    PullRequest,
    looks_like_id,
    split_id,
)
from edgequant.models.pull.space import Conversion

_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class Pulled:
    """A revision's files in the hub's cache."""

    request: PullRequest
    commit: str
    """What the revision stood for, 40 hex digits."""
    folder: Path
    """The snapshot that holds them; the files in it are links."""
    files: Mapping[str, int]
    """Path in the folder to bytes."""
    artefact: Artefact | None = field(default=None, compare=False)
    """The record of the pull; None where the cache was filled by others and no hub was asked."""

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())

    @cached_property
    def model_folder(self) -> ModelFolder:
        """The folder, looked through.

        Raises:
            ModelFolderError: something is missing or damaged in it.
        """
        return check_model_folder(self.folder)

    def bytes_of(self, pattern: str) -> int:
        """Of all files that fit a pattern."""
        return sum(size for name, size in self.files.items() if matches(name, pattern))

    def file(self, pattern: str) -> Path:
        """The one file that fits a pattern.

        Raises:
            HubNotFoundError: none fits, or several do.
        """
        names = sorted(name for name in self.files if matches(name, pattern))
        return self.folder / self._only(names, names, f"files fit {pattern!r}")

    def gguf(self, pattern: str) -> Path:
        """The one GGUF that fits a pattern; of a split one, its first part.

        Raises:
            HubNotFoundError: none fits, or several do.
        """
        names = sorted(n for n in self.files if n.endswith(".gguf") and matches(n, pattern))
        wholes = [name for name in names if not _LATER_PART.search(name)]
        return self.folder / self._only(wholes, names, f"GGUF files fit {pattern!r}")

    def _only(self, fitting: Sequence[str], shown: Sequence[str], what: str) -> str:
        if len(fitting) != 1:
            raise HubNotFoundError(
                f"{len(fitting)} {what}, not one: {', '.join(shown) or 'none'}",
                subject=self.request.shown,
                next_step="give a pattern that fits one of them",
            )
        return fitting[0]


def pull(
    request: PullRequest,
    *,
    hub: Hub | None = None,
    store: Store | None = None,
    refresh: bool = True,
    conversion: Conversion | None = None,
) -> Pulled:
    """Pull what is not there yet.

    Args:
        request: what to pull.
        hub: where from, by default the one of the environment.
        store: where the record is kept, by default the cache.
        refresh: ask the hub what the revision stands for now; else a finished pull of it will do.
        conversion: what will be made of the model: room for it is required, too.

    Raises:
        HubNotFoundError: no such repository, revision or file.
        HubAccessError: it is gated, or the token is wrong.
        HubUnreachableError: nothing answers, and the cache does not have it.
        HubAnswerError: what comes is damaged or unsafe.
        DiskFullError: too little space for it, and for what is made of it.
    """
    hub = hub if hub is not None else Hub.of_environment()
    store = store if store is not None else Store()
    found = find_pulled(request, hub=hub, store=store)
    if found is not None and (request.names_commit or not refresh):
        return found
    try:
        artefact = store.get_or_make(
            request.recipe(), lambda draft: _make(request, hub, draft, conversion), force=True
        )
    except HubUnreachableError as error:
        kept = found or _found_in_cache(request, hub)
        if kept is None:
            raise _nothing_kept(error, request, hub) from error
        say(f"warning: {error.subject} {error.cause}; taking what is kept, {kept.commit}")
        return kept
    pulled = _recorded(request, artefact, hub)
    assert pulled is not None
    return pulled


def find_pulled(
    request: PullRequest, *, hub: Hub | None = None, store: Store | None = None
) -> Pulled | None:
    """A finished pull whose files are still in the cache; no network is used.

    Args:
        request: what was pulled.
        hub: whose cache, by default the one of the environment.
        store: where the record is kept, by default the cache.
    """
    hub = hub if hub is not None else Hub.of_environment()
    found = (store if store is not None else Store()).find(request.recipe())
    return None if found is None else _recorded(request, found, hub)


def expected_bytes(request: PullRequest, *, hub: Hub | None = None) -> int | None:
    """What the hub says a pull comes to; None where it does not answer, or has no such thing."""
    with contextlib.suppress(EdgequantError):
        hub = hub if hub is not None else Hub.of_environment()
        sizes = [entry.bytes for entry in choose(request, read_listing(hub, request))]
        return sum(size for size in sizes if size is not None) if None not in sizes else None
    return None


def local_or_pulled(
    model: Path | str, *, store: Store, conversion: Conversion | None = None
) -> ModelFolder:
    """A folder of this machine, used in place; what is none and looks like an id is pulled.

    Raises:
        ModelFolderError: the folder is missing, incomplete or of an unsupported kind.
        EdgequantError: as :func:`pull`.
    """
    text = str(model)
    if Path(model).exists() or not looks_like_id(text):
        return check_model_folder(Path(model))
    say(f"no folder {text} here: it is taken for the id of a model on a hub")
    request = PullRequest(*split_id(text))
    return pull(request, store=store, refresh=False, conversion=conversion).model_folder


def _make(
    request: PullRequest, hub: Hub, draft: ArtefactDraft, conversion: Conversion | None
) -> None:
    with task(f"Asking {hub.shown} for {request.shown}"):
        listing = read_listing(hub, request)
        chosen = choose(request, listing)
        entries = [complete(entry, hub, request, listing.commit) for entry in chosen]
    repo = CachedRepo(hub.cache, request)
    _require_room(repo, entries, listing.commit, conversion)
    total = sum(entry.bytes or 0 for entry in entries)
    with draft.timed("pull"), task(f"Pulling {request.shown}", total, "bytes") as shown:
        for entry in entries:
            fetch(hub, repo, listing.commit, entry, shown)
    repo.remember(listing.commit)
    draft.manifest.details |= {
        "commit": listing.commit,
        "files": {entry.path: {"bytes": entry.bytes, "hash": entry.hash} for entry in entries},
    }


def _require_room(
    repo: CachedRepo, entries: list[Entry], commit: str, conversion: Conversion | None
) -> None:
    snapshot, blobs = repo.snapshot(commit), repo.folder / "blobs"
    absent = [
        entry
        for entry in entries
        if not is_there(snapshot / entry.path, entry)
        and not is_there(blobs / str(entry.hash), entry)
    ]
    needs = [(repo.cache, sum(entry.bytes or 0 for entry in absent))]
    what = f"pulling {repo.request.shown}"
    if conversion is not None:
        weights = [e for e in entries if e.path.endswith((".safetensors", ".bin"))]
        model_bytes = sum(entry.bytes or 0 for entry in weights)
        needs.append((conversion.folder, conversion.disk_bytes(model_bytes)))
        conversion.warn_of_memory(model_bytes)
        what += " and making its variants"
    require_room(needs, what)


def _recorded(request: PullRequest, artefact: Artefact, hub: Hub) -> Pulled | None:
    """What a record tells, where all of it is still in the cache."""
    details = artefact.manifest.details
    commit, files = str(details.get("commit")), details.get("files")
    if not COMMIT.fullmatch(commit) or not isinstance(files, dict):
        return None
    snapshot = CachedRepo(hub.cache, request).snapshot(commit)
    sizes = {path: int(record["bytes"]) for path, record in files.items() if is_safe_path(path)}
    if not all(is_there(snapshot / path, Entry(path, size, None)) for path, size in sizes.items()):
        return None
    return Pulled(request, commit, snapshot, sizes, artefact)


def _found_in_cache(request: PullRequest, hub: Hub) -> Pulled | None:
    """What another program pulled, as far as it can be told to be whole without a hub."""
    repo = CachedRepo(hub.cache, request)
    commit = repo.commit()
    if commit is None or not COMMIT.fullmatch(commit) or not repo.snapshot(commit).is_dir():
        return None
    folder = repo.snapshot(commit)
    there = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    pulled = Pulled(request, commit, folder, there)
    if request.files:
        chosen = {n: b for n, b in there.items() if any(matches(n, p) for p in request.files)}
        whole = all(any(matches(name, p) for name in chosen) for p in request.files)
        return replace(pulled, files=chosen) if whole else None
    if request.kind == "model":
        try:
            check_model_folder(folder)
        except EdgequantError:
            return None
    return pulled if there else None


def _nothing_kept(
    error: HubUnreachableError, request: PullRequest, hub: Hub
) -> HubUnreachableError:
    return HubUnreachableError(
        f"{error.cause}, and {request.shown} is not (or not wholly) in {hub.cache}",
        subject=error.subject,
        next_step=error.next_step,
    )
