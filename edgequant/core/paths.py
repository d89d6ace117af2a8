"""Where things lie: the cache, and the data files a user copies and edits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """``$EDGEQUANT_CACHE``, by default ``~/.cache/edgequant``; made if absent."""
    configured = os.environ.get("EDGEQUANT_CACHE")
    root = Path(configured).expanduser() if configured else Path.home() / ".cache" / "edgequant"
    root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def expand_user(path: Path) -> Path:
    """The path with ``~`` as the user's home; as in a shell, an unknown user's stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def data_folder(kind: str) -> Path:
    """The shipped folder of one kind (``boards``, ``prompts``, ``schemas`` ...).

    In a checkout it lies beside the package, in an installed wheel inside it.
    """
    beside = PACKAGE_FOLDER.parent / kind
    return beside if beside.is_dir() else PACKAGE_FOLDER / "_data" / kind


def data_folders(kind: str) -> Iterator[Path]:
    """Folders to look in for data files of one kind: the user's own first."""
    own = Path.cwd() / kind
    shipped = data_folder(kind)
    if own.is_dir() and own.resolve() != shipped.resolve():
        yield own
    yield shipped


def find_data_file(kind: str, name: str, suffix: str = ".toml") -> Path | None:
    """A data file given as a path, or as the bare name of one in :func:`data_folders`."""
    as_path = expand_user(Path(name))
    if as_path.suffix == suffix and as_path.is_file():
        return as_path
    if as_path.name != name:
        return None
    for folder in data_folders(kind):
        candidate = folder / f"{name}{suffix}"
        if candidate.is_file():
            return candidate
    return None


def list_data_files(kind: str, suffix: str = ".toml") -> dict[str, Path]:
    """Name to path of every data file of one kind; the user's own hides a shipped one."""
    found: dict[str, Path] = {}
    for folder in data_folders(kind):
        for path in sorted(folder.glob(f"*{suffix}")):
            found.setdefault(path.name.removesuffix(suffix), path)
    return found
