from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.build.source import tree as source_module
from edgequant.build.source.lock import SourceLock
from edgequant.build.source.package_index import show_pip_progress
from edgequant.build.source.requirements import NEEDED_FILES
from edgequant.build.source.tree import (
    check_member,
    check_sha256,
    check_tree,
    commit_in_changelog,
    commit_of_archive,
    commit_of_checkout,
    download_folder,
    fetch_source,
    local_source,
    sources_folder,
    unpack,
)
from edgequant.core.errors import SourceError
from edgequant.core.progress import Task
from tests.build.local_index import tree_files, write_sdist
from tests.build.local_index import write_tree as write_whole_tree

RECORDED = Path(__file__).parent / "recorded"
TOP = "llama_cpp_python-1.2.3"


def write_archive(path: Path, extra: list[tarfile.TarInfo] | None = None) -> Path:
    """A source archive with an (empty) llama.cpp where llama-cpp-python keeps it."""
    with tarfile.open(path, "w:gz") as stream:
        for name in (*(f"vendor/llama.cpp/{n}" for n in NEEDED_FILES), "pyproject.toml"):
            member = tarfile.TarInfo(f"{TOP}/{name}")
            text = BACKEND_PROJECT if name == "pyproject.toml" else name.encode()
            member.size = len(text)
            stream.addfile(member, io.BytesIO(text))
        for member in extra or []:
            stream.addfile(member, io.BytesIO(b"x" * member.size))
    return path


BACKEND_PROJECT = b"""[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"
"""


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


UNSAFE = {
    "absolute": member("/etc/passwd"),
    "upwards": member(f"{TOP}/vendor/llama.cpp/../../../../x"),
    "leading upwards": member("../x"),
    "symbolic link out": member(f"{TOP}/a", tarfile.SYMTYPE, "../../x"),
    "absolute symbolic link": member(f"{TOP}/a", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link out": member(f"{TOP}/a/b/c", tarfile.LNKTYPE, "../x"),
    "character device": member(f"{TOP}/null", tarfile.CHRTYPE),
    "block device": member(f"{TOP}/disk", tarfile.BLKTYPE),
    "pipe": member(f"{TOP}/pipe", tarfile.FIFOTYPE),
    "backslash": member(f"{TOP}\\..\\x"),
    "upwards behind a dot": member("./../x"),
    "symbolic link out behind a dot": member(f"./{TOP}/./a", tarfile.SYMTYPE, "../../x"),
    "hard link out behind a dot": member(f"./{TOP}/a", tarfile.LNKTYPE, "./../x"),
    "device behind a dot": member(f"./{TOP}/null", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("what", UNSAFE)
def test_an_unsafe_member_is_refused_and_nothing_is_left(what: str, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar.gz", [UNSAFE[what]])
    folder = tmp_path / "trees" / "tree"
    with pytest.raises(SourceError, match="unsafe member") as caught:
        unpack(archive, folder, subtree="vendor/llama.cpp")
    assert "--source FOLDER" in str(caught.value.next_step)
    assert list(folder.parent.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "trees"]


@pytest.mark.parametrize(
    "inside",
    [
        member(f"{TOP}/a/b", tarfile.SYMTYPE, "../c"),
        member(f"{TOP}/a/b", tarfile.LNKTYPE, f"{TOP}/c"),
        member(f"{TOP}/a/..b", tarfile.REGTYPE),
    ],
)
def test_links_and_names_that_stay_inside_are_fine(inside: tarfile.TarInfo) -> None:
    check_member(inside, Path("a.tar.gz"))


@given(
    st.lists(st.sampled_from(["a", "b", "..", "."]), max_size=4),
    st.lists(st.sampled_from(["a", "b", "..", "."]), min_size=1, max_size=6),
)
def test_a_link_is_refused_exactly_if_it_leads_out(folder: list[str], link: list[str]) -> None:
    folder = [part for part in folder if part != ".."]
    info = member("/".join(["top", *folder, "link"]), tarfile.SYMTYPE, "/".join(link))
    # normpath folds every ".." that it can: what is left in front leads out of the archive.
    end = os.path.normpath("/".join(["top", *folder, *link]))
    # A path that climbs out and comes back in is refused too.
    depth, lowest = len([p for p in ["top", *folder] if p != "."]), 0
    lowest = depth
    for part in link:
        depth += {"..": -1, ".": 0}.get(part, 1)
        lowest = min(lowest, depth)
    if lowest < 0:
        with pytest.raises(SourceError, match="outside the archive"):
            check_member(info, Path("a.tar.gz"))
    else:
        assert not end.startswith("..")
        check_member(info, Path("a.tar.gz"))


def test_only_the_tree_is_unpacked(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar.gz")
    unpack(archive, tmp_path / "tree", subtree="vendor/llama.cpp")
    assert (tmp_path / "tree" / "include" / "llama.h").read_text().endswith("include/llama.h")
    assert not (tmp_path / "tree" / "pyproject.toml").exists()


def test_a_python_without_tar_filters_unpacks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's Python 3.11.2 has none."""
    script = member(f"{TOP}/vendor/llama.cpp/run.sh")
    script.mode = 0o4777
    archive = write_archive(tmp_path / "a.tar.gz", [script])
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setattr(
        tarfile.TarFile, "extract", lambda self, member, path: real_extract(self, member, path)
    )
    unpack(archive, tmp_path / "tree", subtree="vendor/llama.cpp")
    unpacked = tmp_path / "tree" / "run.sh"
    assert unpacked.stat().st_mode & 0o7777 == 0o755
    assert unpacked.stat().st_uid == os.geteuid()
    assert (tmp_path / "tree" / NEEDED_FILES[0]).is_file()


def test_a_python_without_tar_filters_follows_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two links that each stay inside can lead out together: what is written must not follow."""
    inside = f"{TOP}/vendor/llama.cpp"
    links = [
        member(f"{inside}/d", tarfile.DIRTYPE),
        member(f"{inside}/p/q/r/s", tarfile.SYMTYPE, "../../../d"),
        member(f"{inside}/p/q/r/s/up", tarfile.SYMTYPE, "../../../../../../.."),
        member(f"{inside}/p/q/r/s/up/evil"),
    ]
    archive = write_archive(tmp_path / "a.tar.gz", links)
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with pytest.raises(SourceError):
        unpack(archive, tmp_path / "tree", subtree="vendor/llama.cpp")
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "tree").exists()


def real_extract(stream: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Extraction as Python 3.11.2 has it: no filter, so the archive's mode and owner are used."""
    stream._extract_member(member, str(path / member.name))  # type: ignore[attr-defined]


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(SourceError) as caught:
        unpack(archive, tmp_path / "trees" / "tree", subtree="vendor/llama.cpp")
    assert "fetch it again" in str(caught.value.next_step)
    assert list((tmp_path / "trees").iterdir()) == []


def test_a_file_with_another_hash_is_removed(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"something else")
    with pytest.raises(SourceError, match="SHA-256"):
        check_sha256(archive, "0" * 64)
    assert not archive.exists()


def lock_for(archive: Path) -> SourceLock:
    return SourceLock(
        project="llama-cpp-python",
        version="1.2.3",
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        llama_cpp_commit="0c1e57098",
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is configured to take packages from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_the_archive_comes_from_where_pip_is_configured_to_look(
    own_cache: Path, index: Path
) -> None:
    lock = lock_for(write_archive(index / f"{TOP}.tar.gz"))
    tree = fetch_source(lock)
    assert (tree.folder / "include" / "llama.h").is_file()
    assert tree.commit == "0c1e57098"
    assert (sources_folder() / f"{TOP}.tar.gz").is_file()


def test_the_second_time_nothing_is_fetched(
    own_cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_for(write_archive(index / f"{TOP}.tar.gz"))
    first = fetch_source(lock)

    def no_download(*_: object) -> Path:
        raise AssertionError("downloaded again")

    monkeypatch.setattr(source_module, "download", no_download)
    assert fetch_source(lock) == first


def test_another_archive_under_the_same_name_is_not_kept(own_cache: Path, index: Path) -> None:
    lock = lock_for(write_archive(index / f"{TOP}.tar.gz"))
    write_archive(index / f"{TOP}.tar.gz", [member(f"{TOP}/more")])
    with pytest.raises(SourceError):
        fetch_source(lock)
    assert list(sources_folder().glob("*.tar.gz")) == []
    assert [p for p in sources_folder().iterdir() if p.is_dir()] == []


def test_a_damaged_archive_in_the_cache_is_fetched_anew(own_cache: Path, index: Path) -> None:
    lock = lock_for(write_archive(index / f"{TOP}.tar.gz"))
    (sources_folder() / f"{TOP}.tar.gz").write_bytes(b"half")
    assert (fetch_source(lock).folder / "CMakeLists.txt").is_file()


def test_an_archive_that_nobody_has_is_one_clear_error(own_cache: Path, index: Path) -> None:
    lock = SourceLock(
        project="llama-cpp-python", version="9.9.9", sha256="0" * 64, llama_cpp_commit="0c1e57098"
    )
    with pytest.raises(SourceError, match=r"no source archive of llama-cpp-python"):
        fetch_source(lock)


def write_tree(folder: Path) -> Path:
    for name in NEEDED_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_checkout_is_known_by_its_files_and_commit(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "llama.cpp")
    (tree / ".git" / "refs" / "heads").mkdir(parents=True)
    (tree / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tree / ".git" / "refs" / "heads" / "main").write_text("0123456789" * 4 + "\n")
    before = local_source(tree)
    assert before.commit == "012345678"
    (tree / "README.md").write_text("words")
    assert local_source(tree).sha256 == before.sha256
    (tree / "src" / "llama.cpp").write_text("int x;")
    assert local_source(tree).sha256 != before.sha256


def test_a_tarball_of_a_checkout_will_do(tmp_path: Path, own_cache: Path) -> None:
    write_tree(tmp_path / "llama.cpp-b1")
    archive = tmp_path / "b1.tar.gz"
    with tarfile.open(archive, "w:gz") as stream:
        stream.add(tmp_path / "llama.cpp-b1", "llama.cpp-b1")
    assert (local_source(archive).folder / "include" / "llama.h").is_file()


@pytest.mark.parametrize("inner", ["", "vendor/llama.cpp"])
@pytest.mark.parametrize("name", ["./llama.cpp-b1", ".", ""])
def test_a_tarball_may_name_its_members_in_any_way(
    name: str, inner: str, tmp_path: Path, own_cache: Path
) -> None:
    """`tar -c ./llama.cpp`, `tar -C llama.cpp -c .` and `tar -C llama.cpp -c *`."""
    tree = write_tree(tmp_path / "llama.cpp-b1" / inner)
    (tree / "here").symlink_to("include/llama.h")
    (tree / "same").hardlink_to(tree / "src" / "CMakeLists.txt")
    git = tmp_path / "llama.cpp-b1" / ".git" / "modules" / "vendor" / "llama.cpp"
    git.mkdir(parents=True)
    (git / "HEAD").write_text("b" * 40)
    arguments, start = [name], tmp_path
    if not name.startswith("./"):
        start = tmp_path / "llama.cpp-b1"
        arguments = [name] if name else sorted(path.name for path in start.iterdir())
    archive = tmp_path / "b1.tar.gz"
    subprocess.run(["tar", "-C", start, "-czf", archive, *arguments], check=True)
    found = local_source(archive)
    assert found.commit == "b" * 9
    assert {p.relative_to(found.folder) for p in found.folder.rglob("*")} >= {
        p.relative_to(tree) for p in tree.rglob("*")
    }
    assert (found.folder / "here").read_text() == "include/llama.h"
    assert (found.folder / "same").read_text() == "src/CMakeLists.txt"
    # As any other folder of the user's: not a draft's, which nobody else may read.
    (tmp_path / "any").mkdir()
    assert found.folder.stat().st_mode == (tmp_path / "any").stat().st_mode
    folders = [p for p in sources_folder().iterdir() if p.is_dir()]
    assert folders == [found.folder]


def test_the_pinned_archive_may_name_its_members_with_a_dot(tmp_path: Path) -> None:
    write_tree(tmp_path / TOP / "vendor" / "llama.cpp")
    archive = tmp_path / "a.tar.gz"
    subprocess.run(["tar", "-C", tmp_path, "-czf", archive, f"./{TOP}"], check=True)
    unpack(archive, tmp_path / "tree", subtree="vendor/llama.cpp")
    assert (tmp_path / "tree" / "include" / "llama.h").is_file()


@pytest.mark.parametrize("what", ["zip", "two top folders", "a lone file"])
def test_an_archive_that_is_refused_says_what_to_do(
    what: str, tmp_path: Path, own_cache: Path
) -> None:
    archive = tmp_path / "a"
    if what == "zip":
        with zipfile.ZipFile(archive, "w") as stream:
            stream.writestr("llama.cpp/include/llama.h", "")
    else:
        names = ["./x/README.md", "y/README.md"] if what == "two top folders" else ["README.md"]
        with tarfile.open(archive, "w:gz") as tar:
            for name in names:
                tar.addfile(member(name))
    with pytest.raises(SourceError) as caught:
        local_source(archive)
    assert "unpack it and name the folder" in str(caught.value.next_step)
    assert [p for p in sources_folder().iterdir() if p.is_dir()] == []


def test_what_a_killed_process_left_of_the_same_tree_is_removed(
    tmp_path: Path, own_cache: Path, index: Path
) -> None:
    lock = lock_for(write_archive(index / f"{TOP}.tar.gz"))
    name = f"llama-cpp-python-1.2.3-{lock.sha256[:12]}"
    stale = sources_folder() / f"{name}.draft-abcd_123" / TOP
    # Another's, who may be at work on it: theirs is another lock.
    other = sources_folder() / f"{name[:-1]}.draft-abcd_123"
    stale.mkdir(parents=True)
    other.mkdir()
    tree = fetch_source(lock)
    assert {p for p in sources_folder().iterdir() if p.is_dir()} == {tree.folder, other}


def test_downloads_of_killed_processes_are_removed_and_no_others(own_cache: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    stale = sources_folder() / f"download-{ended.pid}-abcd_123"
    alive = [sources_folder() / f"download-{pid}-abcd_123" for pid in (os.getppid(), 1)]
    for folder in (stale, *alive):
        folder.mkdir()
        (folder / "archive.tar.gz").write_text("half")
    with download_folder() as folder:
        assert f"-{os.getpid()}-" in folder.name
        assert set(sources_folder().iterdir()) == {folder, *alive}
        with download_folder() as second:
            assert folder.is_dir()
            assert second != folder
    assert set(sources_folder().iterdir()) == set(alive)


def test_a_download_is_made_in_such_a_folder(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / "a.tar.gz")
    seen: list[str] = []

    def download(_: SourceLock, folder: Path) -> Path:
        seen.append(folder.name)
        return Path(shutil.copy(archive, folder))

    monkeypatch.setattr(source_module, "download", download)
    fetch_source(lock_for(archive))
    assert [name.startswith(f"download-{os.getpid()}-") for name in seen] == [True]


def test_a_source_that_lacks_something_says_what(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "llama.cpp")
    (tree / "convert_hf_to_gguf.py").unlink()
    with pytest.raises(SourceError, match=r"convert_hf_to_gguf\.py"):
        local_source(tree)


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder") as caught:
        local_source(tmp_path / "none")
    assert "checkout" in str(caught.value.next_step)


def test_pips_progress_moves_the_bar() -> None:
    shown = Task("x", None, "bytes")
    for line in ("Collecting x", "Progress 10 of 40", "  Progress 40 of 40"):
        show_pip_progress(line, shown)
    assert (shown.completed, shown.total) == (40, 40)


@pytest.mark.parametrize(
    ("version", "commit"),
    [
        ("0.3.36", "0c1e57098"),
        # Three updates stand under one heading; the first is the newest.
        ("0.3.35", "4df29be4f"),
        ("0.3.34", "e3546c794"),
        ("0.3", None),
        ("0.3.3", None),
        ("9.9.9", None),
    ],
)
def test_the_commit_of_a_version_is_read_from_the_change_log(
    version: str, commit: str | None
) -> None:
    text = (RECORDED / "llama-cpp-python-changelog.md").read_text(encoding="utf-8")
    assert commit_in_changelog(text, version) == commit


def test_the_archives_own_head_comes_before_its_change_log(tmp_path: Path) -> None:
    changelog = "## [1.2.3]\n\n- update llama.cpp to ggml-org/llama.cpp@aaaaaaa\n"
    archive = write_sdist(tmp_path / "a.tar.gz", "1.2.3", commit="b" * 40, changelog=changelog)
    assert commit_of_archive(archive) == "b" * 9
    archive = write_sdist(tmp_path / "b.tar.gz", "1.2.3", changelog=changelog)
    assert commit_of_archive(archive) == "aaaaaaa"
    assert commit_of_archive(write_archive(tmp_path / "c.tar.gz")) == "unknown"


def test_the_commit_that_git_archive_leaves_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", pax_headers={"comment": "c" * 40}) as stream:
        stream.addfile(tarfile.TarInfo("llama.cpp-c/x"))
    assert commit_of_archive(path) == "c" * 9


def test_a_local_archive_says_its_commit_also_the_second_time(
    tmp_path: Path, own_cache: Path
) -> None:
    archive = write_sdist(tmp_path / "a.tar.gz", "1.2.3", commit="b" * 40)
    assert local_source(archive).commit == "b" * 9
    assert local_source(archive).commit == "b" * 9


@pytest.mark.parametrize("kind", ["submodule", "worktree", "packed", "detached", "broken"])
def test_the_commit_of_every_kind_of_checkout_is_read(kind: str, tmp_path: Path) -> None:
    tree, git, commit = tmp_path / "llama.cpp", tmp_path / "git", "d" * 40
    tree.mkdir()
    git.mkdir()
    if kind in ("submodule", "worktree"):
        (tree / ".git").write_text("gitdir: ../git\n")
    else:
        git.rmdir()
        git = tree / ".git"
        git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/x\n" if kind != "detached" else commit)
    if kind == "worktree":
        (git / "commondir").write_text("../main\n")
        git = tmp_path / "main"
    if kind == "packed":
        (git / "packed-refs").write_text(f"# pack-refs\n{'e' * 40} refs/y\n{commit} refs/heads/x\n")
    elif kind != "broken":
        (git / "refs" / "heads").mkdir(parents=True)
        (git / "refs" / "heads" / "x").write_text(commit + "\n")
    assert commit_of_checkout(tree) == ("unknown" if kind == "broken" else "d" * 9)


def test_a_source_is_asked_for_what_is_to_be_built(tmp_path: Path, own_cache: Path) -> None:
    files = tree_files()
    files["include/llama.h"] = files["include/llama.h"].replace("llama_decode(", "llama_run(")
    tree = write_whole_tree(tmp_path / "llama.cpp", files)
    assert local_source(tree, ["llama-bench"]).folder == tree
    for tools, lacks in (
        (["edgequant-probe"], "llama_decode in include/llama.h"),
        (["llama-completion", "llama-later"], "the program llama-later"),
    ):
        with pytest.raises(SourceError, match=lacks) as caught:
            local_source(tree, tools)
        assert caught.value.subject == str(tree)
        assert "llama-bench" in str(caught.value.next_step)


def test_an_archive_that_is_no_llama_cpp_is_not_kept(tmp_path: Path, own_cache: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as stream:
        stream.addfile(tarfile.TarInfo("top/README.md"))
    with pytest.raises(SourceError, match="that edgequant can build"):
        local_source(archive)
    assert [p for p in sources_folder().iterdir() if p.is_dir()] == []


def test_a_pinned_source_is_asked_each_time(own_cache: Path, index: Path) -> None:
    lock = lock_for(write_sdist(index / f"{TOP}.tar.gz", "1.2.3", tree=tree_files(("llama-cli",))))
    folder = fetch_source(lock, ["llama-cli", "edgequant-probe"]).folder
    with pytest.raises(SourceError, match=r"llama-cpp-python 1\.2\.3: .*the program llama-bench"):
        fetch_source(lock, ["llama-bench"])
    check_tree(folder, ["llama-cli"], name="x")
