"""The image that the container build starts from: the pinned one, or one made here.

Which of them it is gets decided once and is written down, so that the same build keeps the same
key with and without a network.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgequant.build.ways.containers.engine import Engine, containers_folder, temporary_folder
from edgequant.core.apt import DebianSource, debian_sources
from edgequant.core.disk import disk_full_explained, require_space
from edgequant.core.errors import BuildError, ToolMissingError
from edgequant.core.files import whole_file, write_json
from edgequant.core.hashing import sha256_file, sha256_json
from edgequant.core.install_hints import install_command
from edgequant.core.json_file import read_json
from edgequant.core.locks import exclusive
from edgequant.core.paths import data_folder
from edgequant.core.process import run_logged
from edgequant.core.progress import say, task

DOCKERFILE_NAME = "Dockerfile.arm64-build"
BASE_VARIABLE = "EDGEQUANT_CONTAINER_BASE"
REGISTRY, MADE = "registry", "made"
SUITE = "bookworm"
COMMON_PACKAGES = ("cmake", "ccache", "ninja-build")
# What images of Debian leave out too.
EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
NEEDED_BYTES = 2_500_000_000
REACH_SECONDS = 4.0
# A registry's first answer: go on, or identify yourself first.
REGISTRY_STATUSES = (200, 401)


@dataclass(frozen=True)
class BaseImage:
    """What the tools' stage starts from."""

    reference: str
    """What the engine calls it. Says what is in it: by a registry's digest, or for one made here by
    a hash over all packages and versions."""
    archive: Path | None = None
    """The tar file that it was made as here; None for an image of a registry."""


def dockerfile() -> Path:
    """The Dockerfile: in a checkout at its root, in an installed wheel inside the package.

    Raises:
        BuildError: it is missing.
    """
    path = data_folder("toolchain").parent / DOCKERFILE_NAME
    if not path.is_file():
        raise BuildError(
            "is missing", subject=path, next_step="install edgequant again, or check the file out"
        )
    return path


def pinned_reference(text: str) -> str:
    """The base image that a Dockerfile's text pins.

    Raises:
        BuildError: it pins none.
    """
    match = re.search(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE)
    if match is None:
        raise BuildError("has no line ARG BASE_IMAGE=...", subject=DOCKERFILE_NAME)
    return match[1]


def base_image() -> BaseImage:
    """The base image to use; where none was chosen yet, choose, and make it if it has to be.

    ``$EDGEQUANT_CONTAINER_BASE`` decides: ``registry`` for the pinned image, ``made`` for one made
    here, or any other image's name. Otherwise the pinned image is used if its registry can be
    reached the first time that this is asked.

    Raises:
        ToolMissingError: no registry can be reached, and what makes an image is not installed.
        BuildError: making it failed.
        DiskFullError: there is too little space for it.
    """
    pinned = pinned_reference(dockerfile().read_text(encoding="utf-8"))
    wanted = os.environ.get(BASE_VARIABLE) or _decided(pinned)
    if wanted == REGISTRY:
        return BaseImage(pinned)
    if wanted == MADE:
        return make_base_image()
    return BaseImage(wanted)


def _decided(pinned: str) -> str:
    decision = _decision_file()
    decided = _read_decision(decision)
    if decided is not None:
        return decided
    with exclusive(containers_folder() / "base.lock", "Waiting for another edgequant"):
        # Whoever had the lock may have decided meanwhile.
        decided = _read_decision(decision)
        if decided is not None:
            return decided
        chosen = REGISTRY if registry_answers(pinned) else MADE
        if chosen == MADE:
            _check_maker(pinned)
            say(f"The registry of {pinned.partition('@')[0]} cannot be reached from here:")
            say(f"a base image of Debian {SUITE} is made with mmdebstrap, once.")
        with disk_full_explained(decision.parent):
            write_json(decision, {"base": chosen})
    return chosen


def _decision_file() -> Path:
    return containers_folder() / "base.json"


def _read_decision(file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        decided = read_json(file)["base"]
        if decided in (REGISTRY, MADE):
            return str(decided)
    return None


def without_registry(base: BaseImage) -> str | None:
    """What to do where an engine cannot have an image of a registry; None for one made here."""
    if base.archive is not None:
        return None
    step = f"set {BASE_VARIABLE}={MADE}"
    if not os.environ.get(BASE_VARIABLE):
        step += f", or delete {_decision_file()} to have it decided again"
    return step


def registry_host(reference: str) -> str:
    """The host that an image is pulled from."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        # The default registry answers under another name than its images have.
        return "registry-1.docker.io" if first == "docker.io" else first
    return "registry-1.docker.io"


def registry_answers(reference: str) -> bool:
    """Does the registry of an image answer as registries do?"""
    import httpx

    try:
        answer = httpx.get(f"https://{registry_host(reference)}/v2/", timeout=REACH_SECONDS)
    except (httpx.HTTPError, OSError):
        return False
    return answer.status_code in REGISTRY_STATUSES


def packages(machine: str) -> tuple[str, ...]:
    """Debian's packages with the compiler and what drives it, for a machine that builds."""
    compiler = "g++" if machine == "aarch64" else "g++-aarch64-linux-gnu"
    return tuple(sorted((compiler, *COMMON_PACKAGES)))


def make_base_image() -> BaseImage:
    """An image of Debian with the tools, made once from the mirrors that this machine's apt uses.

    Raises:
        ToolMissingError: mmdebstrap is not installed.
        BuildError: it failed.
        DiskFullError: there is too little space.
    """
    wanted = {"suite": SUITE, "packages": packages(platform.machine()), "left out": EXCLUDED_PATHS}
    folder = containers_folder() / "bases" / sha256_json(wanted)[:12]
    found = _load(folder)
    if found is not None:
        return found
    with exclusive(folder.with_name(folder.name + ".lock"), "Another edgequant makes the image"):
        found = _load(folder)
        if found is None:
            _make(folder)
            found = _load(folder)
    if found is None:
        raise BuildError("the base image that was made vanished", subject=folder)
    return found


def _load(folder: Path) -> BaseImage | None:
    """An image made earlier; its facts are written last, so it is whole if they are there."""
    try:
        facts = read_json(folder / "facts.json")
        archive = folder / "base.tar"
        if archive.stat().st_size != facts["bytes"]:
            return None
        return BaseImage(f"localhost/edgequant-base:{facts['packages_sha256'][:16]}", archive)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_maker(pinned: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ToolMissingError(
            f"the registry of {pinned.partition('@')[0]} cannot be reached, and mmdebstrap, which "
            "makes a base image without one, is not installed",
            next_step=f"{install_command('mmdebstrap')}, or name an image that the engine has: "
            f"{BASE_VARIABLE}=NAME, or build with --with zig",
        )


def _make(folder: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ToolMissingError(
            "mmdebstrap, which makes the base image, is not installed",
            next_step=install_command("mmdebstrap"),
        )
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder, NEEDED_BYTES, "making a base image")
    (folder / "facts.json").unlink(missing_ok=True)
    log = folder / "mmdebstrap.log"
    log.unlink(missing_ok=True)
    scratch = folder / "tmp"
    remove_unmounted(scratch)
    scratch.mkdir(exist_ok=True)
    try:
        with (
            disk_full_explained(folder),
            task(f"Making a base image of Debian {SUITE}") as shown,
            whole_file(folder / "base.tar") as partial,
        ):
            run_logged(
                mmdebstrap_argv(
                    partial, packages(platform.machine()), sources_of(debian_sources())
                ),
                log=log,
                error=BuildError,
                what="making the base image",
                env={**os.environ, "TMPDIR": str(scratch)},
                on_line=lambda line: (
                    shown.describe(f"Making a base image: {line.removeprefix('I: ').rstrip('. ')}")
                    if line.startswith("I: ")
                    else None
                ),
                next_step=f"can apt here reach Debian's packages? The whole log: {log}",
            )
            installed = installed_packages(partial)
            facts = {
                "bytes": partial.stat().st_size,
                "sha256": sha256_file(partial),
                "packages_sha256": sha256_json(installed),
                "packages": installed,
            }
        write_json(folder / "facts.json", facts)
    finally:
        remove_unmounted(scratch)


def remove_unmounted(folder: Path, mounts: str | None = None) -> None:
    """Remove what a killed run left, but never through something that is still mounted in it.

    Args:
        folder: may be absent.
        mounts: the text of /proc/self/mountinfo, by default this machine's.
    """
    if mounts is None:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    # Spaces are written in octal there.
    inside = str(folder.resolve()).replace(" ", "\\040") + "/"
    if not any(line.split()[4].startswith(inside) for line in mounts.splitlines() if line):
        shutil.rmtree(folder, ignore_errors=True)


def mmdebstrap_argv(
    archive: Path, wanted: tuple[str, ...], sources: tuple[str, ...]
) -> list[str | Path]:
    """Command line that makes a tar file of a minimal Debian with some packages."""
    argv: list[str | Path] = ["mmdebstrap", "--variant=minbase", "--format=tar"]
    argv.append(f"--include={','.join(wanted)}")
    argv += [f"--dpkgopt=path-exclude={path}" for path in EXCLUDED_PATHS]
    # Device files cannot be unpacked by an engine without root, and every engine brings its own.
    argv.append("--skip=output/dev")
    return [*argv, SUITE, archive, *sources]


def sources_of(found: Iterable[DebianSource], suite: str = SUITE) -> tuple[str, ...]:
    """Lines of sources.list for a Debian release with its updates, from what apt fetches here.

    Nothing where apt does not know the release: mmdebstrap then asks Debian's own servers.
    """
    releases = (suite, f"{suite}-updates", f"{suite}-security")
    ours = [source for source in found if source.release in releases]
    # Updates alone are no Debian.
    complete = any(source.release == suite for source in ours)
    return tuple(dict.fromkeys(source.line() for source in ours)) if complete else ()


def installed_packages(archive: Path) -> list[str]:
    """``NAME=VERSION`` of all that is installed in a tar file of a Debian.

    Raises:
        BuildError: it is not one.
    """
    try:
        with tarfile.open(archive) as stream:
            for name in ("./var/lib/dpkg/status", "var/lib/dpkg/status"):
                with contextlib.suppress(KeyError):
                    member = stream.extractfile(name)
                    if member is not None:
                        return parse_status(member.read().decode("utf-8", errors="replace"))
    except (OSError, tarfile.TarError) as error:
        raise BuildError(f"cannot be read: {error}", subject=archive) from error
    raise BuildError("has no list of installed packages", subject=archive)


def parse_status(text: str) -> list[str]:
    """``NAME=VERSION`` of each package in dpkg's status file, sorted."""
    found: list[str] = []
    for paragraph in text.split("\n\n"):
        fields: Mapping[str, str] = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z]\S*: ", line)
        )
        if "Package" in fields and "Version" in fields:
            found.append(f"{fields['Package']}={fields['Version']}")
    return sorted(found)


def provide(base: BaseImage, engine: Engine, log: Path) -> None:
    """Let the engine have an image that was made here; one of a registry it fetches itself.

    Raises:
        BuildError: the engine could not take it in.
    """
    if base.archive is None or engine.has_image(base.reference):
        return
    with task(f"Handing the base image to {engine.name}"):
        # A folder with nothing else: the engine is sent all of it.
        text = "FROM scratch\nADD base.tar /\n"
        file = temporary_folder() / f"base-{os.getpid()}.Dockerfile"
        context = base.archive.parent / "context"
        context.mkdir(exist_ok=True)
        linked = context / "base.tar"
        try:
            file.write_text(text, encoding="ascii")
            if not (linked.is_file() and linked.samefile(base.archive)):
                linked.unlink(missing_ok=True)
                linked.hardlink_to(base.archive)
            engine.build(
                file, context, log=log, what="taking in the base image", tag=base.reference
            )
        finally:
            file.unlink(missing_ok=True)
