"""Bounds on what strangers hand in: how large a document is, how deep it nests."""

from __future__ import annotations

from pathlib import Path

MAX_DEPTH = 64
"""Nobody nests deeper by hand; every walk over the values may recurse."""


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """A whole file, where it is no larger than ``max_bytes``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or its path is none.
    """
    with path.open("rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    return content


def check_depth(value: object) -> None:
    """Raises ValueError where dicts and lists nest deeper than :data:`MAX_DEPTH`."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else _items(outer))
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
