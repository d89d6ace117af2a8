"""Real board binaries, tried under qemu-user as the CPU they are for and as one that is lesser."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgequant.build.proof.encodings import scan_extensions
from edgequant.build.proof.tiny_model import write_tiny_model
from edgequant.build.proof.trial import (
    find_emulator,
    refusal_of_cpu,
    run_program,
    try_binaries,
)
from edgequant.build.targets.target import Target, load_target
from edgequant.core.artefact import Store, load_artefact
from edgequant.core.errors import ArtefactError, AuditError

pytestmark = pytest.mark.integration

TARGET = "armv8.2-a+dotprod+fp16"


def board_builds(compiler: str = "zig") -> Iterator[Path]:
    """The builds for the target in the cache, newest first."""
    manifests = (Store().root / "build").glob("*/manifest.json")
    for path in sorted(manifests, key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            artefact = load_artefact(path.parent)
        except ArtefactError:
            continue
        made = artefact.manifest.parameters
        if made.get("target") == TARGET and made["compiler"]["name"] == compiler:  # type: ignore[index]
            yield path.parent / "bin"


@pytest.fixture(scope="module")
def binaries() -> dict[str, Path]:
    if find_emulator() is None:
        pytest.skip("no qemu-aarch64 (Debian package qemu-user-static)")
    for folder in board_builds():
        found = {path.name: path for path in folder.iterdir()}
        if {"edgequant-probe", "llama-bench", "llama-completion"} <= set(found):
            return found
    pytest.skip(f"no build for {TARGET} in the cache (edgequant build --target rk3568 makes one)")


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(TARGET)


def as_cpu(target: Target, cpu: str) -> Target:
    return target.model_copy(update={"qemu": target.qemu.model_copy(update={"cpu": cpu})})


def test_every_binary_decodes_on_the_cpu_it_is_for(
    binaries: dict[str, Path], target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = try_binaries(binaries, target=target, log=tmp_path / "log")
    assert set(report.ran) == set(binaries)
    assert report.ran["llama-bench"] == "prefill and decode"
    assert set(report.lacking) == set(binaries)
    log = (tmp_path / "log").read_text()
    assert '"stop_reason":"limit"' in log
    # Of llama-bench, which says so where it was not optimized itself.
    assert "debug build" not in log
    assert "nan" not in re.findall(r"[a-z]+", log)
    # No core file, also of those that died as the lesser CPU.
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("program", ["edgequant-probe", "llama-bench", "llama-completion"])
def test_a_binary_that_needs_more_than_the_cpu_has_is_caught(
    binaries: dict[str, Path], target: Target, tmp_path: Path, program: str
) -> None:
    with pytest.raises(AuditError) as caught:
        try_binaries(
            {program: binaries[program]}, target=as_cpu(target, "cortex-a53"), log=tmp_path / "log"
        )
    text = str(caught.value)
    assert re.match(rf"{program}: uses an instruction, \S+ \((lse|rcpc|dotprod|fp16)\) at 0x", text)
    assert "that a cortex-a53 does not have" in text
    assert "asimddp" in text


def test_the_kernel_that_needs_it_is_found_behind_a_handler(
    binaries: dict[str, Path], target: Target, tmp_path: Path
) -> None:
    """gcc's C library starts anywhere; the program dies later, and handles the signal itself."""
    probe = next((b / "edgequant-probe" for b in board_builds("gcc")), None)
    if probe is None:
        pytest.skip("no build with gcc in the cache (edgequant build --board rk3568 --with gcc)")
    log = tmp_path / "log"
    with pytest.raises(AuditError) as caught:
        try_binaries({"edgequant-probe": probe}, target=as_cpu(target, "cortex-a53"), log=log)
    assert re.search(r"instruction, \S+ \((lse|dotprod|fp16)\) at 0x[0-9a-f]+", str(caught.value))
    assert "uncaught target signal" not in log.read_text()


def test_a_cpu_that_lacks_dot_products_alone_names_them(
    binaries: dict[str, Path], target: Target, tmp_path: Path
) -> None:
    # Fujitsu's A64FX has the atomics and the half precision of armv8.2-a.
    lesser = as_cpu(target, "a64fx")
    probe = {"edgequant-probe": binaries["edgequant-probe"]}
    with pytest.raises(AuditError, match=r"[su]dot \(dotprod\) at 0x[0-9a-f]+"):
        try_binaries(probe, target=lesser, log=tmp_path / "log")


PROGRAM = """
#include <stdio.h>
int main(void) {
    printf("before\\n");
    fflush(stdout);
    __asm__ volatile("%s" : : : "v0", "x9");
    printf("after\\n");
    return 0;
}
"""


def compiled(folder: Path, instruction: str, level: str) -> Path:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None or find_emulator() is None:
        pytest.skip("no aarch64-linux-gnu-gcc, or no qemu-aarch64")
    (folder / "main.c").write_text(PROGRAM % instruction)
    out = folder / "llama-one"
    subprocess.run(
        [compiler, "-static", f"-march={level}", folder / "main.c", "-o", out], check=True
    )
    return out


@pytest.mark.parametrize(
    ("name", "level", "instruction", "named"),
    [
        ("armv8.2-a+dotprod+fp16", "armv8.2-a+dotprod", "sdot v0.4s, v1.16b, v2.16b", "dotprod"),
        ("armv8.2-a+dotprod+fp16", "armv8.2-a+fp16", "fadd v0.8h, v1.8h, v2.8h", "fp16"),
        ("armv8.2-a+dotprod+fp16+i8mm", "armv8.2-a+i8mm", "smmla v0.4s, v1.16b, v2.16b", "i8mm"),
        ("armv8.2-a+dotprod+fp16+i8mm+sve", "armv8.2-a+sve", "cntb x9", "sve"),
    ],
)
def test_what_a_target_promises_is_on_its_cpu_and_not_on_the_lesser_one(
    tmp_path: Path, name: str, level: str, instruction: str, named: str
) -> None:
    target = load_target(name)
    program = compiled(tmp_path, instruction, level)
    report = try_binaries({program.name: program}, target=target, log=tmp_path / "log")
    assert report.not_run is None
    assert report.ran == {program.name: "answered --version"}
    died = report.lacking[program.name]
    assert re.fullmatch(rf".+ \({named}\) at 0x[0-9a-f]+", died)
    lesser = as_cpu(target, str(target.qemu.lacking_cpu))
    with pytest.raises(AuditError) as caught:
        try_binaries({program.name: program}, target=lesser, log=tmp_path / "log")
    assert died in caught.value.cause
    assert f"that a {target.qemu.lacking_cpu} does not have" in caught.value.cause
    assert scan_extensions(program)[named] >= 1


def test_a_real_emulator_is_asked_for_the_whole_cpu(tmp_path: Path) -> None:
    emulator = find_emulator()
    if emulator is None:
        pytest.skip("no qemu-aarch64 (Debian package qemu-user-static)")
    for cpu in ("cortex-a53", "cortex-a76", "max", "max,sve=off"):
        assert refusal_of_cpu(emulator, cpu, tmp_path) is None
    for cpu in ("cortex-a5300", "max,bogus=off", "max,sve=maybe"):
        assert refusal_of_cpu(emulator, cpu, tmp_path)


def test_a_build_is_kept_where_the_emulator_does_not_know_a_property(
    binaries: dict[str, Path], target: Target, tmp_path: Path
) -> None:
    one = {"llama-bench": binaries["llama-bench"]}
    report = try_binaries(one, target=as_cpu(target, "max,bogus=off"), log=tmp_path / "log")
    assert "bogus" in str(report.not_run)


def test_the_scan_counts_what_a_disassembler_counts(binaries: dict[str, Path]) -> None:
    disassembler = shutil.which("aarch64-linux-gnu-objdump")
    if disassembler is None:
        pytest.skip("no aarch64-linux-gnu-objdump")
    path = binaries["edgequant-probe"]
    printed = subprocess.run([disassembler, "-d", path], capture_output=True, text=True, check=True)
    names = re.findall(r"^ +[0-9a-f]+:\t[0-9a-f]{8} \t([a-z0-9]+)", printed.stdout, re.MULTILINE)
    counts = scan_extensions(path)
    assert counts["dotprod"] == sum(name in ("sdot", "udot") for name in names) > 100
    atomic = re.compile(r"(cas|swp|ld(add|clr|set|eor|[us]m(ax|in))|st(add|clr|set|eor))[alhbp]*")
    assert counts["lse"] == sum(atomic.fullmatch(name) is not None for name in names)
    assert counts.get("rcpc", 0) == sum(name.startswith("ldapr") for name in names)
    assert counts.get("i8mm", 0) == sum("mmla" in name for name in names)


def test_repacked_weights_are_used(binaries: dict[str, Path], tmp_path: Path) -> None:
    emulator = find_emulator()
    assert emulator is not None
    model = write_tiny_model(tmp_path / "tiny.gguf")
    argv = [emulator, "-cpu", "cortex-a76", str(binaries["edgequant-probe"]), "--model", str(model)]
    argv += ["--prompt", "the quick brown fox", "-n", "2", "--threads", "1", "--repack", "1"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
    repacked = re.findall(r"repack tensor (\S+) with (\S+)", ended.stderr)
    assert {"blk.0.attn_q.weight", "blk.0.ffn_gate.weight"} <= {name for name, _ in repacked}
    assert ended.stdout.count('"event":"token"') == 2


def test_a_killed_trial_leaves_nothing_running(tmp_path: Path) -> None:
    script = tmp_path / "slow"
    script.write_text("#!/bin/sh\nsleep 98765 & wait\n")
    script.chmod(0o755)
    ended = run_program([str(script)], folder=tmp_path, timeout_seconds=0.5)
    assert ended.status is None
    assert ended.signal_number is None
    assert not any(b"98765" in line for line in command_lines())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_trial_leaves_nothing_running(tmp_path: Path, how: signal.Signals) -> None:
    started = tmp_path / "started"
    mark = "87654" if how == signal.SIGINT else "87655"
    code = (
        "from pathlib import Path\nfrom edgequant.build.proof.trial import run_program\n"
        f"argv = ['/bin/sh', '-c', 'touch {started}; exec sleep {mark}']\n"
        f"run_program(argv, folder=Path({str(tmp_path)!r}), timeout_seconds=300)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        assert any(f"sleep\0{mark}".encode() in line for line in command_lines())
        process.send_signal(how)
        process.wait(60)
    finally:
        process.kill()
    # The kernel's own signal may take a moment.
    while any(f"sleep\0{mark}".encode() in line for line in command_lines()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command_lines() -> Iterator[bytes]:
    """Of everything that is running."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


def test_its_weights_are_numbers(host_build: Any, tmp_path: Path) -> None:
    """A perplexity that is finite: no type's blocks decode to infinities or to no number."""
    program = host_build.binary("llama-perplexity")
    if not program.is_file():
        pytest.skip("this host build has no llama-perplexity")
    model = write_tiny_model(tmp_path / "tiny.gguf")
    text = tmp_path / "text"
    text.write_text("the quick brown fox jumps over a lazy dog " * 20)
    argv = [program, "-m", model, "-f", text, "-c", "64", "-t", "1", "--chunks", "2"]
    for _ in range(5):
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
        found = re.search(r"PPL = ([0-9.]+)", ended.stderr)
        # One run in a hundred ends before its log is written out.
        if found is not None:
            break
    assert found is not None, (ended.stdout, ended.stderr)
    # A model that knows nothing of 264 tokens, and is sometimes confident of it.
    assert 10 < float(found[1]) < 1e6
