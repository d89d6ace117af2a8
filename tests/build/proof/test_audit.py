"""Real ELF files: made by zig for the board, and by the system's cc with every fault."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgequant.build.proof.audit import (
    ElfFacts,
    audit,
    code_facts,
    find_faults,
    find_folders,
    read_elf,
)
from edgequant.build.targets.target import load_target
from edgequant.build.ways.compilers import Zig
from edgequant.core.errors import AuditError

Compile = Callable[..., Path]
GOOD = ElfFacts(
    machine="aarch64",
    interpreter=None,
    needed=(),
    stripped=True,
    executable_stack=False,
    bytes=1,
)


@pytest.fixture(scope="module")
def zig(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    folder = tmp_path_factory.mktemp("zig")
    # Without the C library, which zig would first have to compile.
    (folder / "main.c").write_text("void _start(void) { for (;;) {} }\n")
    setup = Zig().prepare(folder / "compiler", load_target("armv8-a"))

    def compile_main() -> Path:
        out = folder / "main"
        argv = [
            folder / "compiler" / "zig-cc",
            folder / "main.c",
            "-nostdlib",
            "-static",
            "-o",
            out,
        ]
        subprocess.run(argv, check=True, env={**setup.environment, "PATH": "/usr/bin:/bin"})
        return out

    return compile_main


@pytest.fixture
def cc(tmp_path: Path) -> Compile:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no system compiler (cc) here")
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")

    def compile_main(*flags: str) -> Path:
        out = tmp_path / "main"
        subprocess.run([compiler, tmp_path / "main.c", *flags, "-o", out], check=True)
        return out

    return compile_main


def test_what_zig_makes_for_a_board_is_fit_for_it(zig: Compile) -> None:
    facts = audit(zig(), architecture="aarch64", static=True)
    assert facts.static
    assert facts.stripped
    assert facts.bytes > 0


def test_another_architecture_is_found(zig: Compile) -> None:
    with pytest.raises(AuditError, match="is for aarch64, not x86_64"):
        audit(zig(), architecture="x86_64", static=True)


def test_a_dynamic_binary_is_found(cc: Compile) -> None:
    facts = read_elf(cc("-s"))
    assert facts.interpreter is not None
    assert any("libc" in name for name in facts.needed)
    faults = find_faults(facts, architecture=facts.machine, static=True)
    assert len(faults) == 2
    assert find_faults(facts, architecture=facts.machine, static=False) == []


def test_an_executable_stack_is_found(cc: Compile) -> None:
    facts = read_elf(cc("-s", "-z", "execstack"))
    assert find_faults(facts, architecture=facts.machine, static=False) == [
        "has an executable stack"
    ]


def test_symbols_are_found(cc: Compile) -> None:
    facts = read_elf(cc())
    assert find_faults(facts, architecture=facts.machine, static=False) == ["is not stripped"]


def test_every_fault_is_named_at_once() -> None:
    bad = ElfFacts(
        machine="x86_64",
        interpreter="/lib/ld.so",
        needed=("libc.so.6",),
        stripped=False,
        executable_stack=True,
        bytes=1,
    )
    assert len(find_faults(bad, architecture="aarch64", static=True)) == 5
    assert find_faults(GOOD, architecture="aarch64", static=True) == []


def test_facts_are_plain_values_for_a_manifest() -> None:
    assert GOOD.as_dict()["static"] is True
    assert GOOD.as_dict()["needed"] == []


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01"])
def test_what_is_no_elf_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(AuditError, match="not a whole ELF"):
        read_elf(tmp_path / "x")


def test_a_truncated_binary_is_an_error(tmp_path: Path, zig: Compile) -> None:
    whole = zig().read_bytes()
    (tmp_path / "x").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AuditError):
        audit(tmp_path / "x", architecture="aarch64", static=True)


def test_a_missing_binary_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="was not built"):
        read_elf(tmp_path / "none")


def test_the_name_of_a_folder_is_found(tmp_path: Path, zig: Compile) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(zig().read_bytes() + b"/home/me/llama.cpp/ggml/src/ggml.c\0")
    folders = [Path("/home/me/llama.cpp"), Path("/home/you")]
    with pytest.raises(AuditError, match=r"name of a folder in it: /home/me/llama\.cpp\n"):
        audit(binary, architecture="aarch64", static=True, folders=folders)
    assert audit(binary, architecture="aarch64", static=True, folders=folders[1:]).static


def test_code_is_counted(zig: Compile) -> None:
    # A loop that does nothing.
    assert code_facts(zig(), ["armv8-a"]) == {"extensions": {}, "unpromised": {}}


def test_a_short_folder_is_not_found_inside_longer_names(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\0llama.cpp/src/llama.cpp\0https://host/llama.cpp/issues\0/home/src/x\0")
    assert find_folders(binary, [Path("/src"), Path("/llama.cpp")]) == []
    binary.write_bytes(b"assert\0/src/llama.cpp/ggml.c\0")
    assert find_folders(binary, [Path("/src"), Path("/other")]) == ["/src"]
