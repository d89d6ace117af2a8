"""zig's clang, C library and linker: one Python package, nothing of the system."""

from __future__ import annotations

import functools
import os
import platform
import shlex
from pathlib import Path

from edgequant.build.targets.target import Target
from edgequant.build.ways.compilers.base import CompilerSetup, processor_features
from edgequant.build.ways.compilers.packages import package_file, package_version
from edgequant.core.errors import TargetError
from edgequant.core.paths import cache_root

ARM_64 = "aarch64"


class Zig:
    """zig's clang, libc and linker from the ``ziglang`` package: needs nothing of the system."""

    name = "zig"

    def identity(self, target: Target) -> dict[str, str]:
        identity = {"name": self.name, "version": package_version("ziglang")}
        if target.is_host:
            # -mcpu=native means another thing on another processor.
            identity["processor"] = processor_features()
            identity["target"] = host_triple()
        return identity

    def flags(self, target: Target) -> list[str]:
        triple = target.zig.target or (host_triple() if target.is_host else None)
        if triple is None:
            raise TargetError(
                f"zig cannot build for {target.name}: its file has no [zig] target",
                next_step=f"add one to toolchain/targets/{target.name}.toml",
            )
        return ["-target", triple, *target.zig.flags]

    def prepare(self, folder: Path, target: Target) -> CompilerSetup:
        zig = shlex.quote(str(package_file("ziglang", "zig")))
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
        if not target.is_host:
            # zig turns -O3 into -O2. Up to 6 % fewer instructions a token: docs/instructions.md.
            options["EDGEQUANT_HOT_FLAGS"] = "-Xclang;-O3"
        elif platform.machine() == ARM_64:
            # llama.cpp would ask the compiler what native means, in gcc's words; zig knows.
            options["GGML_NATIVE"] = "OFF"
        zig_cache = os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(cache_root() / "zig"))
        environment = {
            "ZIG_GLOBAL_CACHE_DIR": zig_cache,
            "ZIG_LOCAL_CACHE_DIR": zig_cache,
            # The wrapper's own bytes and time say nothing about the compiler behind it.
            "CCACHE_COMPILERTYPE": "clang",
            "CCACHE_COMPILERCHECK": "string:" + " ".join([*self.identity(target).values(), common]),
        }
        return CompilerSetup(options, environment)


@functools.cache
def host_triple() -> str:
    """This machine in zig's words, with the C library version that is really here."""
    return triple_of(platform.machine(), *platform.libc_ver())


def triple_of(machine: str, library: str, version: str) -> str:
    """A machine in zig's words.

    Args:
        machine: as ``uname -m`` says: ``x86_64``, ``aarch64``.
        library: ``glibc``, or anything else for musl.
        version: of the C library, e.g. ``2.36``.
    """
    if library == "glibc":
        return f"{machine}-linux-gnu.{'.'.join(version.split('.')[:2])}"
    return f"{machine}-linux-musl"


def _write_if_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
