"""What a build is made with: CMake's options, and our own files beside llama.cpp."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from edgequant.build.source.tree import SourceTree
from edgequant.build.targets.target import Target
from edgequant.core.hashing import sha256_file, sha256_json, sha256_tree

LIBRARY = "libllama.so"
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


def sha256_of_project(project: Path) -> str:
    """One hash over our own CMake files and the probe."""
    parts = {
        name: sha256_tree(project / name)
        if (project / name).is_dir()
        else sha256_file(project / name)
        for name in PROJECT_FILES
    }
    return sha256_json(parts)


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
