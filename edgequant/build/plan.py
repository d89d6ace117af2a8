"""All that decides what a build's binaries are: it becomes the build's key."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from edgequant.build.recipe import LIBRARY, cmake_options, sha256_of_project
from edgequant.build.source.requirements import PROBE
from edgequant.build.source.tree import SourceTree
from edgequant.build.targets.target import Target
from edgequant.core.artefact import Recipe
from edgequant.core.errors import BuildError
from edgequant.core.hashing import sha256_json
from edgequant.core.paths import data_folder

STAGE = "build"
# Raise it when a change in this package makes another artefact from the same inputs.
RECIPE = 3


def choose_tools(target: Target, tools: Sequence[str]) -> tuple[str, ...]:
    """The programs to build, each once: those asked for, or else the target's own.

    Raises:
        BuildError: a name is none of a program.
    """
    for tool in tools:
        if tool != PROBE and not re.fullmatch(r"llama-[a-z0-9-]+", tool):
            raise BuildError(
                f"{tool!r} is not the name of a program",
                next_step=f"name {PROBE} or a llama-... program such as llama-cli",
            )
    return tuple(sorted(set(tools or target.tools)))


class Plan:
    """One build: what to build, for which target, from which source.

    Args:
        target: what it is built for.
        source: the llama.cpp it is built from.
        tools: names of programs, see :func:`choose_tools`.
        identity: all of the way of building that can change a binary.
        flags: what the compiler is told to choose the target.
        trees: folder below which builds are compiled.
    """

    def __init__(
        self,
        target: Target,
        source: SourceTree,
        tools: tuple[str, ...],
        *,
        identity: dict[str, str],
        flags: list[str],
        trees: Path,
    ) -> None:
        self.target = target
        self.source = source
        self.tools = tools
        self.project = data_folder("toolchain")
        self.options = cmake_options(target, source)
        self.identity = identity
        self.flags = flags
        self._trees = trees
        self._tree_identity: dict[str, object] = {
            "target": target.name,
            "compiler": identity,
            "flags": flags,
            "cmake": self.options,
        }
        self.inputs = {
            "llama.cpp": source.sha256,
            "project": sha256_of_project(self.project),
        }
        self.parameters: dict[str, object] = {
            **self._tree_identity,
            "recipe": RECIPE,
            "linkage": target.linkage,
            "tools": list(self.tools),
        }

    @property
    def recipe(self) -> Recipe:
        """What finds the artefact again."""
        return Recipe(STAGE, self.inputs, self.parameters, self.source.commit)

    @property
    def folder(self) -> Path:
        """Where it is compiled; kept, so that only what changed is compiled again."""
        identity = sha256_json([self._tree_identity, self.source.sha256])[:12]
        return self._trees / f"{self.target.name}-{identity}"

    @property
    def log(self) -> Path:
        """All that the last attempt printed."""
        return self.folder / "build.log"

    @property
    def architecture(self) -> str:
        """``aarch64``, ``x86_64``."""
        return os.uname().machine if self.target.is_host else self.target.architecture

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all files that the build makes."""
        return self.tools if self.target.linkage == "static" else (*self.tools, LIBRARY)
