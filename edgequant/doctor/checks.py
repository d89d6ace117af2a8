"""What is installed here, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgequant.core.disk import free_bytes
from edgequant.core.errors import ToolMissingError
from edgequant.core.install_hints import install_command
from edgequant.core.paths import cache_root
from edgequant.core.process import run_captured

MINIMUM_PYTHON = (3, 11)
NEEDED_FREE_BYTES = 6_000_000_000


@dataclass(frozen=True)
class Check:
    """One thing that edgequant uses."""

    name: str
    ok: bool
    detail: str
    """A version, a path, or what it is for where it is missing."""
    install: str | None = None
    """The command that installs it on this system; None where it is there."""
    required: bool = True
    """Without it the demo cannot run."""
    group: str = "base"
    """What it is for: one of :data:`GROUPS`."""

    def as_dict(self) -> dict[str, object]:
        """The check as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class PackageNeed:
    """A Python package and what needs it."""

    name: str
    module: str
    extra: str
    purpose: str
    required: bool = True
    group: str = "base"


@dataclass(frozen=True)
class ProgramNeed:
    """A program and what needs it: any one of ``names`` will do."""

    names: tuple[str, ...]
    debian_package: str
    purpose: str
    required: bool = True
    group: str = "virtual board"


GROUPS = (
    "base",
    "way: zig",
    "way: gcc",
    "way: container",
    "virtual board",
    "optional",
)

PACKAGES: tuple[PackageNeed, ...] = (
    PackageNeed("pip", "pip", "", "fetches llama.cpp's source"),
    PackageNeed("fabric", "fabric", "", "boards over SSH"),
    PackageNeed("pandas", "pandas", "", "tables of tokens and answers"),
    PackageNeed("pyarrow", "pyarrow", "", "tables as Parquet files"),
    PackageNeed("huggingface_hub", "huggingface-hub", "", "pull: models and data sets of a hub"),
    PackageNeed("torch", "torch", "convert", "quantize: converts the model"),
    PackageNeed("transformers", "transformers", "convert", "quantize: converts the model"),
    PackageNeed("sentencepiece", "sentencepiece", "convert", "quantize: reads the tokenizer"),
    PackageNeed("safetensors", "safetensors", "convert", "quantize: reads the weights"),
    PackageNeed("matplotlib", "matplotlib", "report", "report: the figures"),
    PackageNeed("jinja2", "jinja2", "", "texts of prompts, the report's page"),
    PackageNeed("cmake", "cmake", "build", "build, also with gcc", group="way: zig"),
    PackageNeed("ninja", "ninja", "build", "build, also with gcc", group="way: zig"),
    PackageNeed("ziglang", "ziglang", "build", "build: the cross compiler", group="way: zig"),
    PackageNeed(
        "pyelftools",
        "elftools",
        "build",
        "build: checks the binaries, of every way",
        True,
        "way: zig",
    ),
)

PROGRAMS: tuple[ProgramNeed, ...] = (
    ProgramNeed(("qemu-system-aarch64",), "qemu-system-arm", "the virtual board"),
    ProgramNeed(("mke2fs", "/usr/sbin/mke2fs"), "e2fsprogs", "the virtual board's disk"),
    ProgramNeed(("dpkg-deb",), "dpkg", "the virtual board's image"),
    ProgramNeed(("apt-get",), "apt", "the virtual board's image"),
    ProgramNeed(("ssh-keygen",), "openssh-client", "the virtual board's keys"),
    ProgramNeed(
        ("qemu-aarch64-static", "qemu-aarch64"),
        "qemu-user-static",
        "running a board's binaries here: after each build, and in the self-test",
        False,
        "optional",
    ),
    ProgramNeed(("ccache",), "ccache", "compiling again in less time", False, "optional"),
    ProgramNeed(("sshd", "/usr/sbin/sshd"), "openssh-server", "SSH tests", False, "optional"),
    ProgramNeed(("cc", "gcc", "clang"), "gcc", "tests of the binary checks", False, "optional"),
)

ENGINE_SECONDS = 15.0


def checks() -> list[Check]:
    """Look at this machine; nothing heavy is imported and nothing is changed."""
    found = [
        check_python(sys.version_info[:2]),
        *(check_package(need) for need in PACKAGES),
        check_disk(cache_root()),
        check_source(),
        check_cross_gcc(),
        check_engines(),
        check_base_image_maker(),
        *(check_program(need) for need in PROGRAMS),
        check_builds(cache_root()),
    ]
    return sorted(found, key=lambda check: GROUPS.index(check.group))


def missing_required(found: list[Check]) -> list[Check]:
    """Those checks whose failure keeps the demo from running."""
    return [check for check in found if check.required and not check.ok]


def check_python(version: tuple[int, ...]) -> Check:
    """Is Python new enough?"""
    ok = version >= MINIMUM_PYTHON
    return Check(
        "python",
        ok,
        platform.python_version(),
        None if ok else install_command("python3.11"),
    )


def check_package(
    need: PackageNeed, version_of: Callable[[str], str] = importlib.metadata.version
) -> Check:
    """Is a Python package installed in the environment that runs edgequant?"""
    requirement = f"edgequant[{need.extra}]" if need.extra else "edgequant"
    install = f"{sys.executable} -m pip install '{requirement}'"
    try:
        version = version_of(need.name)
    except importlib.metadata.PackageNotFoundError:
        detail = f"missing; for {need.purpose}"
        return Check(need.name, False, detail, install, need.required, need.group)
    if importlib.util.find_spec(need.module) is None:
        detail = f"{version} is installed but cannot be imported"
        again = f"{install} --force-reinstall"
        return Check(need.name, False, detail, again, need.required, need.group)
    return Check(need.name, True, version, None, need.required, need.group)


def check_program(need: ProgramNeed, which: Callable[[str], str | None] = shutil.which) -> Check:
    """Is a program on the PATH?"""
    for name in need.names:
        path = which(name)
        if path is not None:
            return Check(need.names[0], True, path, None, need.required, need.group)
    return Check(
        need.names[0],
        False,
        f"missing; for {need.purpose}",
        install_command(need.debian_package),
        need.required,
        need.group,
    )


def check_cross_gcc(which: Callable[[str], str | None] = shutil.which) -> Check:
    """Is there a gcc for 64-bit ARM (on such a machine, its own)?"""
    from edgequant.build.ways.compilers.gcc import CROSS_PREFIX, find_programs, gcc_package

    group, name = "way: gcc", f"{CROSS_PREFIX}g++"
    try:
        path = str(find_programs(for_host=False, which=which).cxx)
    except ToolMissingError:
        detail = "missing; for build --with gcc"
        install = install_command(gcc_package(for_host=False), which=which)
        return Check(name, False, detail, install, required=False, group=group)
    return Check(name, True, path, None, required=False, group=group)


def check_engines(
    which: Callable[[str], str | None] = shutil.which,
    answer: Callable[[str, tuple[str, ...]], str | None] | None = None,
) -> Check:
    """Does any one of the container engines work?

    Args:
        which: finds programs.
        answer: runs a program with arguments; what it prints, or None where it fails.
    """
    from edgequant.build.ways.containers.engine import ENGINE_NAMES, QUESTIONS

    group = "way: container"
    answer = answer or _answer
    silent: list[str] = []
    for engine in ENGINE_NAMES:
        path = which(engine)
        if path is None:
            continue
        said = answer(path, QUESTIONS[engine])
        if said is not None:
            version = said.removeprefix(f"{engine} version ").split(" ")[0]
            detail = f"{engine} {version}".strip()
            if silent:
                detail += f" ({', '.join(silent)} installed, but not answering)"
            return Check("container engine", True, detail, None, required=False, group=group)
        silent.append(engine)
    install = install_command("buildah", which=which)
    if silent:
        detail = f"{', '.join(silent)} installed, but not answering; for build --with container"
        install = f"start its service, or {install}"
    else:
        detail = f"none of {', '.join(ENGINE_NAMES)}; for build --with container"
    return Check("container engine", False, detail, install, required=False, group=group)


def _answer(program: str, arguments: tuple[str, ...]) -> str | None:
    said = run_captured([program, *arguments], timeout_seconds=ENGINE_SECONDS, apart=True)
    return " ".join(said.output.split()) if said.status == 0 else None


def check_base_image_maker(which: Callable[[str], str | None] = shutil.which) -> Check:
    """Can the container's base image be made where no registry is reached?"""
    path = which("mmdebstrap")
    return Check(
        "mmdebstrap",
        path is not None,
        path or "missing; for build --with container where no registry can be reached",
        None if path is not None else install_command("mmdebstrap", which=which),
        required=False,
        group="way: container",
    )


def check_source() -> Check:
    """Which llama.cpp is pinned, and is it here already? Not yet is no fault."""
    from edgequant.build.source.lock import load_lock
    from edgequant.build.source.tree import is_fetched
    from edgequant.core.errors import EdgequantError

    try:
        lock = load_lock()
    except EdgequantError as error:
        return Check("llama.cpp", False, error.cause, f"correct {error.subject}")
    state = "in the cache" if is_fetched(lock) else "fetched by the first build, 75 MB"
    detail = f"{lock.llama_cpp_commit} of {lock.project} {lock.version}, {state}"
    return Check("llama.cpp", True, detail, None)


def check_disk(folder: Path) -> Check:
    """Is there room for two builds, the models and the runs?"""
    free = free_bytes(folder)
    ok = free >= NEEDED_FREE_BYTES
    return Check(
        "free disk",
        ok,
        f"{free / 1e9:.1f} GB in {folder}"
        + ("" if ok else f", at least {NEEDED_FREE_BYTES / 1e9:.0f} GB are wanted"),
        None if ok else "free some space, or set EDGEQUANT_CACHE to a folder on another disk",
    )


def check_builds(cache: Path) -> Check:
    """How many builds are there already that would be found again? None is no fault."""
    from edgequant.build.matrix import cached_builds
    from edgequant.core.errors import EdgequantError

    try:
        counts = Counter(build.target for build in cached_builds(cache))
    except EdgequantError as error:
        return Check("builds", True, f"not known: {error.cause}", None, False, "optional")
    detail = ", ".join(f"{target} {count}" for target, count in sorted(counts.items()))
    return Check("builds", True, detail or "none yet", None, False, "optional")
