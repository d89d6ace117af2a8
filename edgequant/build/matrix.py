"""The support matrix: which target is for what, which way builds it here, what is built."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgequant.build.plan import RECIPE, STAGE
from edgequant.build.recipe import sha256_of_project
from edgequant.build.source.lock import load_lock
from edgequant.build.targets.isa import features
from edgequant.build.targets.target import HOST, Target, target_names
from edgequant.core.errors import EdgequantError
from edgequant.core.json_file import read_json
from edgequant.core.paths import data_folder


@dataclass(frozen=True)
class WayState:
    """Whether one way can build a target here."""

    way: str
    available: bool
    detail: str
    """Which programs it would use, or what is missing."""


@dataclass(frozen=True)
class CachedBuild:
    """A build that lies in the cache."""

    target: str
    key: str
    way: str
    llama_cpp_commit: str
    tools: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One target."""

    target: str
    description: str
    architecture: str
    """``aarch64``, or this machine's for ``host``."""
    isa: tuple[str, ...]
    features: tuple[str, ...]
    """Names of the kernel's features that a board's CPU must show."""
    boards: tuple[str, ...]
    ways: tuple[WayState, ...]
    builds: tuple[CachedBuild, ...]

    def as_dict(self) -> dict[str, object]:
        """The row as plain values."""
        return asdict(self)


def make_matrix(
    targets: Iterable[Target],
    boards: Mapping[str, str],
    ways: Callable[[Target], list[WayState]],
    builds: Iterable[CachedBuild],
    *,
    machine: str | None = None,
) -> list[Row]:
    """The matrix, those for boards first, from what needs least to what needs most.

    Args:
        targets: all of them.
        boards: name of each board to the target its profile says.
        ways: tells of a target how it can be built here.
        builds: those in the cache.
        machine: what ``uname -m`` says here.
    """
    builds = list(builds)
    rows = [
        Row(
            target=target.name,
            description=target.description,
            architecture=(machine or platform.machine()) if target.is_host else target.architecture,
            isa=target.isa,
            features=tuple(sorted(features(target) or ())),
            boards=tuple(sorted(name for name, said in boards.items() if said == target.name)),
            ways=tuple(ways(target)),
            builds=tuple(build for build in builds if build.target == target.name),
        )
        for target in targets
    ]
    return sorted(rows, key=lambda row: (row.target == HOST, len(row.features), row.target))


def ways_here(target: Target, which: Callable[[str], str | None] = shutil.which) -> list[WayState]:
    """How a target can be built here: by what is installed; nothing is run."""
    return [
        WayState("zig", *_asked(lambda: _zig(target))),
        WayState("gcc", *_asked(lambda: _gcc(target))),
        WayState("container", *_container(target, which)),
    ]


def _asked(look: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, look()
    except EdgequantError as error:
        step = f": {error.next_step}" if error.next_step else ""
        return False, f"{error.cause}{step}"


def _zig(target: Target) -> str:
    from edgequant.build.ways.compilers import Zig, build_program

    compiler = Zig()
    compiler.flags(target)
    for name in ("cmake", "ninja"):
        build_program(name)
    return f"zig {compiler.identity(target)['version']}"


def _gcc(target: Target) -> str:
    from edgequant.build.ways.compilers import Gcc, build_program
    from edgequant.build.ways.compilers.gcc import find_programs

    Gcc().flags(target)
    for name in ("cmake", "ninja"):
        build_program(name)
    return str(find_programs(for_host=target.is_host).cxx)


def _container(target: Target, which: Callable[[str], str | None]) -> tuple[bool, str]:
    from edgequant.build.ways.containers import ENGINE_NAMES

    if target.is_host:
        return False, "containers build for boards, not for this machine"
    if not target.gcc.flags:
        return False, "its file has no [gcc] flags, which the container's compiler needs"
    found = [name for name in ENGINE_NAMES if which(name) is not None]
    if not found:
        return False, f"none of {', '.join(ENGINE_NAMES)} is installed: edgequant doctor says how"
    return True, ", ".join(found)


def cached_builds(cache: Path) -> list[CachedBuild]:
    """The builds in a cache that a build of today could find again.

    They are of targets that there are, and were made with today's recipe and our CMake files of
    today, of the pinned llama.cpp. A manifest that cannot be read is passed over.

    Args:
        cache: the root of the cache.

    Raises:
        SourceError: the lock file is missing or invalid.
    """
    lock = load_lock()
    inputs = {"llama.cpp": lock.sha256, "project": sha256_of_project(data_folder("toolchain"))}
    known = set(target_names())
    found = []
    for manifest in sorted((cache / "artefacts" / STAGE).glob("*/manifest.json")):
        key = manifest.parent.name
        try:
            values = read_json(manifest)
            parameters = values["parameters"]
            if (
                # Whoever is still writing one does so below another name than its key.
                values["key"] != key
                or values["inputs"] != inputs
                or values["llama_cpp_commit"] != lock.llama_cpp_commit
                or parameters["recipe"] != RECIPE
                or parameters["target"] not in known
            ):
                continue
            found.append(
                CachedBuild(
                    target=str(parameters["target"]),
                    key=key,
                    way=str(parameters["compiler"]["name"]),
                    llama_cpp_commit=lock.llama_cpp_commit,
                    tools=tuple(str(tool) for tool in parameters["tools"]),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
