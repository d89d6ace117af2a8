"""A program is compared with the CPU before it dies there."""

from __future__ import annotations

import struct
import tomllib
from pathlib import Path

import pytest

from edgequant.boards.compatibility import check_binaries
from edgequant.boards.facts import BoardFacts, parse_facts
from edgequant.boards.profile import BoardProfile
from edgequant.build.targets.isa import elf_machine, missing_features
from edgequant.core.errors import AuditError

VIRTUAL = Path(__file__).parent / "facts" / "virtual.toml"
A72_FLAGS = ("fp", "asimd", "evtstrm", "crc32", "cpuid")
PROFILE = BoardProfile.model_validate(
    {"name": "b", "kind": "local", "build": {"target": "armv8.2-a+dotprod+fp16"}}
)


def elf(path: Path, machine: int) -> Path:
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine)
    path.write_bytes(header.ljust(64, b"\0"))
    return path


def virtual_facts(**changes: object) -> BoardFacts:
    text = tomllib.loads(VIRTUAL.read_text())["fact"][0]["output"]
    return parse_facts(text, board="b", remote_folder="/x").model_copy(update=changes)


def test_a_fitting_program_passes(tmp_path: Path) -> None:
    check_binaries([elf(tmp_path / "probe", 183)], virtual_facts(), PROFILE)


def test_a_dotprod_build_on_a_core_without_it(tmp_path: Path) -> None:
    facts = virtual_facts(isa_flags=A72_FLAGS, cpu_parts=("Cortex-A72",))
    with pytest.raises(AuditError, match=r"Cortex-A72\) lacks .*asimddp") as caught:
        check_binaries([elf(tmp_path / "probe", 183)], facts, PROFILE)
    assert "armv8-a" in str(caught.value)


def test_the_plain_level_runs_there(tmp_path: Path) -> None:
    plain = PROFILE.model_copy(
        update={"build": PROFILE.build.model_copy(update={"target": "armv8-a"})}
    )
    check_binaries([elf(tmp_path / "probe", 183)], virtual_facts(isa_flags=A72_FLAGS), plain)


def test_another_architecture(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="built for x86_64, the board b is aarch64"):
        check_binaries([elf(tmp_path / "probe", 62)], virtual_facts(), PROFILE)


def test_scripts_and_models_are_not_checked(tmp_path: Path) -> None:
    script = tmp_path / "s"
    script.write_text("#!/bin/sh\n")
    assert elf_machine(script) is None
    check_binaries([script], virtual_facts(architecture="riscv64"), PROFILE)


def test_missing_features_by_level() -> None:
    assert missing_features(["armv8-a"], []) == []
    assert missing_features(["armv8.2-a", "i8mm"], ["atomics", "asimdrdm"]) == ["i8mm"]
