"""Run what was built under an emulated CPU that has what the target promises and little more.

Headers cannot show that a program uses an instruction its board lacks; running it does. The
programs that decode are given a tiny model whose weights have every type, so that the kernel of
each type runs, for a whole prompt at once and for single tokens.
"""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgequant.build.idle_program import idle_program
from edgequant.build.proof.encodings import describe_instruction, instruction_at
from edgequant.build.proof.tiny_model import write_tiny_model
from edgequant.build.targets.isa import ISA_FEATURES
from edgequant.build.targets.target import Target
from edgequant.core.errors import AuditError
from edgequant.core.install_hints import install_command
from edgequant.core.process import run_captured
from edgequant.core.progress import task

EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
EMULATOR_PACKAGE = "qemu-user-static"
# A decode takes less than a second; a machine that does much else may need far longer.
TIMEOUT_SECONDS = 300.0
ASK_SECONDS = 60.0
TAIL_LINES = 12
IDLE_PROGRAM = "idle"
PROMPT = "the quick brown fox jumps over"
MODEL = "{model}"

# By program, the arguments of each real run: prefill and decode on one thread. The options are
# those that every llama.cpp of the last years knows.
REAL_RUNS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "edgequant-probe": tuple(
        ("--model", MODEL, "--prompt", PROMPT, "-n", "4", "--threads", "1", "--repack", repack)
        # Repacked weights have kernels of their own.
        for repack in ("1", "0")
    ),
    "llama-bench": (("-m", MODEL, "-p", "32", "-n", "4", "-t", "1", "-r", "1"),),
    "llama-completion": (
        ("-m", MODEL, "-p", PROMPT, "-n", "4", "-t", "1", "-no-cnv", "--temp", "0"),
    ),
}
# What every other program is asked for.
QUESTION = ("--version",)
ANSWERED = f"answered {QUESTION[0]}"

_UNCAUGHT = re.compile(r"uncaught target signal (\d+)")
_CODE_LINE = re.compile(r"0x([0-9a-f]+):\s+([0-9a-f]{8})\s")
_SIGILL_LINE = re.compile(r"--- SIGILL \{.*si_addr=0x([0-9a-f]+)")
FATAL_SIGNALS = frozenset(
    (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)
)


@dataclass(frozen=True)
class Ended:
    """How a run of a program ended."""

    signal_number: int | None
    """Signal that it died of, or None."""
    status: int | None
    """Exit status; None if it died of a signal or was still running when its time was up."""
    output: str
    """Both streams."""

    @property
    def tail(self) -> str:
        """The last lines, indented for a message."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return "\n  ".join(lines[-TAIL_LINES:])


@dataclass(frozen=True)
class IllegalInstruction:
    """The instruction that a program died of, as far as qemu tells."""

    address: int | None = None
    word: int | None = None
    """Its 32 bits."""

    def __str__(self) -> str:
        what = "an instruction" if self.word is None else describe_instruction(self.word)
        return what if self.address is None else f"{what} at 0x{self.address:x}"


@dataclass(frozen=True)
class TrialReport:
    """What running the binaries showed."""

    cpu: str | None
    """CPU that was emulated; None: nothing was run."""
    emulator: str | None = None
    """Version of qemu, in its own words."""
    ran: Mapping[str, str] = field(default_factory=dict)
    """Program to what it did: ``prefill and decode``, ``answered --version``, or ``started``."""
    lacking_cpu: str | None = None
    """None also where this qemu does not know it."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Program to the first instruction that it uses and ``lacking_cpu`` does not have."""
    not_run: str | None = None
    """Why nothing was run, and what would change that."""

    def as_dict(self) -> dict[str, object]:
        """The report as plain values, for a manifest."""
        if self.not_run is not None:
            return {"ran": False, "reason": self.not_run}
        found: dict[str, object] = {
            "ran": True,
            "cpu": self.cpu,
            "emulator": self.emulator,
            "programs": dict(self.ran),
        }
        if self.lacking_cpu is not None:
            found["dies_as"] = {"cpu": self.lacking_cpu, "of": dict(self.lacking)}
        return found


def find_emulator() -> str | None:
    """qemu-user for 64-bit ARM programs, or None. Needed on an ARM host too: only it can be told
    to be a lesser CPU."""
    for name in EMULATORS:
        found = shutil.which(name)
        if found is not None:
            return found
    return None


def try_binaries(binaries: Mapping[str, Path], *, target: Target, log: Path) -> TrialReport:
    """Run every program of a board's build as the CPU that its target is for.

    Args:
        binaries: name of each program to its file.
        target: what they were built for; its ``qemu`` settings name the CPU.
        log: file that all output is appended to.

    Returns:
        What was run, or why nothing was.

    Raises:
        AuditError: a program dies of an illegal instruction (the message names it), of another
            signal, or fails to decode.
    """
    cpu = target.qemu.cpu
    if cpu is None:
        return TrialReport(None, not_run=f"{target.name} names no CPU to be tried on")
    emulator = find_emulator()
    if emulator is None:
        install = install_command(EMULATOR_PACKAGE)
        return TrialReport(None, not_run=f"qemu-user is not installed: {install}")
    ran: dict[str, str] = {}
    lacking: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="edgequant-trial-") as name,
        task(f"Trying the binaries as a {cpu}", total=len(binaries)) as shown,
    ):
        folder = Path(name)
        version = _version(emulator, folder)
        refusal = refusal_of_cpu(emulator, cpu, folder)
        if refusal is not None:
            return TrialReport(
                None,
                not_run=f"this qemu-user does not know the CPU {cpu} ({refusal}): "
                "another version is needed",
            )
        lacking_cpu = target.qemu.lacking_cpu
        if lacking_cpu is not None and refusal_of_cpu(emulator, lacking_cpu, folder) is not None:
            lacking_cpu = None
        model = write_tiny_model(folder / "tiny.gguf")
        trial = _Trial(emulator, folder, model, target, log)
        for program, path in sorted(binaries.items()):
            ran[program] = trial.run_as(cpu, program, path)
            if lacking_cpu is not None:
                found = trial.first_lacking(lacking_cpu, program, path)
                if found is not None:
                    lacking[program] = str(found)
            shown.advance()
    return TrialReport(cpu, emulator=version, ran=ran, lacking_cpu=lacking_cpu, lacking=lacking)


class _Trial:
    """One emulator, one folder to run in, one model."""

    def __init__(self, emulator: str, folder: Path, model: Path, target: Target, log: Path) -> None:
        self._emulator = emulator
        self._folder = folder
        self._model = model
        self._target = target
        self._log = log

    def run_as(self, cpu: str, program: str, path: Path) -> str:
        """Run a program in every way that is tried; the words for a report.

        Raises:
            AuditError: it did not do what it should.
        """
        for arguments in self._runs(program):
            ended = self._run(cpu, path, arguments)
            if ended.signal_number == signal.SIGILL:
                found = self._illegal_instruction(cpu, path, arguments)
                raise AuditError(
                    explain_illegal_instruction(cpu, found, self._target),
                    subject=program,
                    next_step="compare the flags and [qemu] cpu in "
                    f"toolchain/targets/{self._target.name}.toml: the binary was not kept",
                )
            fault = find_fault(ended, cpu=cpu, decodes=program in REAL_RUNS)
            if fault is not None:
                raise AuditError(
                    fault, subject=program, next_step=f"read the whole log: {self._log}"
                )
            if program not in REAL_RUNS:
                return _answer(ended)
        return "prefill and decode"

    def first_lacking(self, cpu: str, program: str, path: Path) -> IllegalInstruction | None:
        """The instruction that a program dies of as another CPU; None if it does not."""
        for arguments in self._runs(program):
            ended = self._run(cpu, path, arguments)
            if ended.signal_number == signal.SIGILL:
                return self._illegal_instruction(cpu, path, arguments)
        return None

    def _runs(self, program: str) -> tuple[tuple[str, ...], ...]:
        runs = REAL_RUNS.get(program, (QUESTION,))
        return tuple(
            tuple(word if word != MODEL else str(self._model) for word in words) for words in runs
        )

    def _illegal_instruction(
        self, cpu: str, path: Path, arguments: Sequence[str]
    ) -> IllegalInstruction:
        """Run it again, with all code and signals written down as they come."""
        record = self._folder / "record.log"
        self._run(cpu, path, arguments, ["-d", "in_asm,strace", "-D", str(record)])
        try:
            with record.open(encoding="utf-8", errors="replace") as lines:
                found = illegal_instruction(lines)
        except FileNotFoundError:
            return IllegalInstruction()
        finally:
            record.unlink(missing_ok=True)
        # Some versions of qemu write the bytes of some CPUs' instructions in reverse.
        word = None if found.address is None else instruction_at(path, found.address)
        return found if word is None else replace(found, word=word)

    def _run(
        self, cpu: str, path: Path, arguments: Sequence[str], options: Sequence[str] = ()
    ) -> Ended:
        limit = ASK_SECONDS if tuple(arguments) == QUESTION else TIMEOUT_SECONDS
        argv = [self._emulator, "-cpu", cpu, *options, str(path.resolve()), *arguments]
        ended = run_program(argv, folder=self._folder, timeout_seconds=limit)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write("$ " + " ".join(argv) + "\n" + ended.output)
        return ended


def find_fault(ended: Ended, *, cpu: str, decodes: bool) -> str | None:
    """What is wrong with how a program ended, for a message; None if nothing is.

    Args:
        ended: how it ended.
        cpu: what it was run as.
        decodes: whether it was to decode; of the others, only dying of a signal is wrong, as
            each has ways of its own to be asked for its version.
    """
    if ended.signal_number is not None:
        name = _signal_name(ended.signal_number)
        return f"died of {name} as a {cpu}; its last lines:\n  {ended.tail}"
    if not decodes or ended.status == 0:
        return None
    if ended.status is None:
        return (
            f"did not decode a tiny model within {TIMEOUT_SECONDS:.0f} s as a {cpu}; its last "
            f"lines:\n  {ended.tail}"
        )
    return (
        f"failed with exit status {ended.status} as a {cpu}, decoding a tiny model; its last "
        f"lines:\n  {ended.tail}"
    )


def run_program(argv: Sequence[str], *, folder: Path, timeout_seconds: float) -> Ended:
    """Run a program to its end, without input, core files or our environment.

    Args:
        argv: the program and its arguments.
        folder: where it runs; also its home.
        timeout_seconds: it is ended after so long.
    """
    # The environment may have settings for llama.cpp's programs and for qemu.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C"}
    no_core_file = ["/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "sh", *argv]
    captured = run_captured(
        no_core_file, timeout_seconds=timeout_seconds, cwd=folder, env=environment
    )
    if captured.status is None:
        return Ended(None, None, captured.output)
    number = signal_of(captured.status, captured.output)
    return Ended(number, None if number is not None else captured.status, captured.output)


def signal_of(status: int, output: str) -> int | None:
    """The signal that a program under qemu-user died of, or None.

    qemu-user says so and sends the same signal to itself. A program that handles the signal (our
    probe does, to say what happened) ends with 128 and its number, as under a shell.
    """
    if status < 0:
        return -status
    said = _UNCAUGHT.search(output)
    if said is not None and status != 0:
        return int(said[1])
    return status - 128 if status - 128 in FATAL_SIGNALS else None


def illegal_instruction(record: Iterable[str]) -> IllegalInstruction:
    """Where a program died, of what qemu-user writes with ``-d in_asm,strace``.

    Each instruction is a line when it is first reached, each signal one with the address. Where a
    qemu writes no signals, the last instruction is the one: it ended its block, and the program.

    Args:
        record: the lines.
    """
    words: dict[int, int] = {}
    address = None
    for line in record:
        code = _CODE_LINE.match(line)
        if code is not None:
            address = int(code[1], 16)
            words[address] = int(code[2], 16)
            continue
        died = _SIGILL_LINE.match(line)
        if died is not None:
            address = int(died[1], 16)
            break
    return IllegalInstruction(address, None if address is None else words.get(address))


def explain_illegal_instruction(cpu: str, found: IllegalInstruction, target: Target) -> str:
    """Why a program died, for a message that starts with its name."""
    what = "an instruction" if found.word is None else f"an instruction, {found},"
    needed = needed_features(target.isa)
    needs = f", which needs {', '.join(needed)}" if needed else ""
    return f"uses {what} that a {cpu} does not have: it was built for {target.name}{needs}"


def needed_features(isa: Sequence[str]) -> list[str]:
    """What the kernel of a board must show for a target's instruction set, each once."""
    return list(dict.fromkeys(name for word in isa for name in ISA_FEATURES.get(word, ())))


def _answer(ended: Ended) -> str:
    if ended.status is None:
        return f"started, and did not end by itself after {QUESTION[0]}"
    # Whether it knows the question says nothing about its instructions.
    return ANSWERED if ended.status == 0 else "started"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _version(emulator: str, folder: Path) -> str:
    answer = run_program([emulator, "--version"], folder=folder, timeout_seconds=ASK_SECONDS)
    return answer.output.partition("\n")[0].strip()


def refusal_of_cpu(emulator: str, cpu: str, folder: Path) -> str | None:
    """Why a qemu-user cannot be a CPU, in its own words; None if it can.

    Asked by running a program that does nothing: the list of CPUs that qemu prints says nothing
    of the properties that may follow a name.

    Args:
        emulator: the qemu-user.
        cpu: what follows ``-cpu``, with its properties, e.g. ``max,sve=off``.
        folder: where that program is written and run.
    """
    idle = folder / IDLE_PROGRAM
    idle.write_bytes(idle_program("aarch64") or b"")
    idle.chmod(0o755)
    ended = run_program(
        [emulator, "-cpu", cpu, str(idle)], folder=folder, timeout_seconds=ASK_SECONDS
    )
    if ended.status == 0:
        return None
    lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"
