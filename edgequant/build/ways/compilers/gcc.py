"""A Debian-style gcc: the system's own for this host, its cross gcc for boards."""

from __future__ import annotations

import functools
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgequant.build.targets.target import Target
from edgequant.build.ways.compilers.base import CompilerSetup, processor_features
from edgequant.core.errors import BuildError, TargetError, ToolMissingError
from edgequant.core.hashing import sha256_file
from edgequant.core.install_hints import install_command
from edgequant.core.process import run_captured

CROSS_PREFIX = "aarch64-linux-gnu-"
CROSS_PACKAGE = "g++-aarch64-linux-gnu"
# What ends up inside a static binary besides our own objects.
LIBRARIES = ("libc.a", "libm.a", "libstdc++.a", "libgcc.a", "libgcc_eh.a")
QUERY_SECONDS = 30


@dataclass(frozen=True)
class GccPrograms:
    """Paths of one gcc's programs."""

    c: Path
    cxx: Path
    ar: Path
    ranlib: Path


class Gcc:
    """gcc with the C library it was packaged with (glibc in Debian)."""

    name = "gcc"

    def identity(self, target: Target) -> dict[str, str]:
        programs = find_programs(for_host=target.is_host)
        identity = {"name": self.name, **_versions(programs.c)}
        if target.is_host:
            # -march=native means another thing on another processor.
            identity["processor"] = processor_features()
        else:
            identity["libraries"] = _libraries(programs.cxx)
        return identity

    def flags(self, target: Target) -> list[str]:
        if not target.is_host and not target.gcc.flags:
            raise TargetError(
                f"gcc cannot build for {target.name}: its file has no [gcc] flags",
                next_step=f"add them to toolchain/targets/{target.name}.toml, or use --with zig",
            )
        return list(target.gcc.flags)

    def prepare(self, folder: Path, target: Target) -> CompilerSetup:
        programs = find_programs(for_host=target.is_host)
        flags = " ".join(self.flags(target))
        options = {
            "CMAKE_C_COMPILER": str(programs.c),
            "CMAKE_CXX_COMPILER": str(programs.cxx),
            "CMAKE_AR": str(programs.ar),
            "CMAKE_RANLIB": str(programs.ranlib),
            "CMAKE_C_FLAGS": flags,
            "CMAKE_CXX_FLAGS": flags,
            "CMAKE_EXE_LINKER_FLAGS_RELEASE": "-s",
            "CMAKE_SHARED_LINKER_FLAGS_RELEASE": "-s",
            "EDGEQUANT_QUICK_FLAGS": "-O0",
        }
        return CompilerSetup(options, {"CCACHE_COMPILERCHECK": "content"})


def find_programs(
    *, for_host: bool, which: Callable[[str], str | None] = shutil.which
) -> GccPrograms:
    """The gcc that builds for this machine, or for boards.

    Args:
        for_host: for this machine.
        which: finds programs.

    Raises:
        ToolMissingError: it is not installed; the message names the package.
    """
    # On an ARM machine the system's own gcc will do.
    prefixes = [""] if for_host else [CROSS_PREFIX]
    if not for_host and platform.machine() == "aarch64":
        prefixes.append("")
    for prefix in prefixes:
        found = [which(prefix + name) for name in ("gcc", "g++", "gcc-ar", "gcc-ranlib")]
        if all(found):
            return GccPrograms(*(Path(path) for path in found if path is not None))
    raise ToolMissingError(
        f"no {prefixes[0]}g++ on the PATH",
        next_step=f"{install_command(gcc_package(for_host=for_host))}, or use --with zig",
    )


def gcc_package(*, for_host: bool) -> str:
    """Debian's package with the gcc that builds for this machine, or for boards."""
    return "g++" if for_host or platform.machine() == "aarch64" else CROSS_PACKAGE


@functools.cache
def _versions(compiler: Path) -> dict[str, str]:
    return {
        "version": _ask(compiler, "--version").splitlines()[0],
        "target": _ask(compiler, "-dumpmachine"),
    }


@functools.cache
def _libraries(compiler: Path) -> str:
    """Hashes of the libraries that are linked in: the same gcc may come with another glibc."""
    hashes = []
    for name in LIBRARIES:
        # gcc prints the bare name of a library that it does not have.
        path = Path(_ask(compiler, f"-print-file-name={name}"))
        if path.is_absolute():
            hashes.append(f"{name}={sha256_file(path)[:16]}")
    return " ".join(hashes)


def _ask(compiler: Path, *arguments: str) -> str:
    answer = run_captured(
        [str(compiler), *arguments],
        timeout_seconds=QUERY_SECONDS,
        env={**os.environ, "LC_ALL": "C"},
        apart=True,
    )
    if answer.status != 0:
        raise BuildError(
            f"the compiler does not answer {' '.join(arguments)}: {answer.failure}",
            subject=compiler,
        )
    return answer.output.strip()
