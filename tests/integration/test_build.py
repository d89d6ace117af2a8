"""Whole builds with the real zig, CMake and ninja, of a llama.cpp that is a few lines long."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgequant.build import build as build_module
from edgequant.build.build import build
from edgequant.build.plan import STAGE
from edgequant.build.proof import trial
from edgequant.build.source.requirements import NEEDED_FILES
from edgequant.build.ways import way as ways
from edgequant.core.artefact import Store, load_artefact
from edgequant.core.errors import BuildError, DiskFullError, TargetError
from edgequant.core.paths import cache_root

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TARGET = "armv8.2-a+dotprod+fp16"
CMAKE = """
cmake_minimum_required(VERSION 3.14...3.28)
project(llama.cpp C CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
foreach(name IN ITEMS ggml-base ggml-cpu ggml llama)
    add_library(${name} STATIC src/${name}.c)
endforeach()
add_custom_command(
    OUTPUT waited.c
    COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/wait.sh && touch waited.c
    VERBATIM)
foreach(name IN ITEMS llama-bench llama-other llama-wait)
    add_executable(${name} tools/main.c)
    target_link_libraries(${name} PRIVATE llama ggml ggml-cpu ggml-base)
endforeach()
target_sources(llama-wait PRIVATE waited.c)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; only zig's compiled C and C++ libraries come from the real one."""
    for package in ("ziglang", "cmake", "ninja", "elftools"):
        pytest.importorskip(package)
    real = cache_root()
    if not any((real / "artefacts" / STAGE).glob("*/manifest.json")):
        pytest.skip("nothing was built here yet: zig would compile its libraries for minutes")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(real / "zig"))
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "llama.cpp"
    for name in (*NEEDED_FILES, "wait.sh"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "CMakeLists.txt").write_text(CMAKE)
    for name in ("ggml-base", "ggml-cpu", "ggml", "llama"):
        symbol = name.replace("-", "_")
        (folder / "src" / f"{name}.c").write_text(f"int {symbol}_answer(void) {{ return 42; }}\n")
    write_main(folder, "llama_answer()")
    return folder


def write_main(tree: Path, value: str) -> None:
    (tree / "tools" / "main.c").write_text(
        "#include <stdio.h>\nint llama_answer(void);\n"
        f'int main(void) {{ printf("%d\\n", {value}); return 0; }}\n'
    )


def test_a_build_is_static_recorded_and_found_again(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(TARGET, tools=["llama-bench"], source=tree)
    assert not first.reused
    assert set(first.binaries) == {"llama-bench"}
    load_artefact(first.artefact.folder, verify=True)
    manifest = first.artefact.manifest
    assert manifest.details["audit"]["llama-bench"]["static"] is True  # type: ignore[index]
    assert manifest.details["compiler"]["name"] == "zig"  # type: ignore[index]
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is not None:
        ran = subprocess.run(
            [qemu, "-cpu", "cortex-a76", first.binary("llama-bench")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == "42\n"

    def run_nothing(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(ways, "run_logged", run_nothing)
    again = build(TARGET, tools=["llama-bench"], source=tree)
    assert again.reused
    assert again.key == first.key


def test_a_build_that_could_not_be_tried_is_tried_later(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trial.find_emulator() is None:
        pytest.skip("no qemu-user here")
    with monkeypatch.context() as patch:
        patch.setattr(trial, "EMULATORS", ())
        first = build(TARGET, tools=["llama-bench"], source=tree)
    assert first.artefact.manifest.details["trial"]["ran"] is False  # type: ignore[index]
    again = build(TARGET, tools=["llama-bench"], source=tree)
    assert again.reused
    assert again.artefact.manifest.details["trial"]["ran"] is True  # type: ignore[index]
    load_artefact(again.artefact.folder, verify=True)


def test_only_what_is_asked_for_is_built(tree: Path) -> None:
    built = build(TARGET, tools=["llama-other"], source=tree)
    with pytest.raises(BuildError, match="has no llama-bench") as caught:
        built.binary("llama-bench")
    assert "--tool llama-bench" in str(caught.value.next_step)


def test_a_compiler_error_is_shown_and_nothing_is_kept(tree: Path, own_cache: Path) -> None:
    write_main(tree, "no_such_thing")
    with pytest.raises(BuildError, match="no_such_thing") as caught:
        build(TARGET, tools=["llama-bench"], source=tree)
    assert Path(str(caught.value.subject)).is_file()
    assert list(own_cache.glob("artefacts/build/*/manifest.json")) == []
    write_main(tree, "7")
    assert build(TARGET, tools=["llama-bench"], source=tree).binary("llama-bench").is_file()


def test_an_unknown_program_is_one_clear_error(tree: Path) -> None:
    with pytest.raises(BuildError, match="no program called llama-nonsense"):
        build(TARGET, tools=["llama-nonsense"], source=tree)
    with pytest.raises(BuildError, match="not the name of a program"):
        build(TARGET, tools=["clean"], source=tree)


def test_an_unknown_target_is_an_error_before_any_work(tree: Path, own_cache: Path) -> None:
    with pytest.raises(TargetError):
        build("z80", source=tree)
    assert not (own_cache / "build-trees").exists()


def start(tree: Path, tool: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", "from edgequant.cli.app import main; main()"]
    argv += ["build", "--target", TARGET, "--tool", tool, "--source", str(tree), "--json"]
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def processes_with(text: str) -> list[str]:
    """Command lines of all running processes that mention ``text``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_process_and_is_taken_up_again(
    tree: Path, own_cache: Path, how: signal.Signals
) -> None:
    waiting = tree / "waiting"
    (tree / "wait.sh").write_text(f"touch {waiting}; sleep 300\n")
    process = start(tree, "llama-wait")
    try:
        deadline = time.monotonic() + 300
        while not waiting.exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.kill(process.pid, how)
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    killed = how == signal.SIGKILL
    assert process.returncode == (-signal.SIGKILL if killed else 130), complaint
    if killed:
        # The kernel ends ninja for us; the shell that it ran may still have to notice.
        deadline = time.monotonic() + 60
        while processes_with(str(own_cache)) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert processes_with(str(own_cache)) == []
    assert list(own_cache.glob("artefacts/build/*/manifest.json")) == []
    if not killed:
        assert list(own_cache.glob("artefacts/build/*.draft-*")) == []
    # Not part of what is compiled, so the next run is the same build.
    (tree / "wait.sh").write_text("true\n")
    assert build(TARGET, tools=["llama-wait"], source=tree).binary("llama-wait").is_file()
    assert list(own_cache.glob("artefacts/build/*.draft-*")) == []


@pytest.fixture
def small_disk(own_cache: Path) -> Iterator[Path]:
    """The empty cache on a file system of a few megabytes."""
    own_cache.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(own_cache)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield own_cache
    subprocess.run(["umount", "--lazy", str(own_cache)], check=True)


def test_too_little_room_is_told_before_any_work(tree: Path, small_disk: Path) -> None:
    with pytest.raises(DiskFullError, match=r"needs 2\.0 GB, 0\.1 GB are free"):
        build(TARGET, tools=["llama-bench"], source=tree)


def test_a_disk_that_fills_up_is_told_and_the_next_run_goes_on(
    tree: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "NEEDED_BYTES", 0)
    filler = small_disk / "filler"
    (tree / "wait.sh").write_text(f"cat /dev/zero >{filler}\n")
    with pytest.raises(DiskFullError, match="no space left") as caught:
        build(TARGET, tools=["llama-wait"], source=tree)
    assert "free some space" in str(caught.value.next_step)
    assert processes_with(str(small_disk)) == []
    assert list(small_disk.glob("artefacts/build/*/manifest.json")) == []
    filler.unlink()
    (tree / "wait.sh").write_text("true\n")
    assert build(TARGET, tools=["llama-wait"], source=tree).binary("llama-wait").is_file()


def test_two_builds_at_once_make_one_result(tree: Path) -> None:
    (tree / "wait.sh").write_text("sleep 2\n")
    both = [start(tree, "llama-wait") for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    results = [json.loads(result) for result, _ in ends]
    assert results[0]["binaries"] == results[1]["binaries"]
    assert sorted(result["reused"] for result in results) == [False, True]
    (folder,) = (Store().root / STAGE).glob("*/manifest.json")
    load_artefact(folder.parent, verify=True)
    assert any("waiting for it" in complaint for _, complaint in ends)
