"""What a build needs to know of a compiler, whichever it is."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgequant.build.targets.target import Target


@dataclass(frozen=True)
class CompilerSetup:
    """A compiler made ready in one build folder."""

    cmake_options: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables on top of ours, for CMake and for compiling."""


class Compiler(Protocol):
    """One of the compilers a build can use."""

    name: str

    def identity(self, target: Target) -> dict[str, str]:
        """All of the compiler that can change a binary: part of the build's key.

        Raises:
            ToolMissingError: the compiler is not installed.
        """

    def flags(self, target: Target) -> list[str]:
        """Flags for compiling and linking that choose the target.

        Raises:
            TargetError: this compiler cannot build for it.
        """

    def prepare(self, folder: Path, target: Target) -> CompilerSetup:
        """Write what CMake needs to find the compiler into ``folder``."""


@functools.cache
def processor_features() -> str:
    """The line of /proc/cpuinfo that names what this processor can do."""
    with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return value.strip()
    return platform.machine()
