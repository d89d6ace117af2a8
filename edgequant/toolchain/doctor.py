"""What is installed here, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgequant.core.paths import cache_root

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


@dataclass(frozen=True)
class ProgramNeed:
    """A program and what needs it: any one of ``names`` will do."""

    names: tuple[str, ...]
    debian_package: str
    purpose: str
    required: bool = True


PACKAGES: tuple[PackageNeed, ...] = (
    PackageNeed("cmake", "cmake", "build", "build"),
    PackageNeed("ninja", "ninja", "build", "build"),
    PackageNeed("ziglang", "ziglang", "build", "build: the cross compiler"),
    PackageNeed("pyelftools", "elftools", "build", "build: checks the binaries"),
    PackageNeed("fabric", "fabric", "", "boards over SSH"),
    PackageNeed("polars", "polars", "", "tables of tokens and answers"),
    PackageNeed("torch", "torch", "convert", "quantize: converts the model"),
    PackageNeed("transformers", "transformers", "convert", "quantize: converts the model"),
    PackageNeed("sentencepiece", "sentencepiece", "convert", "quantize: reads the tokenizer"),
    PackageNeed("safetensors", "safetensors", "convert", "quantize: reads the weights"),
    PackageNeed("matplotlib", "matplotlib", "report", "report: the figures"),
    PackageNeed("jinja2", "jinja2", "report", "report: the page"),
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
        "running a board's binaries here, in tests",
        required=False,
    ),
    ProgramNeed(("ccache",), "ccache", "compiling again in less time", required=False),
    ProgramNeed(("sshd", "/usr/sbin/sshd"), "openssh-server", "SSH tests", required=False),
    ProgramNeed(("cc", "gcc", "clang"), "gcc", "tests of the binary checks", required=False),
)


def checks() -> list[Check]:
    """Look at this machine; nothing heavy is imported and nothing is changed."""
    return [
        check_python(sys.version_info[:2]),
        *(check_package(need) for need in PACKAGES),
        *(check_program(need) for need in PROGRAMS),
        check_disk(cache_root()),
        check_builds(cache_root()),
    ]


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
        return Check(need.name, False, f"missing; for {need.purpose}", install, need.required)
    if importlib.util.find_spec(need.module) is None:
        detail = f"{version} is installed but cannot be imported"
        return Check(need.name, False, detail, f"{install} --force-reinstall", need.required)
    return Check(need.name, True, version, None, need.required)


def check_program(need: ProgramNeed, which: Callable[[str], str | None] = shutil.which) -> Check:
    """Is a program on the PATH?"""
    for name in need.names:
        path = which(name)
        if path is not None:
            return Check(need.names[0], True, path, None, need.required)
    return Check(
        need.names[0],
        False,
        f"missing; for {need.purpose}",
        install_command(need.debian_package),
        need.required,
    )


def install_command(
    debian_package: str,
    *,
    which: Callable[[str], str | None] = shutil.which,
    user_id: int | None = None,
) -> str:
    """How to install a system package here.

    Args:
        debian_package: its name in Debian.
        which: finds programs.
        user_id: who would run it; root needs no sudo.
    """
    user_id = os.getuid() if user_id is None else user_id
    if which("apt-get") is None:
        return f"install what Debian calls {debian_package} with this system's package manager"
    return f"{'' if user_id == 0 else 'sudo '}apt-get install --yes {debian_package}"


def check_disk(folder: Path) -> Check:
    """Is there room for two builds, the models and the runs?"""
    free = shutil.disk_usage(folder).free
    ok = free >= NEEDED_FREE_BYTES
    return Check(
        "free disk",
        ok,
        f"{free / 1e9:.1f} GB in {folder}"
        + ("" if ok else f", at least {NEEDED_FREE_BYTES / 1e9:.0f} GB are wanted"),
        None if ok else "free some space, or set EDGEQUANT_CACHE to a folder on another disk",
    )


def check_builds(cache: Path) -> Check:
    """Which builds are there already? None is no fault."""
    import json

    found: list[str] = []
    for manifest in sorted((cache / "artefacts" / "build").glob("*/manifest.json")):
        try:
            parameters = json.loads(manifest.read_bytes())["parameters"]
            found.append(f"{parameters['target']} ({manifest.parent.name})")
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return Check("builds", True, ", ".join(found) or "none yet", None, required=False)
