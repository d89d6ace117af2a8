"""What lies in the cache: artefacts, builds, sources, answers, the virtual board's images.

Everything in it can be made again; what is removed costs only time.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgequant.core.artefact import MANIFEST_NAME
from edgequant.core.locks import at_once

SIDE_SUFFIXES = (".lock", ".log", ".work")
INNER_LOCKS = ("lock", "use.lock")
COMPILERS_NEED = ("sources", "zig", "ccache")
"""Kinds that every compilation reads, whichever of them it is."""


@dataclass(frozen=True)
class Entry:
    """One thing that can be removed by itself."""

    kind: str
    """``artefacts/models``, ``sources``, ``virtual/images`` ..."""
    name: str
    path: Path
    bytes: int
    """On the disk, as far as it is not shared by hard links."""
    used: float
    """When it was last used, as far as it is known; seconds since 1970."""
    in_use: bool
    """Some process holds it just now."""
    hashes: frozenset[str]
    """What names it: its key, and the SHA-256 of its files."""
    locks: tuple[Path, ...] = ()
    """Files that whoever uses it holds, if they are there."""

    def age_seconds(self, now: float) -> float:
        """Since it was last used."""
        return max(now - self.used, 0.0)


def list_cache(root: Path) -> list[Entry]:
    """Everything in a cache, kind by kind, the largest first within a kind."""
    found = sorted(_entries(root), key=lambda entry: (entry.kind, -entry.bytes, entry.name))
    compilations = tuple(
        lock for e in found if e.kind in ("build-trees", "containers") for lock in e.locks
    )
    return [
        _needed_by(compilations, entry) if entry.kind in COMPILERS_NEED else entry
        for entry in found
        if entry.bytes or entry.kind.startswith("artefacts")
    ]


def _needed_by(compilations: tuple[Path, ...], entry: Entry) -> Entry:
    locks = entry.locks + compilations
    return replace(entry, locks=locks, in_use=entry.in_use or _held(locks))


def choose(
    entries: Iterable[Entry],
    *,
    now: float,
    older_than_seconds: float = 0.0,
    kinds: Collection[str] = (),
    kept: Collection[str] = (),
) -> list[Entry]:
    """What to remove: old enough, of the kinds asked for, not named by what is kept, not in use.

    Args:
        entries: of :func:`list_cache`.
        now: seconds since 1970.
        older_than_seconds: only what was not used for so long.
        kinds: only these, or what lies below them ("artefacts"); all where empty.
        kept: hashes and keys that are named by something that stays.
    """
    names = set(kept)

    def wanted(entry: Entry) -> bool:
        return not kinds or any(
            entry.kind == kind or entry.kind.startswith(f"{kind}/") for kind in kinds
        )

    return [
        entry
        for entry in entries
        if wanted(entry)
        and not entry.in_use
        and not entry.hashes & names
        and entry.age_seconds(now) >= older_than_seconds
    ]


def named_by(manifest: Path) -> set[str]:
    """Every text in a manifest: whatever hash or key it names is among them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    return set(_texts(json.loads(manifest.read_bytes())))


def remove(entry: Entry) -> bool:
    """Remove an entry, and what lies beside it under its name, unless some process uses it by now.

    Returns:
        Whether it was removed.

    Raises:
        OSError: it cannot be removed.
    """
    with at_once(entry.locks) as free:
        if not free or _is_running(entry.path):
            return False
        # A lock file stays: who deletes one that another process just opened lets both in.
        locks = [lock for lock in entry.locks if lock.parent == entry.path and lock.exists()]
        for path in entry.path.iterdir() if locks else [entry.path]:
            if path not in locks:
                _delete(path)
        for suffix in (".log", ".work", "-wal", "-shm"):
            _delete(entry.path.with_name(entry.path.name + suffix))
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _entries(root: Path) -> Iterator[Entry]:
    listed: dict[str, Callable[[Path], Iterator[Entry]]] = {
        "artefacts": _artefacts,
        "virtual": lambda folder: _below(folder, "virtual", depth=2),
        "build-trees": lambda folder: _below(folder, "build-trees", depth=1),
        "sources": lambda folder: _below(folder, "sources", depth=1),
        "answers": lambda folder: _below(folder, "answers", depth=1),
        "logs": lambda folder: _below(folder, "logs", depth=1),
        "containers": lambda folder: _below(folder, "containers", depth=1),
        "local": lambda folder: _below(folder, "local", depth=1),
    }
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name in listed and path.is_dir():
            yield from listed[path.name](path)
        else:
            # A compiler's cache, or whatever else came to lie there: one thing.
            yield _entry(path, path.name)


def _artefacts(folder: Path) -> Iterator[Entry]:
    for stage in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(stage.iterdir()):
            if path.suffix in SIDE_SUFFIXES and path.with_suffix("").exists():
                continue
            if path.suffix != ".lock":
                yield _entry(path, f"artefacts/{stage.name}")


def _below(folder: Path, kind: str, *, depth: int) -> Iterator[Entry]:
    for path in sorted(folder.iterdir()):
        if depth > 1 and path.is_dir():
            yield from _below(path, f"{kind}/{path.name}", depth=depth - 1)
        elif path.suffix != ".lock" and not path.name.endswith(("-wal", "-shm")):
            yield _entry(path, kind)


def _entry(path: Path, kind: str) -> Entry:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    locks = _locks(path, kind)
    status = path.lstat()
    return Entry(
        kind=kind,
        name=path.name,
        path=path,
        bytes=sum(_bytes_of(file) for file in files),
        used=max(status.st_mtime, status.st_atime) if path.is_file() else status.st_mtime,
        in_use=_held(locks) or _is_running(path),
        hashes=_hashes(path),
        locks=locks,
    )


def _locks(path: Path, kind: str) -> tuple[Path, ...]:
    """Every file that somebody may hold who makes or uses a thing."""
    room = kind.partition("/")[0]
    if room == "artefacts":
        # One lock for an artefact, its drafts, and what its maker keeps beside it.
        return (path.with_name(f"{path.name.partition('.')[0]}.lock"),)
    locks = [path.with_name(f"{path.name}.lock"), *(path / name for name in INNER_LOCKS)]
    if room == "virtual":
        locks.append(path.parent.parent / "images.lock")
    if room == "containers":
        locks += [path.with_name("build.lock"), path.with_name("base.lock")]
    if room == "local":
        locks.append(path.parent.parent / "artefacts" / "latency" / f"board-{path.name}.lock")
    return tuple(locks)


def _bytes_of(file: Path) -> int:
    with contextlib.suppress(OSError):
        status = file.lstat()
        # Sparse disks take what is written, not what they claim.
        return status.st_blocks * 512
    return 0


def _hashes(path: Path) -> frozenset[str]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        manifest = json.loads((path / MANIFEST_NAME).read_bytes())
        files = (record["sha256"] for record in manifest["files"].values())
        return frozenset({str(manifest["key"]), *map(str, files)})
    return frozenset({path.name})


def _held(locks: Iterable[Path]) -> bool:
    """Whether some process holds one of some lock files."""
    with at_once(locks) as free:
        return not free


def _is_running(path: Path) -> bool:
    """Whether a virtual board's process lives, as its state file tells."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        pid = int(json.loads((path / "state.json").read_bytes())["pid"])
        return Path(f"/proc/{pid}").exists()
    # Drafts belong to whoever writes them; the store clears up after the dead.
    return ".draft-" in path.name and time.time() - path.stat().st_mtime < 24 * 3600
