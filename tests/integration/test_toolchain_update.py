"""Moving the pin, with a real pip and an index on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgequant.build.source import update as update_module
from edgequant.build.source.lock import LOCK_NAME, load_lock, lock_path
from edgequant.build.source.tree import fetch_source, sources_folder
from edgequant.build.source.update import all_tools, lock_to_write, update
from edgequant.cli.app import make_app
from edgequant.core.errors import FileAccessError, SourceError
from edgequant.core.paths import data_folder
from tests.build.local_index import TOOLS, Index, serve, tree_files

pytestmark = pytest.mark.integration

COMMIT = "4df29be4f4c3673f428170fda944a5b19f743bb8"
LOCK = f"""\
# The one pin.
project = "llama-cpp-python"  # on the index
version = '0.3.36'

sha256 = "{"0a" * 32}"
llama_cpp_commit = "0c1e57098"
# The end.
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The only index that pip asks, and a cache of our own."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    with serve(tmp_path / "index") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        yield index


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock.toml"
    path.write_text(LOCK)
    return path


def test_the_lock_names_what_was_fetched_and_its_comments_stay(
    index: Index, lock: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "executed"
    archive = index.add("0.3.37", commit=COMMIT, mark=mark)
    lock.chmod(0o640)
    done = update("0.3.37", lock=lock)
    assert done.written
    assert (done.old.version, done.new.version) == ("0.3.36", "0.3.37")
    assert load_lock(lock) == done.new
    assert done.new.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert done.new.llama_cpp_commit == COMMIT[:9]
    text = lock.read_text()
    assert text.startswith('# The one pin.\nproject = "llama-cpp-python"  # on the index\n')
    assert text.endswith("# The end.\n")
    assert lock.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir() if "lock.toml" in p.name] == ["lock.toml"]
    assert not mark.exists(), "something of the archive was executed"


def test_the_next_build_finds_the_source_in_the_cache(
    index: Index, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("0.3.37", commit=COMMIT)
    done = update("v0.3.37", lock=lock)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert fetch_source(done.new, all_tools()).commit == COMMIT[:9]


def test_a_dry_run_verifies_and_writes_nothing(index: Index, lock: Path) -> None:
    index.add("0.3.37", commit=COMMIT)
    done = update("0.3.37", lock=lock, dry_run=True)
    assert not done.written
    assert done.new.llama_cpp_commit == COMMIT[:9]
    assert lock.read_text() == LOCK


def test_the_commit_is_read_from_the_change_log_where_there_is_no_head(
    index: Index, lock: Path
) -> None:
    changelog = (
        "# Changelog\n\n## [Unreleased]\n\n- feat: update llama.cpp to ggml-org/llama.cpp@1111111\n"
        "\n## [0.3.37]\n\n- fix: x\n- feat: update llama.cpp to ggml-org/llama.cpp@2222222aa\n"
        "- feat: update llama.cpp to ggml-org/llama.cpp@3333333\n\n## [0.3.36]\n"
    )
    index.add("0.3.37", changelog=changelog)
    assert update("0.3.37", lock=lock).new.llama_cpp_commit == "2222222aa"


def refused(lock: Path, version: str = "0.3.37") -> SourceError:
    """The error of an update that leaves the lock as it was, and nothing half-fetched."""
    with pytest.raises(SourceError) as caught:
        update(version, lock=lock)
    assert lock.read_text() == LOCK
    assert not [p for p in sources_folder().iterdir() if p.name.startswith("download-")]
    assert caught.value.next_step
    return caught.value


def test_an_archive_without_a_commit_is_refused(index: Index, lock: Path) -> None:
    index.add("0.3.37", changelog="## [0.3.37]\n\n- fix: x\n")
    assert "which llama.cpp commit" in refused(lock).cause


def test_an_index_that_states_another_hash_is_not_believed(index: Index, lock: Path) -> None:
    index.add("0.3.37", commit=COMMIT)
    index.state("0.3.37", "5e" * 32)
    error = refused(lock)
    assert "is not what it should be" in error.cause
    assert "5e" * 32 in error.cause
    assert list(sources_folder().glob("*.tar.gz")) == []


@pytest.mark.parametrize("states_hash", [True, False])
def test_a_truncated_archive_is_refused(index: Index, lock: Path, states_hash: bool) -> None:
    archive = index.add("0.3.37", commit=COMMIT)
    archive.write_bytes(archive.read_bytes()[:-200])
    if not states_hash:
        index.state("0.3.37", None)
    cause = refused(lock).cause
    assert ("is not what it should be" if states_hash else "damaged or was cut off") in cause
    assert list(sources_folder().glob("*.tar.gz")) == []


def test_a_version_that_does_not_exist_names_the_newest(index: Index, lock: Path) -> None:
    for number in range(7, 15):
        index.add(f"0.3.{number}", commit=COMMIT)
    error = refused(lock, "9.9.9")
    assert "the newest versions are 0.3.14, 0.3.13, 0.3.12, 0.3.11, 0.3.10" in error.cause
    assert "download.log" not in str(error)


def test_an_index_that_does_not_answer_is_told_as_such(
    index: Index, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "cannot be reached" in refused(lock).cause


def test_a_source_that_lacks_what_we_need_is_refused(index: Index, lock: Path) -> None:
    tools = tuple(tool for tool in TOOLS if tool != "llama-completion")
    files = tree_files(tools)
    files["include/llama.h"] = files["include/llama.h"].replace("llama_vocab_is_eog", "llama_x")
    index.add("0.3.37", commit=COMMIT, tree=files)
    error = refused(lock)
    assert "the program llama-completion" in error.cause
    assert "llama_vocab_is_eog in include/llama.h (the probe uses it)" in error.cause
    assert error.subject == "llama-cpp-python 0.3.37"


def test_an_unsafe_archive_is_refused(index: Index, lock: Path, tmp_path: Path) -> None:
    files = {**tree_files(), "../../../../outside": "x"}
    index.add("0.3.37", commit=COMMIT, tree=files)
    # pip looks into the archive first; whoever notices, nothing is written outside.
    refused(lock)
    assert not list(tmp_path.rglob("outside"))


def test_a_lock_that_cannot_be_written_after_all_is_whole(
    index: Index, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("0.3.37", commit=COMMIT)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", _only_for(lock, refuse))
    with pytest.raises(FileAccessError, match="Permission denied"):
        update("0.3.37", lock=lock)
    assert lock.read_text() == LOCK
    assert [p.name for p in lock.parent.iterdir() if p.name.startswith(".lock")] == []


def _only_for(lock: Path, refuse: object) -> object:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        return refuse() if Path(target) == lock else real(self, target)  # type: ignore[operator]

    return replace


def test_a_link_to_the_lock_stays_one(index: Index, lock: Path, tmp_path: Path) -> None:
    index.add("0.3.37", commit=COMMIT)
    link = tmp_path / "link.toml"
    link.symlink_to(lock)
    update("0.3.37", lock=link)
    assert link.is_symlink()
    assert load_lock(lock).version == "0.3.37"


def test_a_new_lock_where_you_are_hides_the_shipped_one(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an installed package does it, whose own lock is the package manager's."""
    shipped = tmp_path / "site-packages" / "edgequant" / "_data" / "toolchain"
    shipped.mkdir(parents=True)
    (shipped / LOCK_NAME).write_text(LOCK)
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(update_module, "PACKAGE_FOLDER", tmp_path / "site-packages" / "edgequant")
    monkeypatch.setattr(
        "edgequant.core.paths.data_folder",
        lambda kind: shipped if kind == "toolchain" else data_folder(kind),
    )
    assert lock_path() == shipped / LOCK_NAME
    index.add("0.3.37", commit=COMMIT)
    done = update("0.3.37")
    assert done.path == here / "toolchain" / LOCK_NAME
    assert (shipped / LOCK_NAME).read_text() == LOCK
    assert load_lock().version == "0.3.37"
    assert done.path.read_text().startswith("# The one pin.")
    assert lock_to_write() == done.path


def test_the_command_prints_what_changed(index: Index, lock: Path) -> None:
    index.add("0.3.37", commit=COMMIT)
    arguments = ["toolchain", "update", "0.3.37", "--lock", str(lock), "--json"]
    result = CliRunner().invoke(make_app(arguments), arguments, catch_exceptions=False)
    told = json.loads(result.stdout)
    assert told["written"] is True
    assert told["old"]["version"] == "0.3.36"
    assert told["new"]["llama_cpp_commit"] == COMMIT[:9]
    arguments = ["toolchain", "update", "0.3.37", "--lock", str(lock)]
    result = CliRunner().invoke(make_app(arguments), arguments, catch_exceptions=False)
    assert "nothing to do" in result.stdout


def test_a_python_without_pip_is_told(
    index: Index, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr("edgequant.build.source.package_index.sys.executable", str(python))
    error = refused(lock)
    assert "has no pip" in error.cause
    assert "ensurepip" in str(error.next_step)


def test_an_interrupted_update_leaves_nothing(
    index: Index, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        monkeypatch.setenv("PIP_INDEX_URL", url)
        code = "from edgequant.cli.app import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "toolchain", "update", "0.3.37", "--lock", str(lock)],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            server.settimeout(60)
            connection, _ = server.accept()
            with connection:
                os.kill(process.pid, signal.SIGINT)
                _, complaint = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, complaint
    assert "Interrupted" in complaint
    assert lock.read_text() == LOCK
    assert not [p for p in sources_folder().iterdir() if p.name.startswith("download-")]
    asking = [p for p in Path("/proc").glob("[0-9]*/environ") if url.encode() in _bytes(p)]
    assert [p for p in asking if p.parent.name != str(os.getpid())] == []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_two_updates_at_once_agree(index: Index, lock: Path) -> None:
    index.add("0.3.37", commit=COMMIT)
    code = "from edgequant.cli.app import main; main()"
    argv = [sys.executable, "-c", code, "toolchain", "update", "0.3.37", "--lock", str(lock)]
    both = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert load_lock(lock).version == "0.3.37"
    assert [p.name for p in lock.parent.glob(".lock.toml.*")] == []
    assert len(list(sources_folder().glob("*.tar.gz"))) == 1
