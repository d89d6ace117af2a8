"""The compilers a build can use, one module for each; zig's clang is the default."""

from __future__ import annotations

from edgequant.build.ways.compilers.base import Compiler, CompilerSetup
from edgequant.build.ways.compilers.gcc import Gcc
from edgequant.build.ways.compilers.packages import build_program
from edgequant.build.ways.compilers.zig import Zig
from edgequant.core.errors import TargetError

__all__ = ["Compiler", "CompilerSetup", "Gcc", "Zig", "build_program", "make_compiler"]


def make_compiler(name: str = Zig.name) -> Compiler:
    """The compiler of that name.

    Raises:
        TargetError: there is no such compiler.
    """
    compilers: dict[str, type[Zig] | type[Gcc]] = {Zig.name: Zig, Gcc.name: Gcc}
    if name not in compilers:
        raise TargetError(
            f"no compiler is called {name!r}", next_step=f"use {' or '.join(compilers)}"
        )
    return compilers[name]()
