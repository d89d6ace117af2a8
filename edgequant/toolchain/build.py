"""Build llama.cpp's tools and the probe for a target, once, and find them again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.core.artefact import Artefact, ArtefactDraft, Store, artefact_key
from edgequant.core.errors import BuildError, DiskFullError
from edgequant.core.hashing import sha256_json, sha256_tree
from edgequant.core.paths import cache_root, data_folder
from edgequant.core.process import run_logged
from edgequant.core.progress import Task, say, task
from edgequant.toolchain.compilers import Compiler, CompilerSetup, build_program, make_compiler
from edgequant.toolchain.lock import load_lock
from edgequant.toolchain.source import SourceTree, fetch_source, local_source
from edgequant.toolchain.targets import Target, load_target

STAGE = "build"
PROBE = "edgequant-probe"
LIBRARY = "libllama.so"
# Raise it when a change here makes other binaries from the same inputs.
RECIPE = 1
NEEDED_BYTES = 1_500_000_000
JOB_MEMORY_BYTES = 1_000_000_000
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
    with _tree_lock(plan.folder), store.lock(STAGE, key):
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
