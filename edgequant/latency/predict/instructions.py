"""Instructions per token, counted on the virtual board under its instruction clock.

With qemu's ``-icount shift=0`` the board's clock advances one nanosecond per executed instruction,
so that a time read on it is a count, the same to the fourth digit from run to run. One thread runs
(the clock needs a single CPU); a board with more cores splits the same count among them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.boards.session import require_clock
from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.errors import ProbeError
from edgequant.core.files import write_json
from edgequant.core.hashing import sha256_file
from edgequant.core.progress import task
from edgequant.latency.measure import (
    RAW_FOLDER,
    HasProbe,
    Latency,
    OnBoard,
    board_identity,
    deploy_missing,
    file_sha256,
    raw_name,
    run_steadily,
    waited_for_storage,
)
from edgequant.latency.probe import (
    PROBE_NAME,
    ProbeOptions,
    ProbeRun,
    parse_probe_output,
    run_probe,
)
from edgequant.latency.statistics import median

if TYPE_CHECKING:
    from edgequant.boards.board import Board
    from edgequant.boards.profile import BoardProfile

STAGE = "instructions"
FILE_NAME = "instructions.json"


@dataclass(frozen=True)
class InstructionCounts:
    """Instructions of one token, all on one thread."""

    decode: float
    """Of one generated token."""
    prompt: float
    """Of one more token of a prompt."""


@dataclass(frozen=True)
class Counts:
    """Counted instructions of some models."""

    artefact: Artefact

    @cached_property
    def of(self) -> dict[str, InstructionCounts]:
        """Quantization to its counts."""
        values = json.loads(self.artefact.file(FILE_NAME).read_text(encoding="utf-8"))
        return {name: InstructionCounts(**counts) for name, counts in values.items()}


def counts_from_runs(short: ProbeRun, long: ProbeRun) -> InstructionCounts:
    """Counts from two runs under the instruction clock with prompts of different length.

    A decoded token's is the median of the short run's; a prompt token's is the slope between the
    two prefills, so that what a prefill costs whatever its length falls out.

    Raises:
        ProbeError: the runs decoded nothing, or the longer prompt is not longer or not dearer.
    """
    if len(short.tokens) < 2:
        raise ProbeError("at least 2 tokens are needed to count instructions")
    more_tokens = long.prefill.tokens - short.prefill.tokens
    more = long.prefill.nanoseconds - short.prefill.nanoseconds
    if more_tokens <= 0 or more <= 0:
        raise ProbeError(
            f"a prompt of {long.prefill.tokens} tokens takes {more} instructions more than one of "
            f"{short.prefill.tokens}: the board's clock does not count instructions"
        )
    decode = median([float(token.nanoseconds) for token in short.tokens[1:]])
    return InstructionCounts(decode=decode, prompt=more / more_tokens)


@dataclass(frozen=True)
class CountSettings:
    """How instructions are counted."""

    tokens: int = 8
    """To decode."""
    repack: bool = True
    """Let llama.cpp repack the weights."""


def find_instructions(
    profile: BoardProfile,
    models: Mapping[str, Path | OnBoard],
    settings: CountSettings,
    *,
    build: HasProbe,
    prompt: str,
    store: Store | None = None,
) -> Counts | None:
    """What :func:`count_instructions` would return, where it was counted before."""
    recipe = _recipe(profile, models, build, prompt, settings)
    found = (store if store is not None else Store()).find(recipe)
    return None if found is None else Counts(found)


def count_instructions(
    board: Board,
    models: Mapping[str, Path | OnBoard],
    settings: CountSettings,
    *,
    build: HasProbe,
    prompt: str,
    measured: Latency | None = None,
    store: Store | None = None,
) -> Counts:
    """Count each model's instructions per token, or find them counted.

    Args:
        board: a virtual board that was started with the instruction clock.
        models: quantization to a GGUF here, or to one that was deployed already.
        settings: how.
        build: has the probe for this board.
        prompt: text; it is evaluated once as it is and once doubled.
        measured: a measurement of these models; its runs are taken for those with the prompt as it
            is, where they were made in just that way.
        store: where artefacts are kept, by default the cache.

    Raises:
        ProbeError: a run failed: a count is either there for every model or not at all.
        VirtualBoardError: the board runs with the host's clock.
    """
    if board.profile.kind == "virtual":
        require_clock(board, "instructions")
    store = store if store is not None else Store()
    recipe = _recipe(board.profile, models, build, prompt, settings)

    def make(draft: ArtefactDraft) -> None:
        counts: dict[str, InstructionCounts] = {}
        probe, remote = deploy_missing(board, models, build, store)
        with task("Counting instructions per token", len(models)) as shown:
            for quantization, path in remote.items():
                shown.describe(f"Counting instructions per token of {quantization}")

                def run(text: str, tokens: int, path: str = path) -> ProbeRun:
                    options = ProbeOptions(tokens=tokens, threads=1, repack=settings.repack)
                    return run_probe(board, probe, path, text, options)

                short = _measured_run(measured, recipe, quantization, settings)
                if short is None:
                    short = _counted(board, quantization, run, prompt, settings.tokens)
                long = _counted(board, quantization, run, prompt + prompt, 1)
                counts[quantization] = counts_from_runs(short, long)
                shown.advance()
        write_json(draft.folder / FILE_NAME, {name: asdict(c) for name, c in counts.items()})

    return Counts(store.get_or_make(recipe, make))


def _counted(
    board: Board,
    quantization: str,
    run: Callable[[str, int], ProbeRun],
    text: str,
    tokens: int,
) -> ProbeRun:
    found = run_steadily(board, "instructions", functools.partial(run, text, tokens))
    if waited_for_storage(found):
        raise ProbeError(
            f"{quantization} is read from storage while it runs: its instructions cannot be told "
            "from the waiting",
            subject=f"board {board.profile.name}",
            next_step="give the virtual board more memory than the model takes",
        )
    return found


def _measured_run(
    measured: Latency | None, wanted: Recipe, quantization: str, settings: CountSettings
) -> ProbeRun | None:
    """The first run of a measurement, as if it had been made for counting; None where it was not.

    Under the instruction clock the same binary, model, prompt and options take the same
    instructions each time, token by token: a longer run begins with the shorter one's.
    """
    if measured is None:
        return None
    made = measured.artefact.manifest
    same_inputs = all(
        made.inputs.get(name) == wanted.inputs[name]
        for name in ("board", "probe", f"model {quantization}")
    )
    expected = {
        **ProbeOptions(threads=1, repack=settings.repack).model_dump(
            mode="json", exclude={"tokens"}
        ),
        "prompt": wanted.parameters["prompt"],
        "clock": "instructions",
    }
    same_way = all(made.parameters.get(name) == value for name, value in expected.items())
    path = measured.artefact.folder / RAW_FOLDER / raw_name(quantization, 1)
    if not same_inputs or not same_way or not path.is_file():
        return None
    run = parse_probe_output(path.read_text(encoding="utf-8").splitlines())
    if len(run.tokens) < settings.tokens or waited_for_storage(run):
        return None
    return run.model_copy(update={"tokens": run.tokens[: settings.tokens]})


def _recipe(
    profile: BoardProfile,
    models: Mapping[str, Path | OnBoard],
    build: HasProbe,
    prompt: str,
    settings: CountSettings,
) -> Recipe:
    inputs = {
        "board": board_identity(profile),
        "probe": sha256_file(build.binary(PROBE_NAME)),
        **{f"model {name}": file_sha256(model) for name, model in sorted(models.items())},
    }
    parameters: dict[str, object] = {
        "prompt": prompt,
        "tokens": settings.tokens,
        "repack": settings.repack,
        "threads": 1,
        "waits_for_storage": False,
    }
    return Recipe(STAGE, inputs, parameters, build.llama_cpp_commit)
