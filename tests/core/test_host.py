"""What this machine says of itself."""

from __future__ import annotations

import os

from edgequant.core.host import (
    available_memory_bytes,
    host_identity,
    mark_of_this_process,
    may_be_at_work,
    parse_meminfo,
)

MEMINFO = """MemTotal:       24576000 kB
MemFree:             100 kB
MemAvailable:   23000000 kB
Active(anon):    1066604 kB
HugePages_Total:       0
"""


def test_meminfo_is_in_kibibytes() -> None:
    assert parse_meminfo(MEMINFO) == {
        "MemTotal": 24_576_000 * 1024,
        "MemFree": 100 * 1024,
        "MemAvailable": 23_000_000 * 1024,
    }


def test_programs_can_have_less_than_there_is() -> None:
    pages = os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_memory_bytes() < pages * os.sysconf("SC_PAGE_SIZE")


def test_who_may_still_be_writing() -> None:
    assert may_be_at_work(f"{host_identity()}-{os.getppid()}") is True
    assert may_be_at_work(f"{host_identity()}-99999999") is False
    assert may_be_at_work(mark_of_this_process()) is False
    assert may_be_at_work("0badcafe-1") is None
    assert may_be_at_work("no mark") is None
