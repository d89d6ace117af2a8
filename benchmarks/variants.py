"""Ways to compile the probe for an RK3568-class board, as data, and how each is compiled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgequant.build.recipe import cmake_options, copy_project
from edgequant.build.source.tree import SourceTree
from edgequant.build.targets.target import GccSettings, Target, ZigSettings, load_target
from edgequant.build.ways.compilers import CompilerSetup, build_program, make_compiler
from edgequant.core.errors import BuildError, ToolMissingError
from edgequant.core.hashing import sha256_json
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root, data_folder
from edgequant.core.process import run_logged
from edgequant.core.progress import task
from edgequant.latency.probe import PROBE_NAME

TARGET = "armv8.2-a+dotprod+fp16"
JOBS = 2
NICENESS = 10


@dataclass(frozen=True)
class Variant:
    """One way to compile the probe, and whether it runs with repacked weights."""

    name: str
    about: str
    """What differs, in a few words."""
    compiler: Literal["gcc", "zig"]
    flags: tuple[str, ...] | None = None
    """For compiling and linking everything; None for what edgequant's own target says."""
    release: str = "-O3 -DNDEBUG"
    """What CMake adds for a release; its own default unless another is tried."""
    options: Mapping[str, str] = field(default_factory=dict)
    """CMake options on top of those that edgequant builds with."""
    repack: bool = True
    needs_kleidiai: bool = False


_GCC_BOARD = ("-march=armv8.2-a+dotprod+fp16", "-mtune=cortex-a55")
_ZIG_BOARD = ("-mcpu=cortex_a55",)
# zig turns -O3 into -O2; the compiler behind it takes the real one.
_REAL_O3 = "-O3 -DNDEBUG -Xclang -O3"
_KLEIDIAI = {"GGML_CPU_KLEIDIAI": "ON"}

REFERENCE = "study"
OURS = "zig"
VARIANTS: tuple[Variant, ...] = (
    Variant(
        REFERENCE,
        "the study's recipe: gcc, plain armv8-a, static, llama.cpp's defaults",
        "gcc",
        ("-march=armv8-a",),
    ),
    Variant(OURS, "edgequant build: zig's clang, -O2 and -O3 for ggml-cpu", "zig"),
    Variant(
        "zig-O2",
        "zig with -O2 for ggml-cpu, too",
        "zig",
        _ZIG_BOARD,
        options={"EDGEQUANT_HOT_FLAGS": ""},
    ),
    Variant("gcc", "edgequant build --with gcc: -O3, cortex-a55", "gcc"),
    Variant("zig-O3", "zig with the real -O3 for everything", "zig", _ZIG_BOARD, release=_REAL_O3),
    Variant("zig-lto", "zig with -flto for everything", "zig", (*_ZIG_BOARD, "-flto")),
    Variant("zig-no-repack", "zig, run with --no-repack", "zig", repack=False),
    Variant(
        "study-no-repack",
        "study, run with --no-repack",
        "gcc",
        ("-march=armv8-a",),
        repack=False,
    ),
    Variant("gcc-O2", "gcc with -O2", "gcc", _GCC_BOARD, release="-O2 -DNDEBUG"),
    Variant("gcc-lto", "gcc with -flto for everything", "gcc", (*_GCC_BOARD, "-flto=auto")),
    Variant("gcc-no-repack", "gcc, run with --no-repack", "gcc", repack=False),
    Variant(
        "gcc-kleidiai",
        "gcc with KleidiAI's kernels",
        "gcc",
        _GCC_BOARD,
        options=_KLEIDIAI,
        needs_kleidiai=True,
    ),
    Variant(
        "zig-kleidiai",
        "zig with KleidiAI's kernels",
        "zig",
        _ZIG_BOARD,
        options=_KLEIDIAI,
        needs_kleidiai=True,
    ),
    Variant(
        "zig-no-llamafile",
        "zig without llamafile's matrix product",
        "zig",
        _ZIG_BOARD,
        options={"GGML_LLAMAFILE": "OFF"},
    ),
    Variant(
        "zig-armv8",
        "zig, plain armv8-a (our target for boards without dotprod)",
        "zig",
        ("-mcpu=cortex_a53",),
    ),
    Variant(
        "zig-fast-math",
        "zig with -ffast-math (llama.cpp forbids parts of it)",
        "zig",
        (
            *_ZIG_BOARD,
            "-fassociative-math",
            "-fno-signed-zeros",
            "-fno-trapping-math",
            "-freciprocal-math",
        ),
    ),
)


def find_variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        BuildError: there is none.
    """
    for variant in VARIANTS:
        if variant.name == name:
            return variant
    raise BuildError(
        f"no variant is called {name!r}",
        next_step=f"use one of {', '.join(variant.name for variant in VARIANTS)}",
    )


def target_of(variant: Variant) -> Target:
    """The board's target, with the variant's flags in place of its own where it has any."""
    target = load_target(TARGET)
    changes: dict[str, object] = {"name": f"benchmark-{variant.name}"}
    if variant.flags is not None and variant.compiler == "gcc":
        changes["gcc"] = GccSettings(flags=variant.flags)
    elif variant.flags is not None:
        changes["zig"] = ZigSettings(target=target.zig.target, flags=variant.flags)
    return target.model_copy(update=changes)


def build_identity(variant: Variant, source_sha256: str) -> str:
    """Names the folder a variant is compiled in: the same for those that differ only in a run."""
    values = [
        variant.compiler,
        make_compiler(variant.compiler).flags(target_of(variant)),
        variant.release,
        dict(variant.options),
        source_sha256,
    ]
    return f"{variant.compiler}-{sha256_json(values)[:12]}"


def build_folder(variant: Variant, source: SourceTree) -> Path:
    """Where a variant is compiled."""
    # As deep as edgequant's own builds: ccache then knows each other's files by relative names.
    return cache_root() / "build-trees" / f"benchmark-{build_identity(variant, source.sha256)}"


def setup_of(variant: Variant, source: SourceTree) -> CompilerSetup:
    """The variant's compiler, made ready in its folder."""
    folder = build_folder(variant, source) / "compiler"
    return make_compiler(variant.compiler).prepare(folder, target_of(variant))


def build_probe(variant: Variant, source: SourceTree, *, kleidiai: Path | None = None) -> Path:
    """Compile one variant's probe, or what has changed of it since.

    Args:
        variant: what to compile.
        source: llama.cpp's tree.
        kleidiai: folder with KleidiAI's headers and library for arm64, where it needs them.

    Returns:
        Path of the probe.

    Raises:
        ToolMissingError: the compiler, or KleidiAI, is not there.
        BuildError: configuring or compiling failed.
    """
    folder = build_folder(variant, source)
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "lock", "Another benchmark compiles there; waiting for it"):
        copy_project(data_folder("toolchain"), folder / "project")
        setup = setup_of(variant, source)
        options = {
            **cmake_options(target_of(variant), source),
            **setup.cmake_options,
            **variant.options,
            "EDGEQUANT_LLAMA_CPP": str(source.folder),
            "CMAKE_MAKE_PROGRAM": str(build_program("ninja")),
            "CMAKE_C_FLAGS_RELEASE": variant.release,
            "CMAKE_CXX_FLAGS_RELEASE": variant.release,
        }
        if variant.needs_kleidiai:
            stub = _write_kleidiai_project(folder / "kleidiai", kleidiai)
            options["FETCHCONTENT_SOURCE_DIR_KLEIDIAI"] = str(stub)
        _compile(folder, variant, options, setup)
    return folder / "build" / "bin" / PROBE_NAME


def _compile(folder: Path, variant: Variant, options: dict[str, str], setup: CompilerSetup) -> None:
    environment = {**os.environ, **setup.environment, "NINJA_STATUS": "[%f/%t] "}
    ccache = shutil.which("ccache")
    if ccache is not None:
        options["CMAKE_C_COMPILER_LAUNCHER"] = options["CMAKE_CXX_COMPILER_LAUNCHER"] = ccache
        environment["CCACHE_DIR"] = str(cache_root() / "ccache")
        environment["CCACHE_BASEDIR"] = str(cache_root())
        environment["CCACHE_NOHASHDIR"] = "true"
        environment["CCACHE_SLOPPINESS"] = "time_macros"
    log = folder / "build.log"
    cmake: list[str | Path] = ["nice", "-n", str(NICENESS), build_program("cmake"), "-G", "Ninja"]
    cmake += ["-S", folder / "project", "-B", folder / "build"]
    ninja: list[str | Path] = ["nice", "-n", str(NICENESS), build_program("ninja")]
    ninja += ["-C", folder / "build", "-j", str(JOBS), PROBE_NAME]
    with task(f"Compiling the probe: {variant.name}") as shown:
        run_logged(
            [*cmake, *(f"-D{name}={value}" for name, value in options.items())],
            log=log,
            error=BuildError,
            what=f"configuring {variant.name}",
            env=environment,
        )
        run_logged(
            ninja,
            log=log,
            error=BuildError,
            what=f"compiling {variant.name}",
            env=environment,
            on_line=lambda line: shown.describe(f"{variant.name} {line[:60]}"),
        )


# Debian's library is compiled against glibc, and calls one function that musl lacks.
_MISSING_IN_MUSL = """\
#include <stdarg.h>
#include <stdio.h>
#ifndef __GLIBC__
int __fprintf_chk(FILE *stream, int level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int written = vfprintf(stream, format, arguments);
    va_end(arguments);
    return written;
}
#endif
"""


def _write_kleidiai_project(project: Path, kleidiai: Path | None) -> Path:
    """A CMake project that stands in for KleidiAI's sources with its compiled library.

    llama.cpp would download the sources while it is configured.

    Raises:
        ToolMissingError: there is no library.
    """
    library = next(iter(kleidiai.rglob("libkleidiai.a")), None) if kleidiai else None
    header = next(iter(kleidiai.rglob("kai/kai_common.h")), None) if kleidiai else None
    if library is None or header is None:
        raise ToolMissingError(
            "KleidiAI's library and headers for arm64 are not there",
            subject=kleidiai,
            next_step="unpack Debian's libkleidiai-dev for arm64 (benchmarks/README.md) and name "
            "that folder with --kleidiai",
        )
    project.mkdir(parents=True, exist_ok=True)
    (project / "glibc.c").write_text(_MISSING_IN_MUSL, encoding="ascii")
    (project / "CMakeLists.txt").write_text(
        "add_library(kleidiai STATIC glibc.c)\n"
        f'target_include_directories(kleidiai PUBLIC "{header.parent.parent.resolve()}")\n'
        f'target_link_libraries(kleidiai PUBLIC "{library.resolve()}")\n',
        encoding="utf-8",
    )
    return project
