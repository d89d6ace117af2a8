"""Where this machine's apt gets Debian's packages from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from edgequant.core.process import run_captured

TARGET_FORMAT = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
ASK_SECONDS = 30.0


@dataclass(frozen=True)
class DebianSource:
    """One part of Debian's archive that apt is set up to fetch."""

    address: str
    release: str
    """``bookworm``, ``bookworm-security``."""
    signed_by: str | None
    """Path of a keyring; None where apt's own are used."""

    def line(self, **options: str) -> str:
        """Its line of a sources.list; an option's ``_`` stands for a hyphen."""
        words = [f"{name.replace('_', '-')}={value}" for name, value in options.items()]
        between = f" [{' '.join(words)}]" if words else ""
        return f"deb{between} {self.address} {self.release} main"


def debian_sources() -> list[DebianSource]:
    """The parts of Debian that apt fetches here, each once; none where there is no apt."""
    if shutil.which("apt-get") is None:
        return []
    argv = ["apt-get", "indextargets", "--format", TARGET_FORMAT, "Created-By: Packages"]
    answer = run_captured(argv, timeout_seconds=ASK_SECONDS, apart=True)
    return list(dict.fromkeys(parse_index_targets(answer.output))) if answer.status == 0 else []


def parse_index_targets(printed: str) -> Iterator[DebianSource]:
    """The parts of Debian in what ``apt-get indextargets`` printed.

    Only Debian's own archives are kept (where the lists were never fetched, apt cannot tell the
    origin, and every source is), and of those the component main.

    Args:
        printed: lines in :data:`TARGET_FORMAT`.
    """
    for line in printed.splitlines():
        columns = line.split("|")
        if len(columns) != 5:
            continue
        origin, address, release, component, signed_by = columns
        if origin in ("Debian", "$(ORIGIN)") and component == "main":
            known = signed_by and not signed_by.startswith("$(")
            yield DebianSource(address, release, signed_by if known else None)
