"""Run the probe on a board, and read the JSON lines it prints.

Reading is pure: :class:`ProbeReader` takes lines, wherever they come from.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgequant.core.errors import ProbeError
from edgequant.core.json_file import parse_json

if TYPE_CHECKING:
    from edgequant.boards.board import Board

PROBE_NAME = "edgequant-probe"
PROBE_VERSION = 1
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
MAX_PROMPT_BYTES = 32_000
"""Longest prompt handed over on the command line: the kernel allows 128 KiB for one argument,
and quoting for two shells can multiply it."""
STDERR_TAIL_LINES = 6

Count = Annotated[int, Field(ge=0)]


class ProbeOptions(BaseModel):
    """How the probe runs a model.

    ``threads`` None leaves the choice to the probe (one for each CPU); ``context`` None makes it
    as long as prompt and tokens need.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Annotated[int, Field(gt=0)] = 128
    threads: Annotated[int, Field(gt=0)] | None = None
    repack: bool = True
    mmap: bool = True
    mlock: bool = False
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    context: Annotated[int, Field(gt=0)] | None = None
    batch: Annotated[int, Field(gt=0)] = 512

    def arguments(self) -> list[str]:
        """The probe's command-line options."""
        arguments = ["-n", str(self.tokens)]
        if self.threads is not None:
            arguments += ["--threads", str(self.threads)]
        if self.context is not None:
            arguments += ["--context", str(self.context)]
        arguments += ["--batch", str(self.batch)]
        for name in ("repack", "mmap", "mlock"):
            arguments += [f"--{name}", "1" if getattr(self, name) else "0"]
        arguments += ["--cache-type-k", self.cache_type_k, "--cache-type-v", self.cache_type_v]
        return arguments


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ProbeStart(_Event):
    """What the probe is and what it was told."""

    probe_version: int
    llama_cpp_commit: str
    model: str
    threads: int
    repack: bool
    cache_type_k: str
    cache_type_v: str
    context: int
    prompt_tokens: int
    system_info: str


class ProbeStep(_Event):
    """One timed step; the counters are differences over it, except the resident size.

    None means that the board does not tell.
    """

    nanoseconds: Count
    major_faults: Count
    minor_faults: Count
    read_bytes: Count | None = None
    resident_bytes: Count | None = None
    frequency_hz: Count | None = None
    temperature_celsius: float | None = None

    @property
    def seconds(self) -> float:
        return self.nanoseconds / 1e9


class ProbeLoad(ProbeStep):
    """Loading the model's file, mapped or read, and repacking it."""

    model_bytes: Count | None = None
    """Bytes of all tensors."""


class ProbePrefill(ProbeStep):
    """Evaluating the prompt."""

    tokens: Count


class ProbeToken(ProbeStep):
    """One generated token. Index 0 is picked from the prefill's logits: no evaluation in it."""

    index: Count
    token_id: Count
    piece: str


class ProbeEnd(_Event):
    """The run came to its end."""

    stop_reason: Literal["limit", "eog"]
    tokens: Count
    nanoseconds: Count


class ProbeRun(BaseModel):
    """Everything one run of the probe told; a whole run, or there is none."""

    model_config = ConfigDict(frozen=True)

    start: ProbeStart
    load: ProbeLoad
    prefill: ProbePrefill
    tokens: tuple[ProbeToken, ...]
    end: ProbeEnd

    @property
    def ttft_seconds(self) -> float:
        """Time to the first token, without loading: prefill and picking the token."""
        return (self.prefill.nanoseconds + self.tokens[0].nanoseconds) / 1e9


_Model = TypeVar("_Model", bound=_Event)


class ProbeReader:
    """Takes the probe's lines one after another; :meth:`finish` gives the run.

    Events of an unknown name are skipped, so that an older reader gets along with a newer probe
    of the same version. Anything else that is out of place is an error.
    """

    def __init__(self, subject: str | None = None) -> None:
        self._subject = subject
        self._line_number = 0
        self._start: ProbeStart | None = None
        self._load: ProbeLoad | None = None
        self._prefill: ProbePrefill | None = None
        self._tokens: list[ProbeToken] = []
        self._end: ProbeEnd | None = None
        self.error: str | None = None
        """What the probe itself says went wrong."""

    def feed(self, line: str) -> str | None:
        """Take one line.

        Returns:
            The event's name, None for an empty line.

        Raises:
            ProbeError: the line is not one of the probe's, or comes in the wrong place.
        """
        self._line_number += 1
        text = line.strip()
        if not text:
            return None
        try:
            values = parse_json(text)
        except ValueError:
            raise self._wrong(f"is not JSON: {text[:80]!r}") from None
        if not isinstance(values, dict) or not isinstance(values.get("event"), str):
            raise self._wrong("has no event")
        event: str = values.pop("event")
        if event == "error":
            self.error = str(values.get("message", "no reason given"))
        elif self._end is not None:
            raise self._wrong(f"comes after the end: {event}")
        elif event == "start":
            self._start = self._read_start(values)
        elif event == "load":
            self._load = self._read(ProbeLoad, values, after=self._start)
        elif event == "prefill":
            self._prefill = self._read(ProbePrefill, values, after=self._load)
        elif event == "token":
            token = self._read(ProbeToken, values, after=self._prefill)
            if token.index != len(self._tokens):
                raise self._wrong(f"has token {token.index}, expected {len(self._tokens)}")
            self._tokens.append(token)
        elif event == "end":
            self._end = self._read(ProbeEnd, values, after=self._prefill)
        return event

    def finish(self) -> ProbeRun:
        """The whole run.

        Raises:
            ProbeError: the probe said what went wrong, or its output ends early.
        """
        if self.error is not None:
            raise ProbeError(self.error, subject=self._subject)
        if (
            self._start is None
            or self._load is None
            or self._prefill is None
            or self._end is None
            or not self._tokens
        ):
            raise ProbeError(
                f"the probe's output ends early, after {len(self._tokens)} tokens",
                subject=self._subject,
            )
        if self._end.tokens != len(self._tokens):
            raise ProbeError(
                f"the probe counts {self._end.tokens} tokens but printed {len(self._tokens)}",
                subject=self._subject,
            )
        return ProbeRun(
            start=self._start,
            load=self._load,
            prefill=self._prefill,
            tokens=tuple(self._tokens),
            end=self._end,
        )

    def _read_start(self, values: dict[str, object]) -> ProbeStart:
        version = values.get("probe_version")
        if version != PROBE_VERSION:
            raise self._wrong(f"is of probe version {version}, this reads {PROBE_VERSION}")
        if self._start is not None:
            raise self._wrong("starts a second run")
        return self._read(ProbeStart, values)

    def _read(self, model: type[_Model], values: dict[str, object], after: object = True) -> _Model:
        if after is None:
            raise self._wrong("comes before what it follows on")
        try:
            return model.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise self._wrong(f"has a bad {where}: {problem['msg']}") from None

    def _wrong(self, what: str) -> ProbeError:
        return ProbeError(
            f"line {self._line_number} of the probe's output {what}", subject=self._subject
        )


def parse_probe_output(lines: Iterable[str]) -> ProbeRun:
    """Read all that one run of the probe printed on stdout.

    Raises:
        ProbeError: not the output of a whole, successful run.
    """
    reader = ProbeReader()
    for line in lines:
        reader.feed(line)
    return reader.finish()


def probe_command(binary: str, model: str, prompt: str, options: ProbeOptions) -> str:
    """The shell command that runs the probe on a board.

    Args:
        binary: path of the probe on the board.
        model: path of the GGUF on the board.
        prompt: text, special tokens included.
        options: the rest.

    Raises:
        ProbeError: the prompt cannot be handed over.
    """
    if not prompt:
        raise ProbeError("the prompt is empty", next_step="give at least one word")
    if "\0" in prompt:
        raise ProbeError("the prompt has a zero byte", next_step="remove it")
    size = len(prompt.encode())
    if size > MAX_PROMPT_BYTES:
        raise ProbeError(
            f"the prompt has {size} bytes; at most {MAX_PROMPT_BYTES} can be measured with",
            next_step="measure with a shorter prompt of the same kind",
        )
    words = [binary, "--model", model, "--prompt", prompt, *options.arguments()]
    return "exec " + shlex.join(words)


def run_probe(
    board: Board,
    binary_remote: str,
    model_remote: str,
    prompt: str,
    options: ProbeOptions,
    *,
    on_event: Callable[[str], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> ProbeRun:
    """Run the probe on a board and read what it prints as it comes.

    Args:
        board: where it runs.
        binary_remote: path of the probe there.
        model_remote: path of the GGUF there.
        prompt: text, special tokens included.
        options: the rest.
        on_event: called with each event's name, for progress.
        on_line: called with each raw line, to keep it.

    Raises:
        ProbeError: the probe failed, or printed what is not a whole run.
        BoardUnreachableError: the connection broke.
    """
    subject = f"board {board.profile.name}"
    reader = ProbeReader(subject)

    def take(line: str) -> None:
        event = reader.feed(line)
        if on_line is not None:
            on_line(line)
        if event is not None and on_event is not None:
            on_event(event)

    command = probe_command(binary_remote, model_remote, prompt, options)
    result = board.stream(command, take, timeout_seconds=None, check=False)
    if result.status != 0:
        raise _failure(result.status, reader.error, result.stderr, subject)
    return reader.finish()


_STATUS: dict[int, tuple[str, str]] = {
    126: (
        "the probe cannot be run there: its file is no program for this board",
        "build for the board's architecture: set build.target in its profile",
    ),
    127: (
        "the probe is not there, or needs a loader that the board lacks",
        "deploy again; a static binary needs no loader",
    ),
    132: (
        "illegal instruction: the probe was built for a CPU with features that this one lacks",
        "compare `edgequant board facts` with the build target, and set a lesser build.target "
        "in the board's profile",
    ),
    134: (
        "llama.cpp aborted, most often for lack of memory",
        "use a smaller quantization or context, or --no-repack",
    ),
    135: (
        "a part of the model could not be read from storage (bus error)",
        "check the board's storage (its kernel log tells), and deploy the model again",
    ),
    137: (
        "the probe was killed, most often because the board ran out of memory",
        "use --no-repack (repacking holds a second copy of the weights), a smaller quantization "
        "or a quantized cache, or free memory on the board",
    ),
    139: (
        "the probe crashed (segmentation fault)",
        "build again; if it stays, report it with the model's type",
    ),
    143: ("the probe was ended by somebody", "run it again"),
}


def _failure(status: int, said: str | None, stderr: str, subject: str) -> ProbeError:
    """What a failed run means: what the probe says itself, or what its exit status tells."""
    meaning, next_step = _STATUS.get(status, (f"the probe failed with exit status {status}", None))
    if said is not None and status not in (132, 137):
        return ProbeError(said, subject=subject, next_step=next_step)
    tail = stderr.strip().splitlines()[-STDERR_TAIL_LINES:]
    lines = "; its last lines:\n  " + "\n  ".join(tail) if tail else ""
    return ProbeError(
        f"{meaning} (exit status {status}){lines}", subject=subject, next_step=next_step
    )
