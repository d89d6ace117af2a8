"""Real builds in a container, with whatever engine works here and a base image that can be had."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgequant.build.proof.audit import audit
from edgequant.build.recipe import cmake_options, copy_project
from edgequant.build.source.lock import load_lock
from edgequant.build.source.requirements import PROBE
from edgequant.build.source.tree import SourceTree, fetch_source
from edgequant.build.targets.target import load_target
from edgequant.build.ways.containers import (
    ContainerBuild,
    Engine,
    compile_in_container,
    container_identity,
    find_engine,
)
from edgequant.build.ways.containers.base_image import base_image, dockerfile, provide
from edgequant.build.ways.containers.compile import quote_options
from edgequant.build.ways.containers.engine import Mode, try_engine
from edgequant.core.errors import BuildError, EdgequantError
from edgequant.core.paths import data_folder

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TARGET = load_target("armv8.2-a+dotprod+fp16")
WAITING_SECONDS = 987654
CMAKE = """
cmake_minimum_required(VERSION 3.14...3.28)
project(llama.cpp C CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
foreach(name IN ITEMS ggml-base ggml-cpu ggml llama)
    add_library(${name} STATIC src/llama.c)
endforeach()
add_custom_command(
    OUTPUT waited.c
    COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/tools/wait.sh && touch waited.c
    VERBATIM)
foreach(name IN ITEMS llama-bench llama-wait)
    add_executable(${name} tools/main.c)
    target_link_libraries(${name} PRIVATE llama)
endforeach()
target_sources(llama-wait PRIVATE waited.c)
"""
MAIN = """
#include <stdio.h>
int llama_answer(void);
int main(void) { printf("%%d\\n", %s); return 0; }
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine that works and a base image; the real cache's, which takes minutes to fill."""
    try:
        found = find_engine()
        base_image()
    except EdgequantError as error:
        pytest.skip(error.cause)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A llama.cpp of a few lines."""
    folder = tmp_path / "llama.cpp"
    for name in ("src", "tools"):
        (folder / name).mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text(CMAKE)
    (folder / "src" / "llama.c").write_text("int llama_answer(void) { return 42; }\n")
    (folder / "tools" / "wait.sh").write_text("true\n")
    (folder / "tools" / "main.c").write_text(MAIN % "llama_answer()")
    return folder


def compile_tree(source: SourceTree, out: Path, *tools: str) -> ContainerBuild:
    out.mkdir(exist_ok=True)
    return compile_in_container(
        source=source.folder,
        project=data_folder("toolchain"),
        target_name=TARGET.name,
        flags=TARGET.gcc.flags,
        cmake_options=cmake_options(TARGET, source),
        tools=tools,
        out=out,
        log=out.parent / "container.log",
    )


def small(tree: Path) -> SourceTree:
    return SourceTree(tree, "unknown", "")


def run_as_board(program: Path, *arguments: str) -> str:
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("no qemu-aarch64 (Debian package qemu-user-static)")
    ran = subprocess.run(
        [emulator, "-cpu", "cortex-a76", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def test_the_pinned_probe_is_static_and_runs(engine: Engine, tmp_path: Path) -> None:
    source = fetch_source(load_lock())
    built = compile_tree(source, tmp_path / "out", PROBE)
    facts = built.facts
    assert [path.name for path in (tmp_path / "out").iterdir()] == [PROBE]
    probe = tmp_path / "out" / PROBE
    audit(probe, architecture="aarch64", static=True)
    assert source.commit in run_as_board(probe, "--version")
    assert "aarch64-linux-gnu-g++" in facts["compiler"]
    assert facts["engine"].startswith(engine.name)
    assert facts["base_image"] == container_identity()["base_image"]
    assert len(facts["libc.a"]) == 64
    assert "include/llama.h" in built.files[PROBE]
    assert "src/llama-context.cpp" in built.files[PROBE]
    assert "tools/server/server.cpp" not in built.files[PROBE]
    assert not list((tmp_path / "out").parent.glob("**/work-*"))


def test_the_last_stage_has_the_binaries_alone(engine: Engine, tree: Path, tmp_path: Path) -> None:
    base = base_image()
    log, out = tmp_path / "log", tmp_path / "out"
    provide(base, engine, log)
    copy_project(data_folder("toolchain"), tmp_path / "context" / "toolchain")
    out.mkdir()
    arguments = {
        "TOOLS": "llama-bench llama-wait",
        "CMAKE_OPTIONS": quote_options(cmake_options(TARGET, small(tree))),
    }
    engine.build(
        dockerfile(),
        tmp_path / "context",
        log=log,
        what="building",
        build_contexts={"llama_cpp": tree},
        arguments={"BASE_IMAGE": base.reference, **arguments},
        output=out,
    )
    assert {p.relative_to(out).as_posix() for p in out.rglob("*")} == {"llama-bench", "llama-wait"}
    assert run_as_board(out / "llama-bench") == "42\n"


def test_a_compiler_error_is_shown_and_nothing_is_kept(
    engine: Engine, tree: Path, tmp_path: Path
) -> None:
    (tree / "tools" / "main.c").write_text(MAIN % "no_such_thing")
    with pytest.raises(BuildError, match=r"no_such_thing.* undeclared") as caught:
        compile_tree(small(tree), tmp_path / "out", "llama-bench")
    assert "Dockerfile" not in caught.value.cause
    assert Path(str(caught.value.subject)).is_file()
    assert list((tmp_path / "out").iterdir()) == []
    (tree / "tools" / "main.c").write_text(MAIN % "7")
    compile_tree(small(tree), tmp_path / "out", "llama-bench")
    assert run_as_board(tmp_path / "out" / "llama-bench") == "7\n"


def test_an_unknown_program_is_one_clear_error(engine: Engine, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no program called llama-nonsense"):
        compile_tree(small(tree), tmp_path / "out", "llama-nonsense")


def command_lines() -> list[str]:
    """Command lines of all running processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def is_running(text: str) -> bool:
    return any(text in line for line in command_lines())


def wait_until(is_so: bool, text: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while is_running(text) is not is_so:
        if time.monotonic() > deadline:
            raise AssertionError(f"{text!r} {'did not start' if is_so else 'still runs'}")
        time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_running_and_the_next_goes_on(
    engine: Engine, tree: Path, tmp_path: Path, how: signal.Signals
) -> None:
    (tree / "tools" / "wait.sh").write_text(f"sleep {WAITING_SECONDS}\n")
    script = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from edgequant.build.ways.containers import compile_in_container\n"
        "from edgequant.build.recipe import cmake_options\n"
        "from edgequant.build.source.tree import SourceTree\n"
        "from edgequant.build.targets.target import load_target\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "tree, project, out = map(Path, sys.argv[1:4])\n"
        "target = load_target(sys.argv[4])\n"
        "options = cmake_options(target, SourceTree(tree, 'unknown', ''))\n"
        "compile_in_container(source=tree, project=project, target_name=target.name,\n"
        "    flags=target.gcc.flags, cmake_options=options, tools=['llama-wait'], out=out,\n"
        "    log=out.parent / 'container.log')\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    arguments = [str(tree), str(data_folder("toolchain")), str(out), TARGET.name]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], start_new_session=True)
    try:
        wait_until(True, f"sleep {WAITING_SECONDS}", 300)
        os.kill(process.pid, how)
        assert process.wait(60) != 0
        wait_until(False, f"sleep {WAITING_SECONDS}", 30)
        wait_until(False, str(engine.storage), 30)
    finally:
        process.kill()
        process.wait()
    assert list(out.iterdir()) == []
    (tree / "tools" / "wait.sh").write_text("true\n")
    compile_tree(small(tree), out, "llama-wait")
    assert run_as_board(out / "llama-wait") == "42\n"


def test_plain_storage_works_where_layers_cannot_be_laid_over_each_other(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not engine.has_own_storage:
        pytest.skip("docker stores as its daemon was told")
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("edgequant.build.ways.containers.engine.MODES", (Mode("chroot", "vfs"),))
    # podman refuses a run folder with a long name, such as pytest's.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        found = try_engine(engine.name)
    assert isinstance(found, Engine)
    assert found.mode == Mode("chroot", "vfs")
