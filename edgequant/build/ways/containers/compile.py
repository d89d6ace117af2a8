"""Compile a target's programs inside a container, and say what they were compiled with."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.build.bill.linked import files_from_records
from edgequant.build.recipe import copy_project
from edgequant.build.source.tree import HASHED_PARTS
from edgequant.build.ways.containers.base_image import (
    BaseImage,
    base_image,
    dockerfile,
    provide,
    without_registry,
)
from edgequant.build.ways.containers.engine import (
    Engine,
    containers_folder,
    find_engine,
)
from edgequant.build.ways.ninja import collect_failure, explain_failure, show_ninja_progress
from edgequant.core.disk import disk_full_explained, require_space
from edgequant.core.errors import BuildError
from edgequant.core.hashing import sha256_file
from edgequant.core.locks import exclusive
from edgequant.core.progress import task

# CMake reads the licences, to have them printed by the programs.
LICENCE_PARTS = ("LICENSE", "licenses")
CACHE_IMAGE = "localhost/edgequant-build"
NEEDED_BYTES = 4_000_000_000
WORK_PREFIX = "work-"
# Names inside the image.
BUILD_THERE = "/build"
TREE_THERE = "/src/llama.cpp"
WAITING = "Another edgequant builds in a container; waiting for it"


@dataclass(frozen=True)
class ContainerBuild:
    """What is known of programs that were built in a container."""

    facts: Mapping[str, str]
    """Engine, base image, versions, hashes of the libraries linked in."""
    files: Mapping[str, set[str]]
    """Program to the files of llama.cpp's tree that were compiled for it."""


def container_identity() -> dict[str, str]:
    """All of the container way that can change a binary: the same for every engine.

    No engine is run for it. Where no base image was chosen yet, it is, and one that has to be made
    here is made.

    Raises:
        ToolMissingError: no registry can be reached, and what makes an image is not installed.
        BuildError: making the base image failed.
        DiskFullError: there is too little space for it.
    """
    return {
        "dockerfile": sha256_file(dockerfile()),
        "base_image": base_image().reference,
        "platform": platform.machine(),
    }


def compile_in_container(
    *,
    source: Path,
    project: Path,
    target_name: str,
    flags: Sequence[str],
    cmake_options: Mapping[str, str],
    tools: Sequence[str],
    out: Path,
    log: Path,
) -> ContainerBuild:
    """Build programs with ``Dockerfile.arm64-build`` and put them into a folder.

    Args:
        source: root of the llama.cpp tree.
        project: our own CMake files and the probe.
        target_name: for messages.
        flags: what the compiler is told to choose the target.
        cmake_options: all other options that decide what the binaries are.
        tools: the programs, which become ``out/NAME``.
        out: an existing folder.
        log: file that the engine's output is appended to.

    Raises:
        TargetError: the variable that chooses the engine names none.
        ToolMissingError: no engine works here.
        BuildError: the engine or the compiler failed; the message has the compiler's own words.
        DiskFullError: the disk is full.
    """
    base = base_image()
    with exclusive(containers_folder() / "build.lock", WAITING), _work_folder() as work:
        with task("Looking for a container engine"):
            engine = find_engine()
        require_space(containers_folder(), NEEDED_BYTES, "a container build")
        engine.clean(images=False)
        with disk_full_explained(work):
            provide(base, engine, log)
            context, tree = work / "context", work / "llama.cpp"
            copy_project(project, context / "toolchain")
            stage_source(source, tree)
            facts = _build(
                engine,
                context=context,
                tree=tree,
                base=base,
                target_name=target_name,
                arguments={
                    "TARGET_FLAGS": " ".join(flags),
                    "TOOLS": " ".join(tools),
                    "CMAKE_OPTIONS": quote_options(cmake_options),
                },
                work=work,
                log=log,
            )
            for tool in tools:
                built = work / "out" / "bin" / tool
                if not built.is_file():
                    raise BuildError(f"{engine.name} wrote no {tool}", subject=log)
                shutil.copyfile(built, out / tool)
                (out / tool).chmod(0o755)
            files = read_records(work / "out" / "records", tools)
        engine.clean(images=True)
    facts = {"engine": str(engine), "base_image": base.reference, **facts}
    return ContainerBuild(facts, files)


def _build(
    engine: Engine,
    *,
    context: Path,
    tree: Path,
    base: BaseImage,
    target_name: str,
    arguments: Mapping[str, str],
    work: Path,
    log: Path,
) -> dict[str, str]:
    file = dockerfile()
    trees = {"llama_cpp": tree}
    with task(f"Preparing the compiler in a container ({engine.name})"):
        engine.build(
            file,
            context,
            log=log,
            what="preparing the compiler in a container",
            build_contexts=trees,
            arguments={"BASE_IMAGE": base.reference},
            target="versions",
            output=_made(work / "versions"),
            next_step=_read_log_or(without_registry(base), log),
        )
    failure: list[str] = []
    with task(f"Compiling for {target_name} ({engine.name})") as shown:

        def on_line(line: str) -> None:
            show_ninja_progress(line, shown)
            collect_failure(line, failure)

        build_stage = functools.partial(
            engine.build,
            file,
            context,
            log=log,
            what=f"compiling for {target_name}",
            build_contexts=trees,
            arguments={"BASE_IMAGE": base.reference, **arguments},
            on_line=on_line,
        )
        try:
            if engine.has_own_storage and engine.keeps_layers:
                # Named, so that cleaning up keeps the layers of the newest build.
                build_stage(target="build", tag=CACHE_IMAGE)
            build_stage(target="collected", output=_made(work / "out"))
        except BuildError as error:
            if failure:
                # What the engine says after it is its own wrapping.
                raise explain_failure(failure, target_name, log) from error
            raise
    return parse_facts((work / "versions" / "versions").read_text(encoding="utf-8"))


def _read_log_or(step: str | None, log: Path) -> str | None:
    return None if step is None else f"{step}; the whole log: {log}"


def read_records(folder: Path, tools: Sequence[str]) -> dict[str, set[str]]:
    """Program to the files of llama.cpp's tree that were compiled for it.

    Args:
        folder: the image's ``/records``: what ninja says of what it compiled.
        tools: names of the programs.
    """
    inputs = {tool: (folder / f"inputs.{tool}").read_text(encoding="utf-8") for tool in tools}
    deps = (folder / "deps").read_text(encoding="utf-8")
    return files_from_records(inputs, deps, build=BUILD_THERE, tree=TREE_THERE)


def quote_options(options: Mapping[str, str]) -> str:
    """CMake options as one line that a shell takes apart again."""
    return shlex.join(f"-D{name}={value}" for name, value in options.items())


def parse_facts(text: str) -> dict[str, str]:
    """What the image's ``/versions`` says: ``name=value`` lines."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            facts[name] = value
    return facts


def stage_source(source: Path, folder: Path) -> None:
    """The parts of a llama.cpp tree that a build reads, linked into a folder of their own.

    Other parts (a checkout's history, models, media) would be sent to the engine, and a change
    in them would compile everything again.
    """
    folder.mkdir(parents=True)
    for name in (*HASHED_PARTS, *LICENCE_PARTS):
        part = source / name
        if part.is_dir():
            shutil.copytree(part, folder / name, symlinks=True, copy_function=_link_or_copy)
        elif part.is_file():
            _link_or_copy(str(part), str(folder / name))


def _link_or_copy(source: str, destination: str) -> None:
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, destination, follow_symlinks=False)


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder for one build; those of builds that were killed are removed (the lock is held)."""
    top = containers_folder()
    for stale in top.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)
    work = top / f"{WORK_PREFIX}{os.getpid()}"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
