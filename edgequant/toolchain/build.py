"""Build llama.cpp's tools and the probe for a target, once, and find them again."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.core.artefact import Artefact, ArtefactDraft, Store, artefact_key
from edgequant.core.errors import BuildError, DiskFullError
from edgequant.core.hashing import sha256_file, sha256_json, sha256_tree
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root, data_folder
from edgequant.core.process import run_logged
from edgequant.core.progress import Task, task
from edgequant.toolchain.compilers import Compiler, CompilerSetup, build_program, make_compiler
from edgequant.toolchain.lock import load_lock
from edgequant.toolchain.source import SourceTree, fetch_source, local_source
from edgequant.toolchain.targets import Target, load_target

STAGE = "build"
PROBE = "edgequant-probe"
LIBRARY = "libllama.so"
# Raise it when a change here makes other binaries from the same inputs.
RECIPE = 1
NEEDED_BYTES = 2_000_000_000
JOB_MEMORY_BYTES = 1_000_000_000
FAILURE_LINES = 30
END_OF_FAILURE = "..."
PROJECT_FILES = ("CMakeLists.txt", "probe")

COMMON_OPTIONS: Mapping[str, str | bool] = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": False,
    "GGML_OPENMP": False,
    "LLAMA_OPENSSL": False,
    "LLAMA_CURL": False,
    "LLAMA_BUILD_UI": False,
    "LLAMA_USE_PREBUILT_UI": False,
    "LLAMA_BUILD_COMMON": True,
    "LLAMA_BUILD_TOOLS": True,
    "LLAMA_BUILD_SERVER": True,
    "LLAMA_BUILD_TESTS": False,
    "LLAMA_BUILD_EXAMPLES": False,
    "LLAMA_BUILD_APP": False,
    "LLAMA_ALL_WARNINGS": False,
    "LLAMA_BUILD_NUMBER": "0",
    "GGML_CCACHE": False,
}


@dataclass(frozen=True)
class Build:
    """Binaries of one target, whole and verified."""

    artefact: Artefact
    target: Target
    source: SourceTree
    reused: bool = False
    """It was found as it is; nothing was compiled."""

    @property
    def key(self) -> str:
        return self.artefact.key

    @property
    def llama_cpp_commit(self) -> str:
        return self.source.commit

    @property
    def binaries(self) -> dict[str, Path]:
        """Name to path of everything that was built."""
        return {
            name.removeprefix("bin/"): self.artefact.folder / name
            for name in self.artefact.manifest.files
            if name.startswith("bin/")
        }

    def binary(self, name: str) -> Path:
        """Path of one binary.

        Raises:
            BuildError: this build does not have it.
        """
        binaries = self.binaries
        if name not in binaries:
            raise BuildError(
                f"has no {name}; it has {', '.join(sorted(binaries))}",
                subject=self.artefact.folder,
                next_step=f"edgequant build --target {self.target.name} --tool {name}",
            )
        return binaries[name]

    @property
    def library(self) -> Path:
        """The shared libllama that a host build has (for ``LLAMA_CPP_LIB_PATH``)."""
        return self.binary(LIBRARY)


def build(
    target: str,
    *,
    tools: Sequence[str] | None = None,
    source: Path | None = None,
    store: Store | None = None,
) -> Build:
    """Build a target's binaries, or find them already built from the very same inputs.

    Args:
        target: name of a target, or of a board that says which one it needs.
        tools: names of llama.cpp's programs and ``edgequant-probe``; by default the target's.
        source: another llama.cpp than the pinned one: a checkout or a tarball.
        store: where artefacts are kept, by default the cache.

    Raises:
        TargetError: no such target.
        SourceError: the source cannot be had, or is not what it should be.
        ToolMissingError: a build package is missing.
        BuildError: configuring or compiling failed.
        AuditError: a binary is not what the target needs.
        DiskFullError: the disk is full.
    """
    store = store if store is not None else Store()
    chosen = load_target(target)
    compiler = make_compiler()
    tree = local_source(source) if source is not None else fetch_source(load_lock())
    names = tuple(sorted(set(tools if tools is not None else chosen.tools)))
    plan = _Plan(chosen, compiler, tree, names)
    key = artefact_key(STAGE, plan.inputs, plan.parameters)
    found = store.find(STAGE, key)
    if found is not None:
        return Build(found, chosen, tree, reused=True)
    waiting = "Another edgequant compiles in the same folder; waiting for it"
    with exclusive(plan.folder / "lock", waiting), store.lock(STAGE, key):
        found = store.find(STAGE, key)
        if found is not None:
            return Build(found, chosen, tree, reused=True)
        _check_disk()
        with store.create(
            STAGE, plan.inputs, plan.parameters, llama_cpp_commit=tree.commit
        ) as draft:
            _make(plan, draft)
    made = store.find(STAGE, key)
    if made is None:
        raise BuildError("the finished build vanished", subject=store.folder(STAGE, key))
    return Build(made, chosen, tree)


class _Plan:
    """All that decides what a build's binaries are, and where they are compiled."""

    def __init__(
        self, target: Target, compiler: Compiler, source: SourceTree, tools: tuple[str, ...]
    ) -> None:
        for tool in tools:
            if tool != PROBE and not re.fullmatch(r"llama-[a-z0-9-]+", tool):
                raise BuildError(
                    f"{tool!r} is not the name of a program",
                    next_step=f"name {PROBE} or a llama-... program such as llama-cli",
                )
        self.target = target
        self.compiler = compiler
        self.source = source
        self.tools = tools
        self.project = data_folder("toolchain")
        self.options = cmake_options(target, source)
        self._tree_identity: dict[str, object] = {
            "recipe": RECIPE,
            "target": target.name,
            "compiler": compiler.identity(target),
            "flags": compiler.flags(target),
            "cmake": self.options,
        }
        self.inputs = {
            "llama.cpp": source.sha256,
            "project": sha256_of_project(self.project),
        }
        self.parameters: dict[str, object] = {
            **self._tree_identity,
            "linkage": target.linkage,
            "tools": list(tools),
        }

    @property
    def folder(self) -> Path:
        """Kept between builds, so that only what changed is compiled again."""
        identity = sha256_json([self._tree_identity, self.source.sha256])[:12]
        return cache_root() / "build-trees" / f"{self.target.name}-{identity}"

    @property
    def architecture(self) -> str:
        return os.uname().machine if self.target.is_host else self.target.architecture


def sha256_of_project(project: Path) -> str:
    """One hash over our own CMake files and the probe."""
    parts = {
        name: sha256_tree(project / name)
        if (project / name).is_dir()
        else sha256_file(project / name)
        for name in PROJECT_FILES
    }
    return sha256_json(parts)


def cmake_options(target: Target, source: SourceTree) -> dict[str, str]:
    """All options that decide what a target's binaries are."""
    options: dict[str, str | bool] = {
        **COMMON_OPTIONS,
        "LLAMA_BUILD_COMMIT": source.commit,
        **target.cmake,
    }
    if target.linkage == "static":
        options["CMAKE_EXE_LINKER_FLAGS"] = "-static"
    else:
        options["EDGEQUANT_SHARED_LIBLLAMA"] = True
    if not target.is_host:
        options["CMAKE_SYSTEM_NAME"] = "Linux"
        options["CMAKE_SYSTEM_PROCESSOR"] = target.architecture
    return {
        name: ("ON" if value else "OFF") if isinstance(value, bool) else value
        for name, value in options.items()
    }


def _make(plan: _Plan, draft: ArtefactDraft) -> None:
    tree = plan.folder
    project, compiled, log = tree / "project", tree / "build", tree / "build.log"
    setup = plan.compiler.prepare(tree / "compiler", plan.target)
    environment = {**os.environ, **setup.environment, **_ccache_environment()}
    log.unlink(missing_ok=True)
    copy_project(plan.project, project)
    try:
        with draft.timed("configure"):
            _configure(plan, setup, environment, log)
        with draft.timed("compile"):
            _compile(plan, compiled, environment, log)
    except BuildError:
        if shutil.disk_usage(tree).free < 50_000_000:
            raise DiskFullError(
                "no space left while compiling",
                subject=tree,
                next_step="free some space and run again: it goes on from here",
            ) from None
        raise
    with draft.timed("audit"):
        _collect(plan, compiled / "bin", draft)
    shutil.copyfile(log, draft.folder / "build.log")
    draft.manifest.details |= {
        "compiler": plan.compiler.identity(plan.target),
        "flags": plan.compiler.flags(plan.target),
        "cmake_options": plan.options,
        "isa": list(plan.target.isa),
        "ccache": bool(_ccache()),
    }


def _configure(
    plan: _Plan, setup: CompilerSetup, environment: Mapping[str, str], log: Path
) -> None:
    tree = plan.folder
    options = {
        **plan.options,
        **setup.cmake_options,
        "EDGEQUANT_LLAMA_CPP": str(plan.source.folder),
        "CMAKE_MAKE_PROGRAM": str(build_program("ninja")),
    }
    if launcher := _ccache():
        options["CMAKE_C_COMPILER_LAUNCHER"] = options["CMAKE_CXX_COMPILER_LAUNCHER"] = launcher
    # Written only after success: a configuration that was cut off is made from the start.
    mark = tree / "configured.json"
    text = json.dumps(options, indent=2)
    if mark.is_file() and mark.read_text(encoding="utf-8") == text:
        return
    mark.unlink(missing_ok=True)
    argv: list[str | Path] = [build_program("cmake"), "--fresh", "-G", "Ninja"]
    argv += ["-S", tree / "project", "-B", tree / "build"]
    argv += [f"-D{name}={value}" for name, value in options.items()]
    # CMake's first checks make zig compile its C and C++ libraries for a new target: a minute.
    with task(f"Preparing the compiler for {plan.target.name}") as shown:
        run_logged(
            argv,
            log=log,
            error=BuildError,
            what=f"configuring the build for {plan.target.name}",
            env=environment,
            on_line=lambda line: _show_configuring(line, plan.target.name, shown),
        )
    mark.write_text(text, encoding="utf-8")


def _show_configuring(line: str, target: str, shown: Task) -> None:
    if "Detecting CXX compile features - done" in line:
        shown.describe(f"Configuring llama.cpp for {target}")


def _compile(plan: _Plan, compiled: Path, environment: Mapping[str, str], log: Path) -> None:
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
                [build_program("ninja"), "-C", compiled, "-j", str(_jobs()), *goals],
                log=log,
                error=BuildError,
                what=f"compiling for {plan.target.name}",
                env={**environment, "NINJA_STATUS": "[%f/%t] "},
                on_line=on_line,
            )
        except BuildError as error:
            if failure:
                # Other jobs were still running when one failed, so the last lines say little.
                raise explain_failure(failure, plan.target.name, log) from error
            raise


def collect_failure(line: str, failure: list[str]) -> None:
    """Keep the lines from ninja's first complaint to the next finished step."""
    if line.startswith(("FAILED:", "ninja: error:")) and not failure:
        failure.append(line)
    elif failure and failure[-1] != END_OF_FAILURE and len(failure) < FAILURE_LINES:
        over = line.startswith(("[", "FAILED:", "ninja:"))
        failure.append(END_OF_FAILURE if over else line)


def explain_failure(lines: Sequence[str], target: str, log: Path) -> BuildError:
    """The error for what ninja printed from its first ``FAILED:`` or ``error:`` on."""
    unknown = re.search(r"unknown target '([^']+)'", lines[0])
    if unknown is not None:
        return BuildError(
            f"this llama.cpp has no program called {unknown[1]}",
            next_step="name one of its tools, for example llama-cli or llama-gguf-split",
        )
    return BuildError(
        f"compiling for {target} failed:\n  " + "\n  ".join(lines).rstrip(),
        subject=log,
        next_step=f"read the whole log: {log}",
    )


def show_ninja_progress(line: str, shown: Task) -> None:
    """Feed a line of ninja (``[12/220] Building CXX object ...``) to a progress bar."""
    match = re.match(r"\[(\d+)/(\d+)\] ", line)
    if match is not None:
        shown.update(int(match[1]), total=int(match[2]))


def _collect(plan: _Plan, binaries: Path, draft: ArtefactDraft) -> None:
    """Audit what was built, then copy it into the artefact."""
    from edgequant.toolchain.audit import audit

    folder = draft.folder / "bin"
    folder.mkdir()
    static = plan.target.linkage == "static"
    names = [*plan.tools] + ([] if static else [LIBRARY])
    facts: dict[str, object] = {}
    for name in names:
        facts[name] = audit(
            binaries / name, architecture=plan.architecture, static=static
        ).as_dict()
        shutil.copy2(binaries / name, folder / name)
    draft.manifest.details["audit"] = facts


def copy_project(project: Path, copy: Path) -> None:
    """Keep a copy at a fixed place, so that every checkout shares one build folder.

    Unchanged files keep their time: ninja then compiles only what did change.
    """
    wanted: set[Path] = set()
    for name in PROJECT_FILES:
        top = project / name
        files = [top] if top.is_file() else [p for p in top.rglob("*") if p.is_file()]
        for file in files:
            relative = file.relative_to(project)
            wanted.add(relative)
            destination = copy / relative
            if not destination.is_file() or destination.read_bytes() != file.read_bytes():
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, destination)
    for file in [p for p in copy.rglob("*") if p.is_file()]:
        if file.relative_to(copy) not in wanted:
            file.unlink()


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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return max(1, min(processors + 1, memory // JOB_MEMORY_BYTES))


def _check_disk() -> None:
    free = shutil.disk_usage(cache_root()).free
    if free < NEEDED_BYTES:
        raise DiskFullError(
            f"a build needs {NEEDED_BYTES / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            subject=cache_root(),
            next_step="free some space, or point EDGEQUANT_CACHE at another disk",
        )
