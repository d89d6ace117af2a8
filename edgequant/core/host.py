"""This machine: its memory, and what tells it from others that share a folder."""

from __future__ import annotations

import functools
import os
import re
import socket
from pathlib import Path

from edgequant.core.hashing import sha256_json


def parse_meminfo(text: str) -> dict[str, int]:
    """The lines of /proc/meminfo that are amounts: name (``MemAvailable``) to bytes."""
    found = re.finditer(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    return {match[1]: int(match[2]) * 1024 for match in found}


def available_memory_bytes() -> int:
    """What programs can have without swapping: free memory and caches."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    # Kernels before 3.14 do not say it.
    free_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return parse_meminfo(text).get("MemAvailable", free_bytes)


def free_cores() -> int:
    """Cores that nobody used in the last minute, at least one.

    Threads that wait busily for each other, as ggml's do, are many times slower than one thread
    where a single one of them has no core of its own.
    """
    return max(1, round(len(os.sched_getaffinity(0)) - os.getloadavg()[0]))


@functools.cache
def host_identity() -> str:
    """What tells this running system from every other that may share a folder."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    seen = [socket.gethostname(), boot.read_text() if boot.is_file() else ""]
    return sha256_json(seen)[:8]


def mark_of_this_process() -> str:
    """What stands in the names of unfinished files and folders: who writes them."""
    return f"{host_identity()}-{os.getpid()}"


def may_be_at_work(mark: str) -> bool | None:
    """Whether the process of a mark may still write; None where this system cannot know."""
    host, _, pid = mark.partition("-")
    if host != host_identity() or not pid.isdecimal():
        # A process id says nothing about another system.
        return None
    # A container gives every run the same few process ids: one with ours is no live one.
    return int(pid) != os.getpid() and Path(f"/proc/{pid}").exists()
