"""The ways to build: with a compiler on this machine, or inside a container."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgequant.build.bill.linked import files_of_programs
from edgequant.build.plan import Plan
from edgequant.build.recipe import copy_project
from edgequant.build.targets.target import Target
from edgequant.build.ways.compilers import (
    Compiler,
    CompilerSetup,
    Gcc,
    Zig,
    build_program,
    make_compiler,
)
from edgequant.build.ways.ninja import collect_failure, explain_failure, show_ninja_progress
from edgequant.core.artefact import ArtefactDraft
from edgequant.core.errors import BuildError, TargetError
from edgequant.core.host import available_memory_bytes
from edgequant.core.paths import cache_root
from edgequant.core.process import run_logged
from edgequant.core.progress import Task, task

CONTAINER = "container"
WAYS = (Zig.name, Gcc.name, CONTAINER)
JOB_MEMORY_BYTES = 1_000_000_000
# Read by CMake, compilers and linkers, and by llama.cpp's own CMake files.
CHANGES_BINARIES = frozenset(
    (
        *("CC", "CXX", "AR", "RANLIB", "LD", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"),
        *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_RUN_PATH"),
        *("COMPILER_PATH", "GCC_EXEC_PREFIX", "SOURCE_DATE_EPOCH", "HF_UI_VERSION"),
    )
)


@dataclass(frozen=True)
class Compiled:
    """What came out of compiling a plan."""

    folder: Path
    """Has every file of ``plan.outputs``."""
    files: Mapping[str, set[str]] | None
    """Each output to the files of the source tree that were compiled for it; None: unknown."""
    compiler: Mapping[str, str] = field(default_factory=dict)
    """What is known of the compiler only now, on top of the way's identity."""


class Way(Protocol):
    """One way to turn a plan into binaries."""

    name: str

    def identity(self, target: Target) -> dict[str, str]:
        """All of it that can change a binary: part of the build's key."""

    def flags(self, target: Target) -> list[str]:
        """What the compiler is told to choose the target."""

    def make(self, plan: Plan, draft: ArtefactDraft) -> Compiled:
        """Compile; seconds and facts go into the draft's manifest."""


def make_way(name: str) -> Way:
    """The way of that name.

    Raises:
        TargetError: there is no such way.
    """
    if name not in WAYS:
        raise TargetError(
            f"there is no way to build called {name!r}", next_step=f"use one of {', '.join(WAYS)}"
        )
    return InContainer() if name == CONTAINER else WithCompiler(make_compiler(name))


class WithCompiler:
    """CMake and ninja on this machine, with one of the compilers."""

    def __init__(self, compiler: Compiler) -> None:
        self.name = compiler.name
        self._compiler = compiler

    def identity(self, target: Target) -> dict[str, str]:
        return self._compiler.identity(target)

    def flags(self, target: Target) -> list[str]:
        return self._compiler.flags(target)

    def make(self, plan: Plan, draft: ArtefactDraft) -> Compiled:
        setup = self._compiler.prepare(plan.folder / "compiler", plan.target)
        environment = {
            **own_environment(os.environ),
            **setup.environment,
            **_ccache_environment(),
            # ggml compiles in the commit of whatever repository encloses its folder.
            "GIT_DIR": str(plan.folder / "no-repository"),
        }
        copy_project(plan.project, plan.folder / "project")
        with draft.timed("configure"):
            _configure(plan, setup, environment)
        with draft.timed("compile"):
            _compile(plan, environment)
        draft.manifest.details["ccache"] = _ccache() is not None
        build = plan.folder / "build"
        files = files_of_programs(build_program("ninja"), build, plan.outputs, plan.source.folder)
        return Compiled(build / "bin", files)


class InContainer:
    """``Dockerfile.arm64-build``, built by docker, podman or buildah."""

    name = CONTAINER

    def identity(self, target: Target) -> dict[str, str]:
        from edgequant.build.ways.containers import container_identity

        return {"name": self.name, **container_identity()}

    def flags(self, target: Target) -> list[str]:
        if target.is_host:
            raise TargetError(
                "containers build for boards, not for this machine",
                next_step="use --with zig or --with gcc for host",
            )
        return Gcc().flags(target)

    def make(self, plan: Plan, draft: ArtefactDraft) -> Compiled:
        from edgequant.build.ways.containers import compile_in_container

        binaries = plan.folder / "bin"
        shutil.rmtree(binaries, ignore_errors=True)
        binaries.mkdir()
        with draft.timed("compile"):
            built = compile_in_container(
                source=plan.source.folder,
                project=plan.project,
                target_name=plan.target.name,
                flags=plan.flags,
                cmake_options=plan.options,
                tools=plan.tools,
                out=binaries,
                log=plan.log,
            )
        draft.manifest.details["container"] = dict(built.facts)
        # Which engine it was changes nothing about a binary.
        compiler = {name: value for name, value in built.facts.items() if name != "engine"}
        return Compiled(binaries, built.files, compiler)


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what would change binaries behind the build's key."""
    return {
        name: value
        for name, value in environment.items()
        if name not in CHANGES_BINARIES and not name.startswith(("CMAKE_", "GIT_"))
    }


def _configure(plan: Plan, setup: CompilerSetup, environment: Mapping[str, str]) -> None:
    options = {
        **plan.options,
        **setup.cmake_options,
        "EDGEQUANT_LLAMA_CPP": str(plan.source.folder),
        "CMAKE_MAKE_PROGRAM": str(build_program("ninja")),
    }
    if launcher := _ccache():
        options["CMAKE_C_COMPILER_LAUNCHER"] = options["CMAKE_CXX_COMPILER_LAUNCHER"] = launcher
    # Written only after success: a configuration that was cut off is made from the start.
    mark = plan.folder / "configured.json"
    text = json.dumps(options, indent=2)
    if mark.is_file() and mark.read_text(encoding="utf-8") == text:
        return
    mark.unlink(missing_ok=True)
    argv: list[str | Path] = [build_program("cmake"), "--fresh", "-G", "Ninja"]
    argv += ["-S", plan.folder / "project", "-B", plan.folder / "build"]
    argv += [f"-D{name}={value}" for name, value in options.items()]
    # CMake's first checks make zig compile its C and C++ libraries for a new target: a minute.
    with task(f"Preparing the compiler for {plan.target.name}") as shown:
        run_logged(
            argv,
            log=plan.log,
            error=BuildError,
            what=f"configuring the build for {plan.target.name}",
            env=environment,
            on_line=lambda line: _show_configuring(line, plan.target.name, shown),
        )
    mark.write_text(text, encoding="utf-8")


def _show_configuring(line: str, target: str, shown: Task) -> None:
    if "Detecting CXX compile features - done" in line:
        shown.describe(f"Configuring llama.cpp for {target}")


def _compile(plan: Plan, environment: Mapping[str, str]) -> None:
    goals = [*plan.tools]
    if plan.target.linkage == "shared":
        goals.append("edgequant-libllama")
    failure: list[str] = []
    with task(f"Compiling for {plan.target.name}") as shown:

        def on_line(line: str) -> None:
            show_ninja_progress(line, shown)
            collect_failure(line, failure)

        try:
            run_logged(
                [build_program("ninja"), "-C", plan.folder / "build", "-j", str(_jobs()), *goals],
                log=plan.log,
                error=BuildError,
                what=f"compiling for {plan.target.name}",
                env={**environment, "NINJA_STATUS": "[%f/%t] "},
                on_line=on_line,
            )
        except BuildError as error:
            if failure:
                # Other jobs were still running when one failed, so the last lines say little.
                raise explain_failure(failure, plan.target.name, plan.log) from error
            raise


def _ccache() -> str | None:
    return shutil.which("ccache")


def _ccache_environment() -> dict[str, str]:
    if _ccache() is None:
        return {}
    return {
        "CCACHE_DIR": os.environ.get("CCACHE_DIR", str(cache_root() / "ccache")),
        # Paths below the cache are hashed relative to it, so that a rebuilt tree hits.
        "CCACHE_BASEDIR": str(cache_root()),
        "CCACHE_NOHASHDIR": "true",
        "CCACHE_SLOPPINESS": "time_macros",
    }


def _jobs() -> int:
    """As many compilers at once as there are processors, if memory suffices for them."""
    processors = len(os.sched_getaffinity(0))
    return max(1, min(processors + 1, available_memory_bytes() // JOB_MEMORY_BYTES))
