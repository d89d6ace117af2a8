"""Trying binaries: what went wrong is found and explained. An emulator is played by a script."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from edgequant.build.proof import trial
from edgequant.build.proof.trial import (
    IllegalInstruction,
    explain_illegal_instruction,
    illegal_instruction,
    needed_features,
    run_program,
    signal_of,
    try_binaries,
)
from edgequant.build.targets.target import Target, load_target
from edgequant.core.errors import AuditError

RECORDED = Path(__file__).parent / "recorded" / "qemu_in_asm.txt"
# Answers as qemu-user does, and runs the program itself.
EMULATOR = """#!/bin/sh
case "$1 $2" in
    "--version "*) echo "qemu-aarch64 version 7.2.22"; exit 0 ;;
    "-cpu cortex-a53"|"-cpu cortex-a76"|"-cpu max,sve=off") ;;
    "-cpu max,"*)
        echo "qemu-aarch64: can't apply global max-arm-cpu.${{2#max,}}: Property not found"
        exit 1 ;;
    *) echo "qemu-aarch64: unable to find CPU model '$2'"; exit 1 ;;
esac
# The program that does nothing is one for another machine.
case "$3" in */idle) exit 0 ;; esac
export PLAYED_CPU="$2"
shift 2
if [ "$1" = "-d" ]; then cp {recorded} "$4"; shift 4; fi
exec "$@"
"""


@pytest.fixture
def target() -> Target:
    return load_target("armv8.2-a+dotprod+fp16")


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "qemu-aarch64-static"
    path.write_text(EMULATOR.format(recorded=RECORDED))
    path.chmod(0o755)
    monkeypatch.setattr(trial, "find_emulator", lambda: str(path))
    return path


def program(folder: Path, name: str, script: str) -> dict[str, Path]:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {name: path}


def test_programs_that_work_are_reported(tmp_path: Path, emulator: Path, target: Target) -> None:
    binaries = program(tmp_path, "llama-bench", 'test -s "$2" && echo "$@ as $PLAYED_CPU"')
    binaries |= program(tmp_path, "llama-other", '[ "$*" = --version ]')
    binaries |= program(tmp_path, "llama-third", "echo unknown argument; exit 1")
    log = tmp_path / "trial.log"
    report = try_binaries(binaries, target=target, log=log)
    assert report.cpu == target.qemu.cpu
    assert report.ran == {
        "llama-bench": "prefill and decode",
        "llama-other": "answered --version",
        # It told nothing of its version, and died of no instruction.
        "llama-third": "started",
    }
    assert report.lacking == {}
    assert report.as_dict()["emulator"] == "qemu-aarch64 version 7.2.22"
    assert f"-t 1 -r 1 as {target.qemu.cpu}" in log.read_text()


def test_an_illegal_instruction_is_named_and_explained(
    tmp_path: Path, emulator: Path, target: Target
) -> None:
    binaries = program(tmp_path, "edgequant-probe", "kill -ILL $$")
    with pytest.raises(AuditError) as caught:
        try_binaries(binaries, target=target, log=tmp_path / "trial.log")
    message = str(caught.value)
    assert message.startswith("edgequant-probe: uses an instruction, ldapr (rcpc) at 0x1adea24,")
    assert f"that a {target.qemu.cpu} does not have" in message
    assert "it was built for armv8.2-a+dotprod+fp16, which needs" in message
    assert "asimddp" in message
    assert f"{target.name}.toml" in (caught.value.next_step or "")


def test_a_program_that_handles_the_signal_is_explained_too(
    tmp_path: Path, emulator: Path, target: Target
) -> None:
    binaries = program(tmp_path, "edgequant-probe", "exit 132")
    with pytest.raises(AuditError, match=r"uses an instruction, ldapr \(rcpc\)"):
        try_binaries(binaries, target=target, log=tmp_path / "trial.log")


def test_a_program_that_only_answers_may_die_of_no_signal_either(
    tmp_path: Path, emulator: Path, target: Target
) -> None:
    binaries = program(tmp_path, "llama-quantize", "echo about to; kill -SEGV $$")
    with pytest.raises(AuditError, match=r"died of SIGSEGV as a cortex-a76[\s\S]*about to"):
        try_binaries(binaries, target=target, log=tmp_path / "trial.log")


def test_a_failing_decode_shows_its_last_lines(
    tmp_path: Path, emulator: Path, target: Target
) -> None:
    binaries = program(tmp_path, "llama-completion", "seq 100; echo cannot load >&2; exit 7")
    with pytest.raises(AuditError, match="exit status 7") as caught:
        try_binaries(binaries, target=target, log=tmp_path / "trial.log")
    assert caught.value.cause.endswith("cannot load")
    assert "\n  20\n" not in caught.value.cause


def test_a_decode_that_does_not_end_is_an_error(
    tmp_path: Path, emulator: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TIMEOUT_SECONDS", 0.5)
    binaries = program(tmp_path, "llama-bench", "echo loading; sleep 600")
    with pytest.raises(AuditError, match="did not decode a tiny model within"):
        try_binaries(binaries, target=target, log=tmp_path / "trial.log")
    assert (tmp_path / "trial.log").read_text().endswith("loading\n")


def test_an_answer_that_does_not_end_is_reported_as_such(
    tmp_path: Path, emulator: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "ASK_SECONDS", 1.0)
    binaries = program(tmp_path, "llama-server", "sleep 600")
    report = try_binaries(binaries, target=target, log=tmp_path / "trial.log")
    assert report.ran == {"llama-server": "started, and did not end by itself after --version"}


def test_what_a_lesser_cpu_lacks_is_reported(
    tmp_path: Path, emulator: Path, target: Target
) -> None:
    script = '[ "$PLAYED_CPU" = cortex-a53 ] && kill -ILL $$; exit 0'
    binaries = program(tmp_path, "llama-bench", script)
    report = try_binaries(binaries, target=target, log=tmp_path / "trial.log")
    assert report.lacking_cpu == "cortex-a53"
    assert report.lacking == {"llama-bench": "ldapr (rcpc) at 0x1adea24"}
    assert report.as_dict()["dies_as"] == {"cpu": "cortex-a53", "of": report.lacking}


def test_without_an_emulator_nothing_is_run_and_that_is_said(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    binaries = program(tmp_path, "llama-bench", "exit 1")
    report = try_binaries(binaries, target=target, log=tmp_path / "trial.log")
    assert report.ran == {}
    assert report.as_dict()["ran"] is False
    assert "install what Debian calls qemu-user-static" in str(report.not_run)
    # As this system installs packages.
    for manager, user, expected in (
        ("apk", 0, ": apk add qemu-aarch64"),
        ("apt-get", 1000, ": sudo apt-get install --yes qemu-user-static"),
    ):
        program(tmp_path, manager, "exit 1")
        monkeypatch.setattr("os.getuid", lambda user=user: user)
        report = try_binaries(binaries, target=target, log=tmp_path / "trial.log")
        assert str(report.not_run).endswith(expected)


@pytest.mark.parametrize(
    ("cpu", "why"),
    [
        ("cortex-a710,sve=off", "unable to find CPU model"),
        ("max,bogus=off", "can't apply global max-arm-cpu.bogus=off"),
    ],
)
def test_an_emulator_that_does_not_know_the_cpu_runs_nothing(
    tmp_path: Path, emulator: Path, target: Target, cpu: str, why: str
) -> None:
    newer = target.model_copy(update={"qemu": target.qemu.model_copy(update={"cpu": cpu})})
    report = try_binaries(
        program(tmp_path, "llama-bench", "exit 1"), target=newer, log=tmp_path / "trial.log"
    )
    assert f"does not know the CPU {cpu} (" in str(report.not_run)
    assert why in str(report.not_run)
    assert report.ran == {}


def test_an_emulator_that_does_not_know_the_lesser_cpu_says_nothing_of_it(
    tmp_path: Path, emulator: Path, target: Target
) -> None:
    newer = target.model_copy(
        update={"qemu": target.qemu.model_copy(update={"lacking_cpu": "max,bogus=off"})}
    )
    report = try_binaries(
        program(tmp_path, "llama-bench", "exit 0"), target=newer, log=tmp_path / "trial.log"
    )
    assert report.ran == {"llama-bench": "prefill and decode"}
    assert report.lacking_cpu is None
    assert "dies_as" not in report.as_dict()


def test_a_target_without_a_cpu_is_not_tried(tmp_path: Path, emulator: Path) -> None:
    host = load_target("host")
    report = try_binaries({"x": tmp_path / "x"}, target=host, log=tmp_path / "log")
    assert report.not_run == "host names no CPU to be tried on"


def test_nothing_of_our_environment_reaches_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_THREADS", "7")
    monkeypatch.setenv("QEMU_CPU", "max")
    ended = run_program(["/bin/sh", "-c", "env; ulimit -c"], folder=tmp_path, timeout_seconds=20)
    assert ended.status == 0
    assert "LLAMA_ARG" not in ended.output
    assert "QEMU" not in ended.output
    assert ended.output.splitlines()[-1] == "0"


def test_an_exit_status_is_no_signal_and_the_other_way_round() -> None:
    assert signal_of(0, "") is None
    assert signal_of(1, "") is None
    assert signal_of(130, "") is None
    assert signal_of(132, "") == signal.SIGILL
    assert signal_of(139, "") == signal.SIGSEGV
    assert signal_of(-4, "") == signal.SIGILL
    said = "qemu: uncaught target signal 4 (Illegal instruction) - core dumped\n"
    assert signal_of(132, said) == signal.SIGILL
    # A program that tells of one and goes on.
    assert signal_of(0, said) is None


def test_where_it_died_is_read_from_recorded_runs() -> None:
    found = illegal_instruction(RECORDED.read_text().splitlines())
    assert found == IllegalInstruction(0x01ADEA24, 0x38BFC108)
    assert str(found) == "ldapr (rcpc) at 0x1adea24"
    # A program that handles the signal runs on for a while.
    handled = RECORDED.with_name("qemu_in_asm_handled.txt").read_text().splitlines()
    assert illegal_instruction(handled) == IllegalInstruction(0x006D86DC, 0xF8200020)
    # A qemu that writes no signals.
    silent = [line for line in RECORDED.read_text().splitlines() if "SIGILL" not in line]
    assert illegal_instruction(silent) == found
    # One without a disassembler writes code in another form.
    unknown = illegal_instruction(
        ["IN: ", "OBJD-T: 08c1bf38", "--- SIGILL {si_addr=0x00401000} ---"]
    )
    assert unknown == IllegalInstruction(0x401000, None)
    assert str(unknown) == "an instruction at 0x401000"
    assert str(illegal_instruction([])) == "an instruction"


def test_an_unknown_instruction_is_explained_too(target: Target) -> None:
    text = explain_illegal_instruction("cortex-a53", IllegalInstruction(), target)
    assert text.startswith("uses an instruction that a cortex-a53 does not have")
    level = load_target("armv8-a")
    text = explain_illegal_instruction("cortex-a53", IllegalInstruction(1, 0x4E829420), level)
    assert text == (
        "uses an instruction, sdot (dotprod) at 0x1, that a cortex-a53 does not have: "
        "it was built for armv8-a"
    )


def test_features_are_named_once() -> None:
    names = needed_features(["armv8.1-a", "armv8.2-a", "dotprod", "unheard-of"])
    assert names == ["atomics", "asimdrdm", "asimddp"]


def test_real_runs_name_one_thread() -> None:
    for program_name, runs in trial.REAL_RUNS.items():
        for words in runs:
            assert re.search(r"(-t|--threads) 1\b", " ".join(words)), program_name
