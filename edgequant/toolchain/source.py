"""Get the llama.cpp source: fetch the pinned archive, check it, unpack it safely."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgequant.core.errors import SourceError
from edgequant.core.hashing import sha256_file
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root
from edgequant.core.process import run_logged
from edgequant.core.progress import Task, task
from edgequant.toolchain.lock import SourceLock

COMPLETE_MARK = ".edgequant-complete"
TREE_IN_ARCHIVE = "vendor/llama.cpp"
UNKNOWN_COMMIT = "unknown"
WAITING = "Waiting for another edgequant that fetches the same source"
# What a build reads; the rest (models, docs, media) changes nothing about a binary.
HASHED_PARTS = ("CMakeLists.txt", "cmake", "common", "ggml", "include", "src", "tools", "vendor")
NEEDED_FILES = (
    "CMakeLists.txt",
    "include/llama.h",
    "ggml/include/ggml.h",
    "src/CMakeLists.txt",
    "common/CMakeLists.txt",
    "tools/CMakeLists.txt",
    "convert_hf_to_gguf.py",
)


@dataclass(frozen=True)
class SourceTree:
    """An unpacked llama.cpp."""

    folder: Path
    """Root of the llama.cpp tree."""
    commit: str
    sha256: str
    """SHA-256 of the archive it came from, or of the files that a build reads."""


def fetch_source(lock: SourceLock) -> SourceTree:
    """The pinned source, downloaded and unpacked into the cache unless it is there already.

    Raises:
        SourceError: it cannot be fetched, has another SHA-256, or is unsafe to unpack.
    """
    folder = sources_folder() / f"{lock.project}-{lock.version}-{lock.sha256[:12]}"
    tree = SourceTree(folder, lock.llama_cpp_commit, lock.sha256)
    if (folder / COMPLETE_MARK).is_file():
        return tree
    with exclusive(folder.with_name(folder.name + ".lock"), WAITING):
        if (folder / COMPLETE_MARK).is_file():
            return tree
        archive = _archive(lock)
        check_sha256(archive, lock.sha256)
        unpack(archive, folder, subtree=TREE_IN_ARCHIVE)
        _check_tree(folder)
        (folder / COMPLETE_MARK).write_text(lock.sha256 + "\n", encoding="ascii")
    return tree


def local_source(path: Path) -> SourceTree:
    """Any llama.cpp: a checkout, or a tarball of one (also a llama-cpp-python source archive).

    Raises:
        SourceError: it is missing, or lacks what a build needs.
    """
    path = path.expanduser()
    if path.is_dir():
        folder = path.resolve()
        if not (folder / "include" / "llama.h").is_file():
            inner = folder / TREE_IN_ARCHIVE
            folder = inner if inner.is_dir() else folder
        _check_tree(folder)
        return SourceTree(folder, _commit_of_checkout(folder), _sha256_of_parts(folder))
    if not path.is_file():
        raise SourceError("there is no such folder or archive", subject=path)
    sha256 = sha256_file(path)
    folder = sources_folder() / f"local-{sha256[:16]}"
    with exclusive(folder.with_name(folder.name + ".lock"), WAITING):
        if not (folder / COMPLETE_MARK).is_file():
            unpack(path, folder, subtree=None)
            _check_tree(folder)
            (folder / COMPLETE_MARK).write_text(sha256 + "\n", encoding="ascii")
    return SourceTree(folder, UNKNOWN_COMMIT, sha256)


def sources_folder() -> Path:
    """Where archives and unpacked trees are kept; made if absent."""
    folder = cache_root() / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_sha256(archive: Path, expected: str) -> None:
    """Compare an archive with its pin; another file is removed, so that none trusts it later.

    Raises:
        SourceError: it has another SHA-256.
    """
    found = sha256_file(archive)
    if found != expected:
        archive.unlink()
        raise SourceError(
            f"has SHA-256 {found}, the lock file says {expected}; it was removed",
            subject=archive,
            next_step="run again to fetch it anew; if it stays so, someone changed the archive",
        )


def unpack(archive: Path, folder: Path, *, subtree: str | None) -> None:
    """Unpack a source archive, refusing members that could write anywhere else.

    Args:
        archive: a tar file, compressed or not.
        folder: where the tree is to be; it appears whole or not at all.
        subtree: only this folder below the archive's single top folder; None looks for
            llama.cpp itself.

    Raises:
        SourceError: not a tar file, an unsafe member, or nothing to unpack.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.draft-", dir=folder.parent))
    try:
        with task(f"Unpacking {archive.name}") as shown, _opened(archive) as stream:
            members = stream.getmembers()
            for member in members:
                check_member(member, archive)
            top = _top_folder(members, archive)
            prefix = f"{top}/{subtree or _find_tree(members, top)}".rstrip("/") + "/"
            wanted = [m for m in members if m.name.startswith(prefix)]
            if not wanted:
                raise SourceError(f"has no {prefix}", subject=archive)
            shown.update(0, total=len(wanted))
            for member in wanted:
                _extract(stream, member, draft)
                shown.advance()
        if folder.exists():
            shutil.rmtree(folder)
        (draft / prefix).rename(folder)
    except tarfile.TarError as error:
        raise SourceError(f"cannot be unpacked: {error}", subject=archive) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _extract(stream: tarfile.TarFile, member: tarfile.TarInfo, draft: Path) -> None:
    """Write one checked member, as ours and with ordinary permissions."""
    if hasattr(tarfile, "data_filter"):
        stream.extract(member, draft, filter="data")
        return
    # Python 3.11.0 to 3.11.3, Debian 12's among them, have no filters: the same by hand.
    parent = (draft / member.name).parent
    if not parent.resolve().is_relative_to(draft.resolve()):
        raise tarfile.TarError(f"{member.name!r} would be written through a link, outside")
    member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    stream.extract(member, draft)


def check_member(member: tarfile.TarInfo, archive: Path) -> None:
    """Refuse an archive member that is not a plain file, folder or inward link.

    Raises:
        SourceError: an absolute path, one with ``..``, a link that leads out, or a device.
    """

    def refuse(reason: str) -> SourceError:
        return SourceError(f"unsafe member {member.name!r}: {reason}", subject=archive)

    path = PurePosixPath(member.name)
    if path.is_absolute() or "\\" in member.name:
        raise refuse("an absolute path")
    if ".." in path.parts:
        raise refuse("leads out of its folder")
    if member.issym() or member.islnk():
        if PurePosixPath(member.linkname).is_absolute():
            raise refuse(f"a link to the absolute path {member.linkname!r}")
        # A hard link is named from the archive's root, a symbolic one from its own folder.
        start = [] if member.islnk() else list(path.parent.parts)
        for part in PurePosixPath(member.linkname).parts:
            if part != "..":
                start.append(part)
            elif start:
                start.pop()
            else:
                raise refuse(f"a link to {member.linkname!r}, outside the archive")
    elif not (member.isfile() or member.isdir()):
        raise refuse("neither a file nor a folder")


def _archive(lock: SourceLock) -> Path:
    """The archive in the cache, or downloaded by pip as the user has configured it."""
    name = re.sub(r"[-_.]+", "_", lock.project)
    archive = sources_folder() / f"{name}-{lock.version}.tar.gz"
    if archive.is_file() and sha256_file(archive) == lock.sha256:
        return archive
    archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=sources_folder()) as temporary:
        found = _download(lock, Path(temporary))
        check_sha256(found, lock.sha256)
        found.replace(archive)
    return archive


# pip will not save a source archive before it has asked the archive's build backend for its
# name and version. This stands in for that backend: nothing from the archive is executed and
# nothing else is installed.
_BACKEND = """\
import os
import pathlib


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    name = os.environ["EDGEQUANT_PIP_PROJECT"]
    version = os.environ["EDGEQUANT_PIP_VERSION"]
    folder = pathlib.Path(metadata_directory, f"{name.replace('-', '_')}-{version}.dist-info")
    folder.mkdir()
    folder.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    )
    return folder.name


def build_wheel(*_arguments, **_settings):
    raise RuntimeError("only the source is wanted")
"""


def _download(lock: SourceLock, folder: Path) -> Path:
    stub = folder / "backend"
    for module in ("scikit_build_core/build", "setuptools/build_meta", "mesonpy/__init__"):
        file = stub / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(_BACKEND, encoding="utf-8")
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{lock.project}=={lock.version} --hash=sha256:{lock.sha256}\n", encoding="ascii"
    )
    log = folder.parent / "download.log"
    log.unlink(missing_ok=True)
    with task(f"Downloading the source of {lock.project} {lock.version}", unit="bytes") as shown:
        argv = [sys.executable, "-m", "pip", "download", "--no-input", "--require-hashes"]
        argv += ["--no-deps", "--no-binary", lock.project, "--no-build-isolation"]
        argv += ["--progress-bar", "raw", "--dest", str(folder), "--requirement", str(requirements)]
        run_logged(
            argv,
            log=log,
            error=SourceError,
            what=f"downloading {lock.project} {lock.version} with pip",
            env={
                **os.environ,
                "PYTHONPATH": str(stub),
                "EDGEQUANT_PIP_PROJECT": lock.project,
                "EDGEQUANT_PIP_VERSION": lock.version,
            },
            on_line=lambda line: show_pip_progress(line, shown),
            next_step="check the network and pip's configuration (pip config list)",
        )
    archives = sorted(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise SourceError(f"pip saved {len(archives)} archives instead of one", subject=log)
    return archives[0]


def show_pip_progress(line: str, shown: Task) -> None:
    """Feed a line of ``pip --progress-bar raw`` (``Progress 1000 of 2000``) to a bar."""
    match = re.fullmatch(r"\s*Progress (\d+) of (\d+)\s*", line)
    if match is not None:
        shown.update(int(match[1]), total=int(match[2]))


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as stream:
            yield stream
    except (tarfile.ReadError, EOFError) as error:
        raise SourceError(f"is not a whole tar archive: {error}", subject=archive) from error


def _top_folder(members: list[tarfile.TarInfo], archive: Path) -> str:
    tops = {PurePosixPath(m.name).parts[0] for m in members if PurePosixPath(m.name).parts}
    if len(tops) != 1:
        raise SourceError(f"has {len(tops)} top folders, a source archive has one", subject=archive)
    return tops.pop()


def _find_tree(members: list[tarfile.TarInfo], top: str) -> str:
    names = {m.name for m in members}
    return TREE_IN_ARCHIVE if f"{top}/{TREE_IN_ARCHIVE}/include/llama.h" in names else ""


def _check_tree(folder: Path) -> None:
    missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
    if missing:
        raise SourceError(
            f"is no llama.cpp that edgequant can build: it lacks {', '.join(missing)}",
            subject=folder,
            next_step="name the root of a llama.cpp checkout or source archive",
        )


def _commit_of_checkout(folder: Path) -> str:
    """The commit that a git checkout stands at, read without needing git."""
    head = folder / ".git" / "HEAD"
    try:
        text = head.read_text(encoding="ascii").strip()
        if text.startswith("ref: "):
            text = (folder / ".git" / text.removeprefix("ref: ")).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return UNKNOWN_COMMIT
    return text.strip()[:9] or UNKNOWN_COMMIT


def _sha256_of_parts(folder: Path) -> str:
    digest = hashlib.sha256()
    for part in HASHED_PARTS:
        top = folder / part
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for file in files:
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(bytes.fromhex(sha256_file(file)))
    return digest.hexdigest()
