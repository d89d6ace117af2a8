"""Write a cpio archive in the kernel's "newc" form.

Owners and device nodes exist inside the archive alone, so nobody needs to be root to make one.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
ALIGNMENT = 4
MAXIMUM_BYTES = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One member: its path without a leading slash, and what ``stat`` will say of it."""

    name: str
    mode: int
    """Type and permissions, e.g. ``stat.S_IFREG | 0o644``."""
    data: bytes = b""
    """Contents of a file, or the target of a symbolic link."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""


def folder(name: str, permissions: int = 0o755) -> Entry:
    """A folder owned by root."""
    return Entry(name, stat.S_IFDIR | permissions)


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file owned by root."""
    return Entry(name, stat.S_IFREG | permissions, data)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """A character device node."""
    return Entry(name, stat.S_IFCHR | permissions, device=(major, minor))


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """The entries with every missing parent folder before them, as the kernel needs it."""
    result: list[Entry] = []
    seen: set[str] = set()
    for entry in entries:
        parts = entry.name.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in seen:
                seen.add(parent)
                result.append(folder(parent))
        if entry.name not in seen or not stat.S_ISDIR(entry.mode):
            result.append(entry)
        seen.add(entry.name)
    return result


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive's bytes; the same entries give the same bytes.

    Raises:
        ValueError: a name is empty, absolute or holds a NUL, or a member is 4 GiB or larger.
    """
    out = bytearray()
    for number, entry in enumerate(entries, start=1):
        _append(out, entry, number)
    _append(out, Entry(TRAILER, 0), 0)
    return bytes(out)


def _append(out: bytearray, entry: Entry, number: int) -> None:
    name = entry.name.encode()
    if not name or name.startswith(b"/") or b"\0" in name:
        raise ValueError(f"not a member name: {entry.name!r}")
    if len(entry.data) > MAXIMUM_BYTES:
        raise ValueError(f"too large for newc: {entry.name!r}")
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    major, minor = entry.device
    # ino, mode, uid, gid, nlink, mtime, size, device (2), the node's own device (2), name, check
    fields = (
        number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name) + 1, 0,
    )  # fmt: skip
    out += MAGIC + b"".join(b"%08X" % field for field in fields)
    out += name + b"\0"
    out += bytes(-len(out) % ALIGNMENT)
    out += entry.data
    out += bytes(-len(out) % ALIGNMENT)
