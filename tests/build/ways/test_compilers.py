from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.build.targets.target import load_target, target_names
from edgequant.build.ways.compilers import Gcc, Zig, make_compiler
from edgequant.build.ways.compilers.gcc import find_programs
from edgequant.build.ways.compilers.zig import triple_of
from edgequant.build.ways.way import make_way
from edgequant.core.errors import TargetError, ToolMissingError

BOARD = "armv8.2-a+dotprod+fp16"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def add_gcc(folder: Path, prefix: str) -> None:
    for name in ("gcc", "g++", "gcc-ar", "gcc-ranlib"):
        path = folder / f"{prefix}{name}"
        path.write_text("#!/bin/sh\nexit 1\n")
        path.chmod(0o755)


@pytest.mark.parametrize(
    ("machine", "library", "version", "triple"),
    [
        ("x86_64", "glibc", "2.36", "x86_64-linux-gnu.2.36"),
        ("aarch64", "glibc", "2.31", "aarch64-linux-gnu.2.31"),
        ("aarch64", "", "", "aarch64-linux-musl"),
    ],
)
def test_a_host_in_zigs_words(machine: str, library: str, version: str, triple: str) -> None:
    assert triple_of(machine, library, version) == triple


@pytest.mark.parametrize("name", target_names())
def test_zig_and_gcc_can_both_build_for_every_target(name: str) -> None:
    target = load_target(name)
    for compiler in (Zig(), Gcc()):
        flags = compiler.flags(target)
        assert flags or target.is_host


def test_an_arm_host_leaves_native_to_zig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ziglang")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    setup = Zig().prepare(tmp_path, load_target("host"))
    assert setup.cmake_options["GGML_NATIVE"] == "OFF"
    assert "-mcpu=native" in (tmp_path / "zig-cc").read_text()
    for_board = Zig().prepare(tmp_path, load_target(BOARD))
    assert "GGML_NATIVE" not in for_board.cmake_options


def test_the_cross_gcc_is_found(programs: Path) -> None:
    add_gcc(programs, "aarch64-linux-gnu-")
    assert find_programs(for_host=False).cxx == programs / "aarch64-linux-gnu-g++"


def test_an_arm_machines_own_gcc_will_do(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_gcc(programs, "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert find_programs(for_host=False).c == programs / "gcc"


def test_another_machines_own_gcc_will_not(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_gcc(programs, "")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(ToolMissingError, match=r"no aarch64-linux-gnu-g\+\+") as caught:
        find_programs(for_host=False)
    assert "g++-aarch64-linux-gnu" in str(caught.value.next_step)


def test_half_a_gcc_is_none(programs: Path) -> None:
    add_gcc(programs, "aarch64-linux-gnu-")
    (programs / "aarch64-linux-gnu-g++").unlink()
    with pytest.raises(ToolMissingError):
        find_programs(for_host=False)


def test_a_target_that_tells_gcc_nothing(tmp_path: Path) -> None:
    path = tmp_path / "zigonly.toml"
    path.write_text(
        "description = 'x'\narchitecture = 'aarch64'\nisa = ['armv8-a']\nlinkage = 'static'\n"
        "tools = ['edgequant-probe']\n"
    )
    with pytest.raises(TargetError, match=r"no \[gcc\] flags"):
        Gcc().flags(load_target(str(path)))
    with pytest.raises(TargetError, match=r"no \[zig\] target"):
        Zig().flags(load_target(str(path)))


def test_unknown_ways_and_compilers_are_told_the_known_ones() -> None:
    with pytest.raises(TargetError) as caught:
        make_way("msvc")
    assert all(way in str(caught.value.next_step) for way in ("zig", "gcc", "container"))
    with pytest.raises(TargetError):
        make_compiler("msvc")


def test_a_container_builds_for_boards_only() -> None:
    with pytest.raises(TargetError, match="not for this machine"):
        make_way("container").flags(load_target("host"))
