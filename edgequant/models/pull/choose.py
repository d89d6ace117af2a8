"""Which files of a repository are pulled: what is needed, and nothing that would be run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from edgequant.core.errors import HubNotFoundError
from edgequant.core.text import printable
from edgequant.models.folder import INPUT_SUFFIXES
from edgequant.models.pull.listing import Entry, Listing
from edgequant.models.pull.request import PullRequest

PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Suffixes of files that can run code when they are loaded."""
PROGRAMS = frozenset({".bash", ".dll", ".exe", ".ipynb", ".py", ".pyc", ".pyd", ".sh", ".so"})
DATA = frozenset({".csv", ".json", ".jsonl", ".md", ".parquet"})
_MORE_INPUTS = ("additional_chat_templates/*.jinja", "*_Pooling/config.json")
_SHOWN = 12


def choose(request: PullRequest, listing: Listing) -> tuple[Entry, ...]:
    """The files that a request asks for.

    Raises:
        HubNotFoundError: there is none, and what is there instead.
    """
    allowed = [entry for entry in listing.entries if _allowed(entry, request)]
    if request.files:
        return _matching(request, listing, allowed)
    if request.kind == "dataset":
        return _data(request, allowed)
    return _model(request, listing, allowed)


def matches(path: str, pattern: str) -> bool:
    """Whether a path, or the file's name alone, fits a pattern (``*Q4_K_M*.gguf``)."""
    return fnmatchcase(path, pattern) or fnmatchcase(PurePosixPath(path).name, pattern)


def _allowed(entry: Entry, request: PullRequest) -> bool:
    suffix = _suffix(entry)
    hidden = any(part.startswith(".") for part in PurePosixPath(entry.path).parts)
    return (
        not hidden
        and (request.pickles or suffix not in PICKLES)
        and (request.code or suffix not in PROGRAMS)
    )


def _matching(
    request: PullRequest, listing: Listing, allowed: Sequence[Entry]
) -> tuple[Entry, ...]:
    found: dict[str, Entry] = {}
    for pattern in request.files:
        fitting = {entry.path: entry for entry in allowed if matches(entry.path, pattern)}
        if not fitting:
            raise _no_match(request, listing, pattern)
        found |= fitting
    return tuple(found[path] for path in sorted(found))


def _no_match(request: PullRequest, listing: Listing, pattern: str) -> HubNotFoundError:
    left_out = [entry for entry in listing.entries if matches(entry.path, pattern)]
    if left_out:
        return HubNotFoundError(
            f"only has files of {pattern!r} that may run code: {_names(left_out)}",
            subject=request.shown,
            next_step="--allow-pickle or --remote-code pulls them all the same",
        )
    kinds = [entry for entry in listing.entries if _suffix(entry) == _suffix_of(pattern)]
    there = _names(kinds or listing.entries)
    return HubNotFoundError(
        f"has no file that fits {pattern!r}; it has {there}",
        subject=request.shown,
        next_step="give a pattern that fits one of them",
    )


def _data(request: PullRequest, allowed: Sequence[Entry]) -> tuple[Entry, ...]:
    found = tuple(entry for entry in allowed if _suffix(entry) in DATA)
    if not any(_suffix(entry) != ".md" for entry in found):
        raise HubNotFoundError(
            f"has no data files ({', '.join(sorted(DATA - {'.md'}))})",
            subject=request.shown,
            next_step="name its files with --file",
        )
    return found


def _model(request: PullRequest, listing: Listing, allowed: Sequence[Entry]) -> tuple[Entry, ...]:
    top = [entry for entry in allowed if "/" not in entry.path]
    inputs = [entry for entry in top if _suffix(entry) in INPUT_SUFFIXES]
    inputs += [e for e in allowed if any(fnmatchcase(e.path, p) for p in _MORE_INPUTS)]
    weights = [entry for entry in top if fnmatchcase(entry.path, "model*.safetensors")]
    weights = weights or [
        entry
        for entry in top
        if _suffix(entry) == ".safetensors" and not entry.path.startswith("consolidated")
    ]
    if not weights and request.pickles:
        weights = [entry for entry in top if fnmatchcase(entry.path, "pytorch_model*.bin")]
    if not weights:
        raise _no_weights(request, listing)
    code = [entry for entry in allowed if _suffix(entry) in PROGRAMS]
    chosen = {entry.path: entry for entry in (*inputs, *weights, *code)}
    return tuple(chosen[path] for path in sorted(chosen))


def _no_weights(request: PullRequest, listing: Listing) -> HubNotFoundError:
    ggufs = [entry for entry in listing.entries if _suffix(entry) == ".gguf"]
    pickles = [entry for entry in listing.entries if _suffix(entry) in PICKLES]
    if ggufs:
        return HubNotFoundError(
            f"has no safetensors, but GGUF files: {_names(ggufs)}",
            subject=request.shown,
            next_step=f"edgequant pull {request.shown} --file '*Q4_K_M*.gguf' (in an experiment, "
            "model.file)",
        )
    if pickles:
        return HubNotFoundError(
            f"has its weights as pickles only, which can run code: {_names(pickles)}",
            subject=request.shown,
            next_step=f"edgequant pull {request.shown} --allow-pickle (in an experiment, "
            "model.allow_pickle)",
        )
    return HubNotFoundError(
        "has no weights", subject=request.shown, next_step="see its page for what it is"
    )


def _names(entries: Iterable[Entry]) -> str:
    names = [printable(entry.path) for entry in entries]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "no files") + more


def _suffix(entry: Entry) -> str:
    return _suffix_of(entry.path)


def _suffix_of(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
