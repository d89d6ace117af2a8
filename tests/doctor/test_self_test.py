"""The self-test: real compilers where they are here, and ones that are broken on purpose."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgequant.build.proof import trial
from edgequant.build.proof.trial import find_emulator
from edgequant.build.targets.target import QemuSettings, Target, load_target, target_names
from edgequant.build.ways import containers
from edgequant.build.ways.compilers import CompilerSetup
from edgequant.build.ways.containers import Engine
from edgequant.cli.app import make_app
from edgequant.core.errors import TargetError, ToolMissingError
from edgequant.doctor import checks as doctor
from edgequant.doctor import self_test
from edgequant.doctor.checks import Check
from edgequant.doctor.self_test import (
    BARE,
    FULL,
    IMAGE,
    SelfTest,
    failed,
    run_self_test,
    zig_libraries_are_there,
)

ARM_TARGETS = [name for name in target_names() if not load_target(name).is_host]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty, zig's cache too; engines have tests of their own."""
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    monkeypatch.setattr(containers, "find_engine", lambda: Engine("buildah", "1.28.2"))
    return tmp_path / "cache"


def by_program(trials: list[SelfTest]) -> dict[tuple[str, str], SelfTest]:
    return {(trial.way, trial.program): trial for trial in trials}


@pytest.mark.parametrize("name", ARM_TARGETS)
def test_each_target_is_tried_from_an_empty_cache(name: str) -> None:
    pytest.importorskip("ziglang")
    trials = by_program(run_self_test(name))
    zig = trials["zig", BARE]
    assert zig.ok, zig.detail
    assert "static" in zig.detail
    target = load_target(name)
    if find_emulator() is not None:
        assert f"runs on {target.qemu.cpu}" in zig.detail
        if target.qemu.lacking_cpu is not None:
            assert f"dies on {target.qemu.lacking_cpu} as it should" in zig.detail
    # zig would compile its C++ library for minutes.
    assert trials["zig", FULL].ok is None
    if shutil.which("aarch64-linux-gnu-g++") is None:
        assert trials["gcc", BARE].ok is None
        assert "aarch64-linux-gnu-g++" in trials["gcc", BARE].detail
    else:
        assert trials["gcc", BARE].ok, trials["gcc", BARE].detail
        assert trials["gcc", FULL].ok, trials["gcc", FULL].detail


def test_nothing_is_left_in_the_cache(own_cache: Path) -> None:
    run_self_test("armv8-a")
    assert [p.name for p in own_cache.iterdir() if p.name.startswith("self-test")] == []


def test_the_host_has_no_self_test() -> None:
    with pytest.raises(TargetError, match="for boards"):
        run_self_test("host")


def test_the_engine_that_works_is_named_and_none_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test = by_program(run_self_test("armv8-a"))["container", IMAGE]
    assert test.ok
    assert test.detail == "buildah 1.28.2"

    def none_works() -> Engine:
        raise ToolMissingError("no container engine works here (docker: no daemon)")

    monkeypatch.setattr(containers, "find_engine", none_works)
    test = by_program(run_self_test("armv8-a"))["container", IMAGE]
    assert test.ok is None
    assert "docker: no daemon" in test.detail


class Broken:
    """A compiler that does what a shell script says."""

    name = "gcc"

    def __init__(self, script: str) -> None:
        self._script = script

    def identity(self, target: Target) -> dict[str, str]:
        return {}

    def flags(self, target: Target) -> list[str]:
        return []

    def prepare(self, folder: Path, target: Target) -> CompilerSetup:
        folder.mkdir(parents=True)
        program = folder / "compiler"
        program.write_text(f"#!/bin/sh\n{self._script}\n")
        program.chmod(0o755)
        return CompilerSetup({"CMAKE_C_COMPILER": str(program), "CMAKE_CXX_COMPILER": str(program)})


def only(monkeypatch: pytest.MonkeyPatch, script: str) -> list[SelfTest]:
    monkeypatch.setattr(self_test, "Zig", _Absent)
    monkeypatch.setattr(self_test, "Gcc", lambda: Broken(script))
    return [trial for trial in run_self_test("armv8-a") if trial.way == "gcc"]


class _Absent(Broken):
    name = "zig"

    def __init__(self) -> None:
        super().__init__("exit 1")

    def flags(self, target: Target) -> list[str]:
        raise TargetError("no zig today", next_step="get one")


def test_the_compilers_own_words_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = only(monkeypatch, "echo 'cc1: out of ink' >&2; exit 1")
    assert failed(trials) == trials[:1]
    assert "cc1: out of ink" in trials[0].detail
    assert len(trials) == 1, "what cannot work was tried too"


def test_a_compiler_for_another_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It copies a program of this machine instead of compiling."""
    if os.uname().machine == "aarch64":
        pytest.skip("this machine's programs are for aarch64")
    (test,) = only(monkeypatch, 'while [ "$1" != -o ]; do shift; done; cp /bin/sh "$2"')
    assert test.ok is False
    assert "not aarch64" in test.detail


def test_a_compiler_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "COMPILE_SECONDS", 1)
    trials = only(monkeypatch, "sleep 600")
    assert trials[0].ok is None
    assert "did not compile in 1 s" in trials[0].detail


def test_a_program_that_needs_more_than_it_should_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ziglang")
    if find_emulator() is None:
        pytest.skip("no qemu-user here")
    target = load_target("armv8.2-a+dotprod+fp16")
    cases = {
        "that a cortex-a53 does not have": QemuSettings(cpu="cortex-a53"),
        "runs on cortex-a76 too": QemuSettings(cpu="cortex-a76", lacking_cpu="cortex-a76"),
    }
    for words, qemu in cases.items():
        changed = target.model_copy(update={"qemu": qemu})
        monkeypatch.setattr(self_test, "load_target", lambda _name, t=changed: t)
        test = by_program(run_self_test("x"))["zig", BARE]
        assert test.ok is False
        assert words in test.detail


def test_without_qemu_programs_are_compiled_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ziglang")
    monkeypatch.setattr(trial, "find_emulator", lambda: None)
    found = by_program(run_self_test("armv8-a"))["zig", BARE]
    assert found.ok
    assert "not run: qemu-user is not installed" in found.detail


def test_a_build_of_the_same_target_by_zig_shows_that_its_libraries_are_there(
    tmp_path: Path,
) -> None:
    target = load_target("armv8-a")
    assert not zig_libraries_are_there(target, tmp_path)
    for name, text in (
        ("armv8-a-0123", '{"CMAKE_C_COMPILER": "/usr/bin/aarch64-linux-gnu-gcc"}'),
        ("armv8.2-a-0123", '{"CMAKE_C_COMPILER": "/x/zig-cc"}'),
    ):
        (tmp_path / "build-trees" / name).mkdir(parents=True)
        (tmp_path / "build-trees" / name / "configured.json").write_text(text)
    assert not zig_libraries_are_there(target, tmp_path)
    (tmp_path / "build-trees" / "armv8-a-0123" / "configured.json").write_text('"/x/zig-cc"')
    assert zig_libraries_are_there(target, tmp_path)


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (None, 0), (False, 23)])
def test_the_doctor_says_whether_the_self_test_went_well(
    monkeypatch: pytest.MonkeyPatch, ok: bool | None, status: int
) -> None:
    monkeypatch.setattr(doctor, "checks", lambda: [Check("thing", True, "x")])
    asked = []

    def trials(name: str) -> list[SelfTest]:
        asked.append(name)
        return [SelfTest("zig", BARE, ok, 0.1, "words")]

    monkeypatch.setattr(self_test, "run_self_test", trials)
    arguments = ["doctor", "--self-test", "--target", "armv8-a", "--json"]
    result = CliRunner().invoke(make_app(arguments), arguments)
    assert result.exit_code == status
    told = json.loads(result.stdout)
    assert told["ok"] is (ok is not False)
    assert told["self_test"][0]["detail"] == "words"
    assert asked == ["armv8-a"]


def test_the_doctor_and_the_self_test_agree_on_what_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "checks", lambda: [Check("thing", True, "x")])
    monkeypatch.setattr(
        self_test, "run_self_test", lambda _: [SelfTest("zig", BARE, True, 0.1, "")]
    )
    monkeypatch.setattr(self_test, "failed", lambda trials: trials)
    arguments = ["doctor", "--self-test"]
    assert CliRunner().invoke(make_app(arguments), arguments).exit_code == 23


def test_a_target_without_a_self_test_is_a_usage_error() -> None:
    arguments = ["doctor", "--target", "armv8-a"]
    assert CliRunner().invoke(make_app(arguments), arguments).exit_code == 2
