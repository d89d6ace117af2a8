"""Instructions per token, counted on the virtual board under its instruction clock.

With qemu's ``-icount shift=0`` the board's clock advances one nanosecond per executed instruction,
so that a time read on it is a count, the same to the fourth digit from run to run. One thread runs
(the clock needs a single CPU); a board with more cores splits the same count among them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
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
from edgequant.latency.curve import Trend
from edgequant.latency.fit import fit_rows
from edgequant.latency.frame import RunLabels, run_rows
from edgequant.latency.measure import (
    HasProbe,
    Latency,
    OnBoard,
    board_identity,
    deploy_missing,
    file_sha256,
    run_steadily,
    waited_for_storage,
)
from edgequant.latency.probe import (
    PROBE_NAME,
    ProbeOptions,
    ProbeRun,
    run_probe,
)

if TYPE_CHECKING:
    from edgequant.boards.board import Board
    from edgequant.boards.profile import BoardProfile

STAGE = "instructions"
FILE_NAME = "instructions.json"
LENGTHS = 3
"""Prompts of so many lengths are needed: a line through two would hide what is not straight."""


_LABELS = RunLabels("counted", "counted", 1, "", "emulated")


@dataclass(frozen=True)
class InstructionCounts:
    """Instructions of a model's tokens, all on one thread."""

    decode: Trend
    """Of one generated token, over the tokens in the cache."""
    prompt: Trend
    """Of a whole prompt, over its tokens."""
    first_step: float = 0.0
    """Of the first generated token after a prompt, on top."""


@dataclass(frozen=True)
class Counts:
    """Counted instructions of some models."""

    artefact: Artefact

    @cached_property
    def of(self) -> dict[str, InstructionCounts]:
        """Quantization to its counts."""
        values = json.loads(self.artefact.file(FILE_NAME).read_text(encoding="utf-8"))
        return {
            name: InstructionCounts(
                Trend(**counts["decode"]), Trend(**counts["prompt"]), counts["first_step"]
            )
            for name, counts in values.items()
        }


def counts_from_runs(runs: Sequence[ProbeRun]) -> InstructionCounts:
    """Counts from runs under the instruction clock with prompts of different lengths.

    A nanosecond is an instruction there, so that what is fitted to seconds elsewhere is fitted to
    counts here: see :mod:`edgequant.latency.fit`.

    Raises:
        ProbeError: the runs decoded nothing, or a longer prompt takes no more than a shorter one.
    """
    if all(len(run.tokens) < 2 for run in runs):
        raise ProbeError("at least 2 tokens are needed to count instructions")
    by_length = sorted(runs, key=lambda run: run.prefill.tokens)
    short, long = by_length[0].prefill, by_length[-1].prefill
    more = long.nanoseconds - short.nanoseconds
    if long.tokens <= short.tokens or more <= 0:
        raise ProbeError(
            f"a prompt of {long.tokens} tokens takes {more} instructions more than one of "
            f"{short.tokens}: the board's clock does not count instructions"
        )
    fitted = fit_rows([row for run in runs for row in run_rows(run, _LABELS)])
    counted = 1e9
    return InstructionCounts(
        decode=fitted.decode.trend.scaled(counted),
        prompt=fitted.prefill.trend.scaled(counted),
        first_step=fitted.first_step_seconds * counted,
    )


@dataclass(frozen=True)
class CountSettings:
    """How instructions are counted."""

    tokens: int = 8
    """To decode after the prompt as it is."""
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
        prompt: text; it is evaluated as it is, doubled, and cut to its half.
        measured: a measurement of these models; its runs are taken where they were made in just
            that way: with the prompt as it is, and with prompts of other lengths.
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

                def run(text: str, path: str = path) -> ProbeRun:
                    options = ProbeOptions(
                        tokens=settings.tokens, threads=1, repack=settings.repack
                    )
                    return run_probe(board, probe, path, text, options)

                runs = _measured_runs(measured, recipe, quantization)
                if len({made.prefill.tokens for made in runs}) < LENGTHS:
                    half = prompt[: max(len(prompt) // 2, 1)]
                    texts = (prompt, half, prompt + prompt)
                    runs = [_counted(board, quantization, run, text) for text in texts]
                counts[quantization] = counts_from_runs(runs)
                shown.advance()
        write_json(draft.folder / FILE_NAME, {name: asdict(c) for name, c in counts.items()})

    return Counts(store.get_or_make(recipe, make))


def _counted(
    board: Board,
    quantization: str,
    run: Callable[[str], ProbeRun],
    text: str,
) -> ProbeRun:
    found = run_steadily(board, "instructions", functools.partial(run, text))
    if waited_for_storage(found):
        raise ProbeError(
            f"{quantization} is read from storage while it runs: its instructions cannot be told "
            "from the waiting",
            subject=f"board {board.profile.name}",
            next_step="give the virtual board more memory than the model takes",
        )
    return found


def _measured_runs(measured: Latency | None, wanted: Recipe, quantization: str) -> list[ProbeRun]:
    """The runs of a measurement, if they are as good as made for counting; none where not.

    Under the instruction clock the same binary, model, prompt and options take the same
    instructions each time, token by token, so that one repeat is enough.
    """
    if measured is None:
        return []
    made = measured.artefact.manifest
    same_inputs = all(
        made.inputs.get(name) == wanted.inputs[name]
        for name in ("board", "probe", f"model {quantization}")
    )
    expected = {
        **ProbeOptions(threads=1, repack=bool(wanted.parameters["repack"])).model_dump(
            mode="json", exclude={"tokens"}
        ),
        "prompt": wanted.parameters["prompt"],
        "clock": "instructions",
    }
    same_way = all(made.parameters.get(name) == value for name, value in expected.items())
    if not same_inputs or not same_way:
        return []
    kept = measured.raw_runs(quantization)
    by_length = {run.prefill.tokens: run for run in kept if not waited_for_storage(run)}
    return [*by_length.values()]


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
        "lengths": LENGTHS,
    }
    return Recipe(STAGE, inputs, parameters, build.llama_cpp_commit)
