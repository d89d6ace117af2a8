"""Instructions per token, counted on the virtual board under its instruction clock.

With qemu's ``-icount shift=0`` the board's clock advances one nanosecond per executed instruction,
so that a time read on it is a count, the same to the fourth digit from run to run. One thread runs
(the clock needs a single CPU); a board with more cores splits the same count among them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.core.artefact import Store, artefact_key, write_json
from edgequant.core.errors import ProbeError
from edgequant.core.hashing import sha256_file
from edgequant.core.progress import task
from edgequant.latency.measure import (
    HasProbe,
    OnBoard,
    _deploy_missing,
    board_identity,
    file_sha256,
    require_clock,
    run_steadily,
    waited_for_storage,
)
from edgequant.latency.probe import PROBE_NAME, ProbeOptions, ProbeRun, run_probe
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


def find_instructions(
    profile: BoardProfile,
    models: Mapping[str, Path | OnBoard],
    *,
    build: HasProbe,
    prompt: str,
    tokens: int = 8,
    repack: bool = True,
    store: Store | None = None,
) -> dict[str, InstructionCounts] | None:
    """What :func:`count_instructions` would return, where it was counted before."""
    inputs, parameters = _key_parts(profile, models, build, prompt, tokens, repack)
    store = store if store is not None else Store()
    artefact = store.find(STAGE, artefact_key(STAGE, inputs, parameters))
    if artefact is None:
        return None
    import json

    values = json.loads(artefact.file(FILE_NAME).read_text(encoding="utf-8"))
    return {name: InstructionCounts(**counts) for name, counts in values.items()}


def count_instructions(
    board: Board,
    models: Mapping[str, Path | OnBoard],
    *,
    build: HasProbe,
    prompt: str,
    tokens: int = 8,
    repack: bool = True,
    store: Store | None = None,
) -> dict[str, InstructionCounts]:
    """Count each model's instructions per token, or find them counted.

    Args:
        board: a virtual board that was started with the instruction clock.
        models: quantization to a GGUF here, or to one that was deployed already.
        build: has the probe for this board.
        prompt: text; it is evaluated once as it is and once doubled.
        tokens: tokens to decode.
        repack: let llama.cpp repack the weights.
        store: where artefacts are kept, by default the cache.

    Raises:
        ProbeError: a run failed: a count is either there for every model or not at all.
        VirtualBoardError: the board runs with the host's clock.
    """
    found = find_instructions(
        board.profile,
        models,
        build=build,
        prompt=prompt,
        tokens=tokens,
        repack=repack,
        store=store,
    )
    if found is not None:
        return found
    if board.profile.kind == "virtual":
        require_clock(board.profile, "instructions")
    store = store if store is not None else Store()
    inputs, parameters = _key_parts(board.profile, models, build, prompt, tokens, repack)
    counts: dict[str, InstructionCounts] = {}
    with (
        store.lock(STAGE, artefact_key(STAGE, inputs, parameters)),
        store.create(STAGE, inputs, parameters, llama_cpp_commit=build.llama_cpp_commit) as draft,
    ):
        probe, remote = _deploy_missing(board, models, build, store)
        with task("Counting instructions per token", 2 * len(models)) as shown:
            for quantization, path in remote.items():
                shown.describe(f"Counting instructions per token of {quantization}")
                runs = []
                for text, count in ((prompt, tokens), (prompt + prompt, 1)):
                    options = ProbeOptions(tokens=count, threads=1, repack=repack)
                    once = functools.partial(run_probe, board, probe, path, text, options)
                    run = run_steadily(board, "instructions", once)
                    if waited_for_storage(run):
                        raise ProbeError(
                            f"{quantization} is read from storage while it runs: its instructions "
                            "cannot be told from the waiting",
                            subject=f"board {board.profile.name}",
                            next_step="give the virtual board more memory than the model takes",
                        )
                    runs.append(run)
                    shown.advance()
                counts[quantization] = counts_from_runs(*runs)
        write_json(
            draft.folder / FILE_NAME,
            {name: {"decode": c.decode, "prompt": c.prompt} for name, c in counts.items()},
        )
    return counts


def _key_parts(
    profile: BoardProfile,
    models: Mapping[str, Path | OnBoard],
    build: HasProbe,
    prompt: str,
    tokens: int,
    repack: bool,
) -> tuple[dict[str, str], dict[str, object]]:
    inputs = {
        "board": board_identity(profile),
        "probe": sha256_file(build.binary(PROBE_NAME)),
        **{f"model {name}": file_sha256(model) for name, model in sorted(models.items())},
    }
    return inputs, {
        "prompt": prompt,
        "tokens": tokens,
        "repack": repack,
        "threads": 1,
        "waits_for_storage": False,
    }
