"""The compilers a build can use. One class for each; zig's clang is the first."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgequant.core.errors import TargetError, ToolMissingError
from edgequant.core.paths import cache_root
from edgequant.toolchain.targets import Target


@dataclass(frozen=True)
class CompilerSetup:
    """A compiler made ready in one build folder."""

    cmake_options: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables on top of ours, for CMake and for compiling."""


class Compiler(Protocol):
    """What a build needs to know of a compiler."""

    name: str

    def identity(self, target: Target) -> dict[str, str]:
        """All of the compiler that can change a binary: part of the build's key."""

    def flags(self, target: Target) -> list[str]:
        """Flags for compiling and linking that choose the target."""

    def prepare(self, folder: Path, target: Target) -> CompilerSetup:
        """Write what CMake needs to find the compiler into ``folder``."""


class Zig:
    """zig's clang, libc and linker from the ``ziglang`` package: needs nothing of the system."""

    name = "zig"

    def identity(self, target: Target) -> dict[str, str]:
        identity = {"name": self.name, "version": _package_version("ziglang")}
        if target.is_host:
            # -mcpu=native means another thing on another processor.
            identity["processor"] = _processor_features()
            identity["target"] = _host_triple()
        return identity

    def flags(self, target: Target) -> list[str]:
        triple = target.zig.target or (_host_triple() if target.is_host else None)
        if triple is None:
            raise TargetError(
                f"zig cannot build for {target.name}: its file has no [zig] target",
                next_step=f"add one to toolchain/targets/{target.name}.toml",
            )
        return ["-target", triple, *target.zig.flags]

    def prepare(self, folder: Path, target: Target) -> CompilerSetup:
        zig = shlex.quote(str(_package_file("ziglang", "zig")))
        folder.mkdir(parents=True, exist_ok=True)
        # CMake and ccache want one program each; starting Python for every file is too slow.
        # A later -O wins. Without these, CMake's own checks would be builds of another kind, and
        # zig would compile its C++ library, a minute's work, once for each kind.
        common = shlex.join([*self.flags(target), "-O2", "-g0", "-s"])
        for wrapper, arguments in (
            ("zig-cc", f"cc {common}"),
            ("zig-c++", f"c++ {common}"),
            ("zig-ar", "ar"),
            ("zig-ranlib", "ranlib"),
        ):
            _write_if_changed(folder / wrapper, f'#!/bin/sh\nexec {zig} {arguments} "$@"\n')
            (folder / wrapper).chmod(0o755)
        options = {
            "CMAKE_C_COMPILER": str(folder / "zig-cc"),
            "CMAKE_CXX_COMPILER": str(folder / "zig-c++"),
            "CMAKE_AR": str(folder / "zig-ar"),
            "CMAKE_RANLIB": str(folder / "zig-ranlib"),
            # Through cc1, as zig would turn a plain -O0 into a debug build with its checks.
            "EDGEQUANT_QUICK_FLAGS": "-Xclang;-O0",
        }
        zig_cache = os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(cache_root() / "zig"))
        environment = {
            "ZIG_GLOBAL_CACHE_DIR": zig_cache,
            "ZIG_LOCAL_CACHE_DIR": zig_cache,
            # The wrapper's own bytes and time say nothing about the compiler behind it.
            "CCACHE_COMPILERTYPE": "clang",
            "CCACHE_COMPILERCHECK": "string:"
            + " ".join([*self.identity(target).values(), *self.flags(target)]),
        }
        return CompilerSetup(options, environment)


def make_compiler(name: str = "zig") -> Compiler:
    """The compiler of that name.

    Raises:
        TargetError: there is no such compiler.
    """
    if name != Zig.name:
        raise TargetError(f"no compiler is called {name!r}", next_step="use zig")
    return Zig()


def build_program(name: str) -> Path:
    """The program that the build package of the same name brings (``cmake``, ``ninja``).

    Raises:
        ToolMissingError: the package is not installed.
    """
    return _package_file(name, name)


def _package_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise _missing(package) from None


def _package_file(package: str, name: str) -> Path:
    """An executable that a package brought, inside it or among Python's scripts."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise _missing(package)
    inside = Path(spec.origin).parent
    scripts = Path(sysconfig.get_path("scripts"))
    for path in (inside / name, inside / "data" / "bin" / name, scripts / name):
        if os.access(path, os.X_OK) and path.is_file():
            return path
    raise _missing(package)


def _missing(package: str) -> ToolMissingError:
    return ToolMissingError(
        f"the Python package {package} is not installed",
        next_step="pip install 'edgequant[build]'",
    )


@functools.cache
def _host_triple() -> str:
    """This machine in zig's words, with the C library version that is really here."""
    library, version = platform.libc_ver()
    machine = platform.machine()
    if library == "glibc":
        return f"{machine}-linux-gnu.{'.'.join(version.split('.')[:2])}"
    return f"{machine}-linux-musl"


@functools.cache
def _processor_features() -> str:
    """The line of /proc/cpuinfo that names what the processor can do."""
    with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return value.strip()
    return platform.machine()


def _write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
