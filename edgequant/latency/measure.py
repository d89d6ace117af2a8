"""Measure models on a board: every token of every repeat as one row.

Repeats are interleaved: repeat 1 of every model, then repeat 2 of every model. A board that warms
up, throttles or gets busy does so for all models alike, and their ratio still compares like with
like; measuring one model after another would put the drift into the ratio. The price is that each
run may find another model in the page cache: it shows in the load and prefill rows, which is why
the figure of a run is the median over its tokens.

After the repeats each model is run once more with prompts of other lengths, for a few tokens each:
a pace needs to know what a prompt costs by its length, and a token by its depth. Those runs are
numbered on after the repeats, and told from them by their prompt's tokens.

Each finished run's raw output is kept at once, so an interrupted measurement goes on with the
runs that are missing. A run that failed is a row, and is tried again by the next measurement.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgequant.boards.session import require_clock
from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.errors import (
    BoardUnreachableError,
    EdgequantError,
    ProbeError,
    RemoteCommandError,
)
from edgequant.core.files import write_text_whole
from edgequant.core.hashing import sha256_file, sha256_json
from edgequant.core.locks import exclusive
from edgequant.core.progress import Task, say, task
from edgequant.core.schemas import LATENCY
from edgequant.core.tables import write_table
from edgequant.latency.fit import fit_paces
from edgequant.latency.frame import Row, RunLabels, failed_row, make_frame, read_latency, run_rows
from edgequant.latency.pace import Pace
from edgequant.latency.probe import (
    MAX_PROMPT_BYTES,
    PROBE_NAME,
    ProbeOptions,
    ProbeRun,
    parse_probe_output,
    probe_command,
    run_probe,
)
from edgequant.latency.statistics import LatencySummary, Ratio, ratios, summarize

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.boards.board import Board
    from edgequant.boards.profile import BoardProfile, Clock

STAGE = "latency"
TABLE_NAME = LATENCY.file
RAW_FOLDER = "raw"
"""Of an artefact: what the probe printed, one file for each run."""
TRIES = 3
RUN_ERRORS = (ProbeError, RemoteCommandError, BoardUnreachableError)
"""What makes one run fail and leaves the others their chance."""
DEFAULT_PROMPT = "I believe the meaning of life is"
"""The study's."""
SHORT_RUN_TOKENS = 8
"""To generate after a prompt of another length."""
SHORT_PROMPT_TOKENS = 32
"""Half of a prompt shorter than this would tell little about prompts."""


class HasProbe(Protocol):
    """What is needed of a :class:`edgequant.build.build.Build`."""

    def binary(self, name: str) -> Path: ...

    @property
    def llama_cpp_commit(self) -> str: ...


class OnBoard(Protocol):
    """What is needed of a file that was deployed."""

    @property
    def remote_path(self) -> str: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Latency:
    """A finished measurement."""

    artefact: Artefact

    @property
    def reused(self) -> bool:
        """It was found as it is; nothing was run."""
        return self.artefact.reused

    @property
    def path(self) -> Path:
        """The ``latency.parquet``."""
        return self.artefact.file(TABLE_NAME)

    @cached_property
    def frame(self) -> pd.DataFrame:
        return read_latency(self.path)

    @cached_property
    def summaries(self) -> list[LatencySummary]:
        return summarize(self.frame)

    def ratios(self, reference: str | None = None) -> list[Ratio]:
        return ratios(self.frame, reference)

    def raw_runs(self, quantization: str) -> list[ProbeRun]:
        """What the probe printed in the runs of one quantization, without its repeats: the first
        run, and those with prompts of other lengths."""
        folder = self.artefact.folder / RAW_FOLDER
        repeats = int(str(self.artefact.manifest.parameters["repeats"]))
        runs = []
        for number in itertools.chain([1], itertools.count(repeats + 1)):
            path = folder / raw_name(quantization, number)
            if not path.is_file():
                break
            runs.append(parse_probe_output(path.read_text(encoding="utf-8").splitlines()))
        return runs

    @property
    def paces(self) -> list[Pace]:
        """Tokens to seconds, for each quantization that has times."""
        return fit_paces(self.frame)


@dataclass(frozen=True)
class _Plan:
    """All that can change a measurement."""

    profile: BoardProfile
    probe_sha256: str
    model_sha256: Mapping[str, str]
    prompt: str
    options: ProbeOptions
    repeats: int
    prompt_lengths: tuple[int, ...] | None
    contexts: Mapping[str, int | None]
    """The longest context that each model knows, where its file is here; found in the file, so
    that it is no input of its own."""
    latency_source: str
    clock: Clock
    llama_cpp_commit: str

    @property
    def inputs(self) -> dict[str, str]:
        return {
            "board": board_identity(self.profile),
            "probe": self.probe_sha256,
            **{f"model {name}": value for name, value in sorted(self.model_sha256.items())},
        }

    @property
    def parameters(self) -> dict[str, object]:
        return {
            "board": self.profile.name,
            "prompt": self.prompt,
            "repeats": self.repeats,
            "prompt_lengths": self.prompt_lengths,
            "latency_source": self.latency_source,
            "clock": self.clock,
            **self.options.model_dump(mode="json"),
        }

    @property
    def recipe(self) -> Recipe:
        return Recipe(STAGE, self.inputs, self.parameters, self.llama_cpp_commit)


def board_identity(profile: BoardProfile) -> str:
    """SHA-256 over what makes a board another board.

    Its description does not, nor how it is reached: keys, and the port of a virtual board, which
    is another one at each start.
    """
    # The section that is gone stays in it: measurements made before are found again.
    values = profile.without_address() | {"local": {"folder": None}}
    del values["description"]
    if profile.kind not in ("virtual", "local"):
        values[profile.kind] = profile.link_section.identity()
    return sha256_json([values, profile.remote_folder])


def check_threads(profile: BoardProfile, threads: int | None, clock: Clock) -> None:
    """Refuse more threads than cores: llama.cpp's threads wait for each other by spinning.

    Raises:
        ProbeError: more than the profile's cores, or than the one of the instruction clock.
    """
    cores = profile.running_cores(clock)
    if threads is None or cores is None or threads <= cores:
        return
    of_clock = " with the instruction clock" if clock == "instructions" else ""
    raise ProbeError(
        f"{threads} threads on {cores} core{'' if cores == 1 else 's'}{of_clock} would wait for "
        "each other and hardly move",
        subject=f"board {profile.name}",
        next_step=f"ask for at most {cores}"
        + (", or for the host's clock" if clock == "instructions" else ""),
    )


@dataclass(frozen=True)
class MeasureSettings:
    """How models are measured."""

    tokens: int = 128
    """To generate in each run; the first comes from the prompt: one less is timed."""
    repeats: int = 3
    """Runs of each model."""
    threads: int | None = None
    """By default the profile's, or one for each CPU of the board."""
    repack: bool = True
    """Let llama.cpp repack the weights into a second copy."""
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    prompt_lengths: tuple[int, ...] | None = None
    """Tokens of further prompts, each of which is run once for a few tokens: the prompt cut or
    repeated, to about that length. None: half and double of the prompt. Without any, a pace knows
    one length alone."""

    def check(self, profile: BoardProfile, clock: Clock) -> None:
        """Refuse what makes no sense on a board.

        Raises:
            ProbeError: it says what.
        """
        if self.tokens < 2:
            raise ProbeError(
                "at least 2 tokens are needed: the first one comes from the prompt",
                next_step="-n 128",
            )
        if self.repeats < 1:
            raise ProbeError("at least 1 repeat is needed")
        if self.prompt_lengths is not None and any(length < 1 for length in self.prompt_lengths):
            raise ProbeError("a prompt has at least 1 token", next_step="--prompt-lengths 64,256")
        check_threads(profile, self.threads, clock)

    def probe_options(self, profile: BoardProfile) -> ProbeOptions:
        """What the probe is told on a board."""
        return ProbeOptions(
            tokens=self.tokens,
            threads=self.threads if self.threads is not None else profile.threads,
            repack=self.repack,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
        )


def find_latency(
    profile: BoardProfile,
    models: Mapping[str, Path | OnBoard],
    settings: MeasureSettings,
    *,
    build: HasProbe,
    prompt: str,
    clock: Clock = "host",
    store: Store | None = None,
) -> Latency | None:
    """The measurement that :func:`measure` would make, where it was made before without failures.

    It needs no connection to the board. Arguments as :func:`measure`.
    """
    plan = _make_plan(profile, models, build, prompt, settings, clock)
    store = store if store is not None else Store()
    found = store.find(plan.recipe, accept=_without_failures)
    return None if found is None else Latency(found)


def measure(
    board: Board,
    models: Mapping[str, Path | OnBoard],
    settings: MeasureSettings,
    *,
    build: HasProbe,
    prompt: str,
    clock: Clock | None = None,
    store: Store | None = None,
    force: bool = False,
) -> Latency:
    """Time every token of some models on a board, or find it done.

    Args:
        board: where it is measured.
        models: quantization to a GGUF here, or to one that was deployed already.
        settings: how.
        build: has the probe for this board; it and the models here are deployed as needed.
        prompt: text with special tokens.
        clock: the clock that a virtual board must run with, by default the one it runs with;
            under "instructions" a nanosecond is an instruction, and the times repeat.
        store: where artefacts are kept, by default the cache.
        force: measure again, also what is there.

    Raises:
        ProbeError: every run failed, or an argument makes no sense.
        VirtualBoardError: the board is virtual and runs with the other clock.
        EdgequantError: the board cannot be reached, or a file not be deployed.
    """
    if not models:
        raise ProbeError("no models to measure")
    clock = clock if clock is not None else board.clock
    require_clock(board, clock)
    settings.check(board.profile, clock)
    plan = _make_plan(board.profile, models, build, prompt, settings, clock)
    probe_command("", "", prompt, plan.options)  # a prompt that cannot be used is refused at once
    store = store if store is not None else Store()

    def make(draft: ArtefactDraft) -> None:
        if force:
            draft.drop_work()
        with board_lock(store, plan.profile.name):
            probe, remote_models = deploy_missing(board, models, build, store)
            runs = _Runs(board, plan, draft.work_folder(), probe, remote_models)
            with draft.timed("measure"):
                rows = runs.all()
            if all(row["failed"] for row in rows):
                raise runs.errors[0]
            write_table(make_frame(rows), draft.folder / TABLE_NAME, LATENCY)
            runs.keep_raw(draft.folder / RAW_FOLDER)
            # What did not fail is not run again when the failed runs are tried once more.
            draft.keep_work = bool(runs.errors)
            draft.manifest.details.update(
                failed_runs=len(runs.errors),
                board_facts=_facts(board),
                system_info=runs.system_info,
                prompt_sha256=hashlib.sha256(prompt.encode()).hexdigest(),
            )

    made = store.get_or_make(plan.recipe, make, accept=_without_failures, force=force)
    return Latency(made)


def _without_failures(artefact: Artefact) -> bool:
    failed = artefact.manifest.details.get("failed_runs")
    if failed:
        say(f"An earlier measurement has {failed} failed runs: they are tried again.")
    return not failed


def _make_plan(
    profile: BoardProfile,
    models: Mapping[str, Path | OnBoard],
    build: HasProbe,
    prompt: str,
    settings: MeasureSettings,
    clock: Clock,
) -> _Plan:
    return _Plan(
        profile=profile,
        probe_sha256=sha256_file(build.binary(PROBE_NAME)),
        model_sha256={name: file_sha256(model) for name, model in models.items()},
        prompt=prompt,
        options=settings.probe_options(profile),
        repeats=settings.repeats,
        prompt_lengths=settings.prompt_lengths,
        contexts={name: _context(model) for name, model in models.items()},
        latency_source=profile.latency_source,
        clock=clock,
        llama_cpp_commit=build.llama_cpp_commit,
    )


def further_lengths(
    prompt_tokens: int, wanted: Sequence[int] | None, context: int | None
) -> list[int]:
    """Tokens of the further prompts that a model is run with.

    Args:
        prompt_tokens: of the prompt that is measured.
        wanted: None for half and double of it, or 64 and 128 where it is short.
        context: the model's longest; None where it is not known. What does not fit is left out, or,
            where nothing was wanted in particular, replaced by a quarter.
    """
    lengths = wanted if wanted is not None else _usual_lengths(prompt_tokens)
    # A cut text can come to some tokens more than asked for.
    fitting = [
        length
        for length in lengths
        if context is None or length + length // 8 + SHORT_RUN_TOKENS <= context
    ]
    if wanted is None and len(fitting) < len(lengths):
        fitting.append(prompt_tokens // 4)
    return [length for length in dict.fromkeys(fitting) if 0 < length != prompt_tokens]


def _usual_lengths(prompt_tokens: int) -> tuple[int, int]:
    if prompt_tokens < SHORT_PROMPT_TOKENS:
        return 2 * SHORT_PROMPT_TOKENS, 4 * SHORT_PROMPT_TOKENS
    return prompt_tokens // 2, 2 * prompt_tokens


def prompt_of(text: str, prompt_tokens: int, length: int) -> str:
    """A prompt of about ``length`` tokens, cut from repetitions of one of ``prompt_tokens``."""
    characters = max(round(len(text) * length / prompt_tokens), 1)
    whole, rest = divmod(characters, len(text))
    return text * whole + text[:rest]


def _context(model: Path | OnBoard) -> int | None:
    from edgequant.core.errors import GgufError
    from edgequant.models.formats.gguf import read_gguf

    if not isinstance(model, Path):
        return None
    try:
        header = read_gguf(model)
    except GgufError:
        return None  # The probe says better what is wrong with it.
    found = header.metadata.get(f"{header.architecture}.context_length")
    return found if isinstance(found, int) and found > 0 else None


def file_sha256(model: Path | OnBoard) -> str:
    """SHA-256 of a file here, or of one that was deployed.

    Raises:
        ProbeError: there is no such file.
    """
    if not isinstance(model, Path):
        return model.sha256
    if not model.is_file():
        raise ProbeError("no such file", subject=model, next_step="edgequant quantize makes it")
    return sha256_file(model)


def deploy_missing(
    board: Board, models: Mapping[str, Path | OnBoard], build: HasProbe, store: Store
) -> tuple[str, dict[str, str]]:
    """Paths on the board of the probe and of each model."""
    from edgequant.boards.deploy import deploy

    files = {PROBE_NAME: build.binary(PROBE_NAME)}
    files |= {f"model {name}": model for name, model in models.items() if isinstance(model, Path)}
    entries = deploy(board, files, store=store).entries
    paths = {
        name: entries[f"model {name}"].remote_path if isinstance(model, Path) else model.remote_path
        for name, model in models.items()
    }
    return entries[PROBE_NAME].remote_path, paths


class _Runs:
    """All runs of one measurement: those found finished, and those made now."""

    def __init__(
        self, board: Board, plan: _Plan, folder: Path, probe: str, models: Mapping[str, str]
    ) -> None:
        self._board = board
        self._plan = plan
        self._folder = folder
        self._probe = probe
        self._models = models
        self._prompt_tokens: dict[str, int] = {}
        self.errors: list[EdgequantError] = []
        self.system_info: str | None = None

    def all(self) -> list[Row]:
        """Rows of every run, in the order they were made."""
        plan = self._plan
        rows: list[Row] = []
        total = plan.repeats * len(self._models) * plan.options.tokens
        with task(f"Measuring on {plan.profile.name}", total) as shown:
            for repeat in range(1, plan.repeats + 1):
                for quantization in self._models:
                    what = f"Measuring {quantization} on {plan.profile.name}"
                    shown.describe(f"{what}, repeat {repeat}/{plan.repeats}")
                    done = shown.completed
                    rows += self._one(quantization, repeat, plan.prompt, plan.options, shown)
                    shown.update(done + plan.options.tokens)
        return rows + self._further()

    def _further(self) -> list[Row]:
        """Rows of the short runs with prompts of other lengths, numbered on after the repeats."""
        plan = self._plan
        tokens = min(SHORT_RUN_TOKENS, plan.options.tokens)
        options = plan.options.model_copy(update={"tokens": tokens})
        wanted = [
            (quantization, plan.repeats + number, length)
            for quantization in self._prompt_tokens
            for number, length in enumerate(self._lengths(quantization), 1)
        ]
        if not wanted:
            return []
        rows: list[Row] = []
        with task(f"Measuring other prompts on {plan.profile.name}", len(wanted)) as shown:
            for quantization, number, length in wanted:
                shown.describe(f"Measuring {quantization} with a prompt of {length} tokens")
                prompt = prompt_of(plan.prompt, self._prompt_tokens[quantization], length)
                rows += self._one(quantization, number, prompt, options)
                shown.advance()
        return rows

    def _lengths(self, quantization: str) -> list[int]:
        """Of the further prompts: what the model's context and the command line have room for."""
        plan, tokens = self._plan, self._prompt_tokens[quantization]
        longest = MAX_PROMPT_BYTES * tokens // len(plan.prompt.encode())
        context = min(plan.contexts[quantization] or longest, longest)
        return further_lengths(tokens, plan.prompt_lengths, context)

    def keep_raw(self, folder: Path) -> None:
        """Put every successful run's raw output beside the table."""
        folder.mkdir()
        for path in sorted(self._folder.glob("*.jsonl")):
            (folder / path.name).write_bytes(path.read_bytes())

    def _one(
        self,
        quantization: str,
        repeat: int,
        prompt: str,
        options: ProbeOptions,
        shown: Task | None = None,
    ) -> list[Row]:
        labels = RunLabels(
            board=self._plan.profile.name,
            quantization=quantization,
            repeat=repeat,
            model_sha256=self._plan.model_sha256[quantization],
            latency_source=self._plan.latency_source,
        )
        path = self._folder / raw_name(quantization, repeat)
        try:
            run = self._kept(path) or self._made(quantization, path, prompt, options, shown)
        except RUN_ERRORS as error:
            say(f"{quantization}, repeat {repeat}, failed: {error}")
            self.errors.append(error)
            return [failed_row(str(error), labels)]
        self.system_info = run.start.system_info
        self._prompt_tokens.setdefault(quantization, run.start.prompt_tokens)
        return run_rows(run, labels)

    def _kept(self, path: Path) -> ProbeRun | None:
        """A run that an interrupted measurement finished."""
        try:
            return parse_probe_output(path.read_text(encoding="utf-8").splitlines())
        except (OSError, ProbeError):
            return None

    def _made(
        self,
        quantization: str,
        path: Path,
        prompt: str,
        options: ProbeOptions,
        shown: Task | None,
    ) -> ProbeRun:
        """A run that is made now; ``shown`` counts its tokens."""
        lines: list[str] = []
        done = shown.completed if shown is not None else 0

        def count(event: str) -> None:
            if shown is not None and event == "token":
                shown.advance()

        def run_once() -> ProbeRun:
            lines.clear()
            if shown is not None:
                shown.update(done)
            return run_probe(
                self._board,
                self._probe,
                self._models[quantization],
                prompt,
                options,
                on_event=count,
                on_line=lines.append,
            )

        run = run_steadily(self._board, self._plan.clock, run_once)
        write_text_whole(path, "".join(f"{line.rstrip()}\n" for line in lines))
        return run


def run_steadily(board: Board, clock: Clock, run_once: Callable[[], ProbeRun]) -> ProbeRun:
    """One run; under the instruction clock it is tried again where that clock could not time it.

    Whenever nothing runs, that clock jumps to the next timer. So the board's side of a connection
    can wait for minutes of its time within a moment of ours, and the connection breaks; and while
    the model's pages come from storage, seconds pass that no instruction took. Times are otherwise
    the same each time, so that nothing is lost by another try, which finds the pages in memory.
    A run that still waits for storage at the last try is returned: see :func:`waited_for_storage`.
    """
    for _ in range(TRIES - 1 if clock == "instructions" else 0):
        try:
            run = run_once()
        except BoardUnreachableError as error:
            say(f"{error.cause}; trying again")
            board.close()
            continue
        if not waited_for_storage(run):
            return run
    return run_once()


def waited_for_storage(run: ProbeRun) -> bool:
    """Whether a prefill or token of a run read from storage; loading always may."""
    return any(step.major_faults > 0 or step.read_bytes for step in (run.prefill, *run.tokens))


def raw_name(quantization: str, repeat: int) -> str:
    """Name of the file that keeps what the probe printed in one run."""
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in quantization)
    return f"{kept}-{hashlib.sha256(quantization.encode()).hexdigest()[:6]}-{repeat}.jsonl"


def _facts(board: Board) -> object:
    """What the board says of itself (RAM, ISA flags, kernel), or why it does not."""
    from edgequant.boards.facts import collect_facts

    try:
        facts = collect_facts(board)
    except EdgequantError as error:
        return {"error": str(error)}
    return facts.model_dump(mode="json")


def board_lock(store: Store, name: str) -> contextlib.AbstractContextManager[None]:
    """Hold a board: two measurements at once would time each other."""
    path = store.root / STAGE / f"board-{name}.lock"
    return exclusive(path, f"Another measurement runs on {name}: waiting for it to end")


def name_models(paths: list[Path], file_type: Callable[[Path], str]) -> dict[str, Path]:
    """A name for each GGUF: its quantization, or its file's name where two share one.

    Args:
        paths: GGUF files.
        file_type: gives a file's quantization, "unknown" where the file does not tell.
    """
    types = {path: file_type(path) for path in paths}
    named: dict[str, Path] = {}
    for path in paths:
        name = types[path]
        if name == "unknown" or list(types.values()).count(name) > 1:
            name = path.stem
        unique, number = name, 2
        while unique in named:
            unique, number = f"{name} ({number})", number + 1
        named[unique] = path
    return named
