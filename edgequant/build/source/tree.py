"""Get the llama.cpp source: fetch the pinned archive, check it, unpack it safely."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgequant.build.source.lock import SourceLock
from edgequant.build.source.package_index import download
from edgequant.build.source.requirements import find_programs, missing, missing_files
from edgequant.core.errors import SourceError
from edgequant.core.hashing import sha256_file
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root, expand_user
from edgequant.core.progress import task

COMPLETE_MARK = ".edgequant-complete"
TREE_IN_ARCHIVE = "vendor/llama.cpp"
TREE_HEADER = "include/llama.h"
UNKNOWN_COMMIT = "unknown"
WAITING = "Waiting for another edgequant that fetches the same source"
# What a build reads; the rest (models, docs, media) changes nothing about a binary.
HASHED_PARTS = (
    *("CMakeLists.txt", "cmake", "common", "ggml", "include", "scripts", "src", "tools", "vendor"),
)
MODULE_HEAD = ".git/modules/vendor/llama.cpp/HEAD"
CHANGELOG = "CHANGELOG.md"
COMMIT_DIGITS = 9
SMALL_FILE_BYTES = 4_000_000
DOWNLOAD_PREFIX = "download-"
_DOWNLOAD_OWNER = re.compile(rf"{DOWNLOAD_PREFIX}(\d{{1,9}})-")
UNPACK_BY_HAND = "unpack it and name the folder: --source FOLDER"
FETCH_AGAIN = f"fetch it again; if it is a zip or of another kind, {UNPACK_BY_HAND}"


@dataclass(frozen=True)
class SourceTree:
    """An unpacked llama.cpp."""

    folder: Path
    """Root of the llama.cpp tree."""
    commit: str
    sha256: str
    """SHA-256 of the archive it came from, or of the files that a build reads."""


def fetch_source(lock: SourceLock, tools: Iterable[str] = ()) -> SourceTree:
    """The pinned source, downloaded and unpacked into the cache unless it is there already.

    Args:
        lock: which archive.
        tools: programs that are to be built from it, ``edgequant-probe`` among them or not.

    Raises:
        SourceError: it cannot be fetched, has another SHA-256, is unsafe to unpack, or lacks what
            the programs need.
    """
    folder = _folder_of(lock)
    tree = SourceTree(folder, lock.llama_cpp_commit, lock.sha256)
    if not (folder / COMPLETE_MARK).is_file():
        with exclusive(folder.with_name(folder.name + ".lock"), WAITING):
            if not (folder / COMPLETE_MARK).is_file():
                archive = _archive(lock)
                check_sha256(archive, lock.sha256)
                unpack(archive, folder, subtree=TREE_IN_ARCHIVE)
                (folder / COMPLETE_MARK).write_text(lock.sha256 + "\n", encoding="ascii")
    check_tree(folder, tools, name=f"{lock.project} {lock.version}")
    return tree


def is_fetched(lock: SourceLock) -> bool:
    """Whether a pinned source lies in the cache, unpacked."""
    return (_folder_of(lock) / COMPLETE_MARK).is_file()


def _folder_of(lock: SourceLock) -> Path:
    return sources_folder() / f"{lock.project}-{lock.version}-{lock.sha256[:12]}"


def local_source(path: Path, tools: Iterable[str] = ()) -> SourceTree:
    """Any llama.cpp: a checkout, or a tarball of one (also a llama-cpp-python source archive).

    Args:
        path: the folder or the tarball.
        tools: programs that are to be built from it, ``edgequant-probe`` among them or not.

    Raises:
        SourceError: it is missing, or lacks what a build of the programs needs.
    """
    path = expand_user(path)
    if path.is_dir():
        folder = path.resolve()
        if not (folder / TREE_HEADER).is_file():
            inner = folder / TREE_IN_ARCHIVE
            folder = inner if inner.is_dir() else folder
        check_tree(folder, tools, name=path)
        return SourceTree(folder, commit_of_checkout(folder), _sha256_of_parts(folder))
    if not path.is_file():
        raise SourceError(
            "there is no such folder or archive",
            subject=path,
            next_step="name the folder of a llama.cpp checkout, or a tar archive of one; without "
            "--source the pinned one is taken",
        )
    sha256 = sha256_file(path)
    folder = sources_folder() / f"local-{sha256[:16]}"
    mark = folder / COMPLETE_MARK
    with exclusive(folder.with_name(folder.name + ".lock"), WAITING):
        if not mark.is_file():
            unpack(path, folder, subtree=None)
            # Not kept where it is no llama.cpp at all: it would only take up space.
            if missing_files(folder):
                try:
                    check_tree(folder, tools, name=path)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
            mark.write_text(f"{sha256}\n{commit_of_archive(path)}\n", encoding="ascii")
    check_tree(folder, tools, name=path)
    known = mark.read_text(encoding="ascii").split()
    return SourceTree(folder, known[1] if len(known) > 1 else UNKNOWN_COMMIT, sha256)


def check_tree(folder: Path, tools: Iterable[str], *, name: object) -> None:
    """Insist that a llama.cpp has what building some programs needs.

    Args:
        folder: root of the tree.
        tools: the programs, ``edgequant-probe`` among them or not.
        name: what the user calls it, for the message.

    Raises:
        SourceError: it lacks something; the message names all of it.
    """
    wanted = set(tools)
    lacking = missing(folder, wanted)
    if not lacking:
        return
    if missing_files(folder):
        # Where whole files are absent, what else is missing says nothing more.
        raise SourceError(
            f"is no llama.cpp that edgequant can build: it lacks {', '.join(lacking)}",
            subject=name,
            next_step="name the root of a llama.cpp checkout or source archive that has them, "
            "for example a newer one",
        )
    has = sorted(find_programs(folder).names)
    raise SourceError(
        f"this llama.cpp lacks {'; '.join(lacking)}",
        subject=name,
        next_step=f"name one of its programs with --tool: {', '.join(has)}; or take another "
        "llama.cpp, most often a newer one",
    )


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

    What an earlier process, ended half-way, left of the same folder is removed: whoever calls
    this for a folder that others may want holds a lock.

    Args:
        archive: a tar file, compressed or not.
        folder: where the tree is to be; it appears whole or not at all.
        subtree: only this folder below the archive's single top folder; None looks for
            llama.cpp itself, also where the archive has no top folder.

    Raises:
        SourceError: not a tar file, an unsafe member, or nothing to unpack.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft_prefix = f"{folder.name}.draft-"
    for stale in [p for p in folder.parent.iterdir() if p.name.startswith(draft_prefix)]:
        shutil.rmtree(stale, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=draft_prefix, dir=folder.parent))
    try:
        # The draft itself is readable for nobody else; this is the tree if there is no top folder.
        root = draft / "root"
        root.mkdir()
        with task(f"Unpacking {archive.name}") as shown, _opened(archive) as stream:
            members = stream.getmembers()
            for member in members:
                _normalise(member)
                check_member(member, archive)
            members = [m for m in members if m.name != "."]
            names = {m.name for m in members}
            if subtree is None:
                prefix = _find_tree(names, archive)
            else:
                prefix = f"{_top_folder(names, archive)}/{subtree}/"
            wanted = [m for m in members if m.name.startswith(prefix)]
            if not wanted:
                raise SourceError(f"has no {prefix}", subject=archive, next_step=UNPACK_BY_HAND)
            shown.update(0, total=len(wanted))
            for member in wanted:
                _extract(stream, member, root)
                shown.advance()
        if folder.exists():
            shutil.rmtree(folder)
        (root / prefix).rename(folder)
    except tarfile.TarError as error:
        raise SourceError(
            f"cannot be unpacked: {error}", subject=archive, next_step=FETCH_AGAIN
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _normalise(member: tarfile.TarInfo) -> None:
    """Name a member without ``.`` parts (``./a`` is ``a``); ``..`` and a leading ``/`` stay."""
    member.name = str(PurePosixPath(member.name))
    if member.islnk():
        # Named from the archive's root, as members are.
        member.linkname = str(PurePosixPath(member.linkname))


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
        return SourceError(
            f"unsafe member {member.name!r}: {reason}",
            subject=archive,
            next_step="fetch it from where its makers publish it; if you trust this one, "
            f"{UNPACK_BY_HAND}",
        )

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


def fetch_archive(lock: SourceLock) -> Path:
    """The archive in the cache, or downloaded by pip as the user has configured it.

    Raises:
        SourceError: it cannot be fetched, or has another SHA-256.
        DiskFullError: the disk is full.
    """
    folder = _folder_of(lock)
    with exclusive(folder.with_name(folder.name + ".lock"), WAITING):
        return _archive(lock)


def _archive(lock: SourceLock) -> Path:
    name = re.sub(r"[-_.]+", "_", lock.project)
    archive = sources_folder() / f"{name}-{lock.version}.tar.gz"
    if archive.is_file() and sha256_file(archive) == lock.sha256:
        return archive
    archive.unlink(missing_ok=True)
    with download_folder() as temporary:
        found = download(lock, temporary)
        check_sha256(found, lock.sha256)
        found.replace(archive)
    return archive


@contextlib.contextmanager
def download_folder() -> Iterator[Path]:
    """A folder beside the archives for what a block fetches; removed after it.

    Those of processes that were killed before they could remove theirs are removed, too.
    """
    folder = sources_folder()
    for path in folder.iterdir():
        owner = _DOWNLOAD_OWNER.match(path.name)
        if owner is not None and not _runs(int(owner[1])):
            shutil.rmtree(path, ignore_errors=True)
    prefix = f"{DOWNLOAD_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as temporary:
        yield Path(temporary)


def _runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Another user's.
        return True
    return True


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive) as stream:
            yield stream
    except (tarfile.ReadError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise SourceError(
            f"is not a whole tar archive: {error}", subject=archive, next_step=FETCH_AGAIN
        ) from error


def _top_folder(names: Iterable[str], archive: Path) -> str:
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1:
        raise SourceError(
            f"has {len(tops)} top folders, a source archive has one",
            subject=archive,
            next_step=UNPACK_BY_HAND,
        )
    return tops.pop()


def _find_tree(names: set[str], archive: Path) -> str:
    """What the names of llama.cpp's files start with: nothing, or folders and a slash."""
    # Without a top folder, as `tar -C llama.cpp -c .` makes it.
    for prefix in ("", f"{TREE_IN_ARCHIVE}/"):
        if f"{prefix}{TREE_HEADER}" in names:
            return prefix
    top = _top_folder(names, archive)
    inner = f"{top}/{TREE_IN_ARCHIVE}/"
    return inner if f"{inner}{TREE_HEADER}" in names else f"{top}/"


def commit_of_checkout(folder: Path) -> str:
    """The commit that a git checkout (or submodule, or worktree) stands at, without needing git."""
    try:
        git = folder / ".git"
        if git.is_file():
            git = folder / git.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
        text = (git / "HEAD").read_text(encoding="ascii").strip()
        if text.startswith("ref: "):
            text = _read_reference(git, text.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        return UNKNOWN_COMMIT
    return _short(text)


def _read_reference(git: Path, name: str) -> str:
    common = git
    if (git / "commondir").is_file():
        common = git / (git / "commondir").read_text(encoding="utf-8").strip()
    if (common / name).is_file():
        return (common / name).read_text(encoding="ascii")
    for line in (common / "packed-refs").read_text(encoding="utf-8").splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name:
            return commit
    return ""


def commit_of_archive(archive: Path) -> str:
    """The llama.cpp commit that a source archive carries, or ``unknown``.

    Read from the submodule's HEAD or else the change log (llama-cpp-python's archives), or from
    the comment that ``git archive`` leaves. Nothing is unpacked.

    Raises:
        SourceError: it is not a whole tar file.
    """
    head = changelog = ""
    top = ""
    with _opened(archive) as stream:
        comment = str(stream.pax_headers.get("comment", ""))
        for member in stream:
            name = str(PurePosixPath(member.name))
            if name == ".":
                continue
            top = top or name.partition("/")[0]
            if not member.isfile() or member.size > SMALL_FILE_BYTES:
                continue
            # Without a top folder, both stand at the root.
            inside = name if name in (MODULE_HEAD, CHANGELOG) else name.partition("/")[2]
            if inside in (MODULE_HEAD, CHANGELOG):
                content = stream.extractfile(member)
                text = "" if content is None else content.read().decode("utf-8", "replace")
                if inside == MODULE_HEAD:
                    head = text
                else:
                    changelog = text
    version = re.search(r"-(\d[0-9A-Za-z.+!]*)$", top)
    found = _short(head)
    if found == UNKNOWN_COMMIT and version is not None:
        found = _short(commit_in_changelog(changelog, version[1]) or "")
    return found if found != UNKNOWN_COMMIT else _short(comment)


def commit_in_changelog(text: str, version: str) -> str | None:
    """The newest llama.cpp commit under a version's heading of llama-cpp-python's change log."""
    section = re.search(
        rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    # The newest change stands first.
    match = re.search(r"llama\.cpp@([0-9a-f]{7,40})\b", section[1] if section else "")
    return match[1] if match else None


def _short(commit: str) -> str:
    text = commit.strip()
    return text[:COMMIT_DIGITS] if re.fullmatch("[0-9a-f]{7,40}", text) else UNKNOWN_COMMIT


def _sha256_of_parts(folder: Path) -> str:
    digest = hashlib.sha256()
    for part in HASHED_PARTS:
        top = folder / part
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file())
        for file in files:
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(bytes.fromhex(sha256_file(file)))
    return digest.hexdigest()
