"""A cold cross-build of what the board needs, against plain CMake and ninja of the same targets.

    python benchmarks/cold_build.py [--tool NAME]... [--rounds N]

Both start from nothing but the source archive's unpacked tree: no objects, no ccache, and none of
zig's own C and C++ libraries, which zig compiles on first use. The peer is what one would type by
hand: llama.cpp and the probe as one CMake project, ``zig cc -target aarch64-linux-musl
-mcpu=cortex_a55``, a Release build, ninja with as many jobs as ours. They take turns, and the
figures are ratios ours / plain: of wall-clock seconds, and of processor seconds, which a busy
machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.build.source.lock import load_lock
from edgequant.build.source.tree import fetch_source, sources_folder
from edgequant.build.ways.compilers import build_program
from edgequant.build.ways.compilers.packages import package_file
from edgequant.core.paths import data_folder

TARGET = "armv8.2-a+dotprod+fp16"
TOOLS = ("edgequant-probe", "llama-bench", "llama-completion")
PLAIN_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_SYSTEM_NAME": "Linux",
    "CMAKE_SYSTEM_PROCESSOR": "aarch64",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    "GGML_CCACHE": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_UI": "OFF",
    "CMAKE_EXE_LINKER_FLAGS": "-static -s",
}
PLAIN_PROJECT = """cmake_minimum_required(VERSION 3.25)
project(plain LANGUAGES C CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_subdirectory("${LLAMA_CPP}" llama.cpp EXCLUDE_FROM_ALL)
add_subdirectory("${PROBE}" probe)
"""


@dataclass(frozen=True)
class Cost:
    """What one build took."""

    seconds: float
    processor_seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rounds and print every cost and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tool", action="append", help="build only this program (again for more)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is built")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    tools = tuple(options.tool or TOOLS)
    source = fetch_source(load_lock()).folder
    ours: list[Cost] = []
    plain: list[Cost] = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="edgequant-benchmark-") as folder:
            first, second = Path(folder, "first"), Path(folder, "second")
            # Whoever goes first finds a colder disk.
            turns = [(ours, build_ours, first), (plain, build_plain, second)]
            for costs, run, place in turns if number % 2 == 0 else reversed(turns):
                place.mkdir()
                costs.append(timed(run, place, source, tools))
                name = "ours" if costs is ours else "plain"
                cost = costs[-1]
                print(f"{name:>5}: {cost.seconds:6.0f} s, {cost.processor_seconds:6.0f} cpu s")
                shutil.rmtree(place)
    result = {
        "tools": tools,
        "wall_ratio": ratio([c.seconds for c in ours], [c.seconds for c in plain]),
        "processor_ratio": ratio(
            [c.processor_seconds for c in ours], [c.processor_seconds for c in plain]
        ),
        "ours": [vars(cost) for cost in ours],
        "plain": [vars(cost) for cost in plain],
    }
    print(
        f"ours / plain: {result['wall_ratio']:.2f} of the wall-clock seconds, "
        f"{result['processor_ratio']:.2f} of the processor seconds"
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def ratio(ours: Sequence[float], plain: Sequence[float]) -> float:
    """Ratio of the medians."""
    return statistics.median(ours) / statistics.median(plain)


def timed(
    run: Callable[[Path, Path, Sequence[str]], None],
    place: Path,
    source: Path,
    tools: Sequence[str],
) -> Cost:
    """Wall-clock and processor seconds of one build, its children's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    run(place, source, tools)
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Cost(seconds, used)


def build_ours(place: Path, _: Path, tools: Sequence[str]) -> None:
    """`edgequant build` in an empty cache: unpacking, configuring, compiling, auditing."""
    environment = cold_environment(place)
    sources = Path(environment["EDGEQUANT_CACHE"], "sources")
    sources.mkdir(parents=True)
    for archive in sources_folder().glob("*.tar.gz"):
        shutil.copy(archive, sources)
    argv = [sys.executable, "-c", "from edgequant.cli.app import main; main()"]
    argv += ["build", "--target", TARGET, *(f"--tool={tool}" for tool in tools)]
    subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)


def build_plain(place: Path, source: Path, tools: Sequence[str]) -> None:
    """cmake and ninja as one would type them."""
    project = place / "project"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(PLAIN_PROJECT, encoding="ascii")
    zig = shlex.quote(str(package_file("ziglang", "zig")))
    options = {
        **PLAIN_OPTIONS,
        "LLAMA_CPP": str(source),
        "PROBE": str(data_folder("toolchain") / "probe"),
        "CMAKE_MAKE_PROGRAM": str(build_program("ninja")),
    }
    # CMake wants one program for each role.
    for role, command in {
        "CMAKE_C_COMPILER": "cc -target aarch64-linux-musl -mcpu=cortex_a55",
        "CMAKE_CXX_COMPILER": "c++ -target aarch64-linux-musl -mcpu=cortex_a55",
        "CMAKE_AR": "ar",
        "CMAKE_RANLIB": "ranlib",
    }.items():
        wrapper = place / role.lower()
        wrapper.write_text(f'#!/bin/sh\nexec {zig} {command} "$@"\n', encoding="ascii")
        wrapper.chmod(0o755)
        options[role] = str(wrapper)
    environment = cold_environment(place)
    compiled = place / "build"
    argv = [str(build_program("cmake")), "-G", "Ninja", "-S", str(project), "-B", str(compiled)]
    argv += [f"-D{name}={value}" for name, value in options.items()]
    jobs = str(len(os.sched_getaffinity(0)) + 1)
    for step in (argv, [str(build_program("ninja")), "-C", str(compiled), "-j", jobs, *tools]):
        subprocess.run(step, check=True, env=environment, stdout=subprocess.DEVNULL)


def cold_environment(place: Path) -> dict[str, str]:
    """Our environment, with every cache empty and ccache off."""
    cache = str(place / "cache")
    zig = {name: str(place / "zig") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    return {**os.environ, "EDGEQUANT_CACHE": cache, "CCACHE_DISABLE": "1", **zig}


if __name__ == "__main__":
    main()
