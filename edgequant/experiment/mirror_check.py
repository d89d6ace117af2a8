"""Do board and mirror say the same? A sample of prompts is answered by the board as well.

The board runs the probe: greedy, the same file, the same cache types. Its CPU sums up in another
order than the mirror's, so that a token which leads by a hair may be another one there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgequant.answers.agreement import Pair, agreement
from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.errors import ExperimentError, ProbeError
from edgequant.core.files import write_json
from edgequant.core.hashing import sha256_file
from edgequant.core.progress import task
from edgequant.core.tables import records
from edgequant.latency.measure import (
    HasProbe,
    MeasureSettings,
    board_identity,
    board_lock,
    deploy_missing,
    run_steadily,
)
from edgequant.latency.probe import PROBE_NAME, ProbeOptions, probe_command, run_probe
from edgequant.models.model_set import ModelSet

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.answers.table import Answers
    from edgequant.boards.board import Board
    from edgequant.boards.profile import BoardProfile, Clock
    from edgequant.experiment.file import MirrorCheckSection

STAGE = "mirror-check"
RESULT_NAME = "mirror_check.json"

OpenBoard = Callable[[], AbstractContextManager["Board"]]


@dataclass(frozen=True)
class MirrorCheck:
    """How far a board and the mirror agreed."""

    artefact: Artefact

    @property
    def result(self) -> dict[str, object]:
        """The board's name, and what :func:`edgequant.answers.agreement.agreement` counts."""
        text = self.artefact.file(RESULT_NAME).read_text(encoding="utf-8")
        value = json.loads(text)
        assert isinstance(value, dict), "written by nobody else"
        return value


@dataclass(frozen=True)
class Checking:
    """All that decides what comes out.

    Attributes:
        profile: the board.
        clock: that a virtual board runs with.
        build: has the probe for it.
        models: what is asked.
        answers: the mirror's.
        settings: how the probe runs a model.
        section: how many prompts, and how many tokens of each.
    """

    profile: BoardProfile
    clock: Clock
    build: HasProbe
    models: ModelSet
    answers: Answers
    settings: MeasureSettings
    section: MirrorCheckSection

    @property
    def recipe(self) -> Recipe:
        inputs = {
            "answers": self.answers.artefact.key,
            "board": board_identity(self.profile),
            "probe": sha256_file(self.build.binary(PROBE_NAME)),
        }
        parameters = {
            "prompts": self.section.prompts,
            "tokens": self.section.tokens,
            "options": self.options.model_dump(mode="json", exclude={"tokens"}),
        }
        return Recipe(STAGE, inputs, parameters, self.build.llama_cpp_commit)

    @property
    def options(self) -> ProbeOptions:
        return self.settings.probe_options(self.profile)


def find_mirror_check(checking: Checking, *, store: Store) -> MirrorCheck | None:
    """What :func:`check_mirror` would return, where it is there."""
    found = store.find(checking.recipe)
    return None if found is None else MirrorCheck(found)


def check_mirror(checking: Checking, open_board: OpenBoard, *, store: Store) -> MirrorCheck:
    """Have some of the mirror's prompts answered by a board, or find it done.

    Args:
        checking: what is compared.
        open_board: connects to the board, for a block.
        store: where the result is kept.

    Raises:
        ExperimentError: there is no answer that the board could give, too.
        ProbeError: the probe failed.
        EdgequantError: the board cannot be reached, or a file not be deployed.
    """

    def make(draft: ArtefactDraft) -> None:
        chosen = sample_rows(checking.answers.frame(), checking.section.prompts)
        with open_board() as board, board_lock(store, checking.profile.name):
            pairs = _ask_board(checking, board, chosen, store)
        counted = agreement(pairs)
        result = {"board": checking.profile.name, "source": checking.profile.latency_source}
        write_json(draft.folder / RESULT_NAME, {**result, **counted})
        draft.manifest.details.update(answers=counted["answers"], same=counted["same"])

    return MirrorCheck(store.get_or_make(checking.recipe, make))


def sample_rows(answers: pd.DataFrame, prompts: int) -> pd.DataFrame:
    """So many answers of each quantization, chosen by their hashes: the same in every run.

    Those are left out that failed, whose prompt is too long for a command line, and whose tokens
    the model did not all choose itself, or the server did not tell.

    Args:
        answers: as :data:`edgequant.core.schemas.ANSWERS` has them.
        prompts: how many.

    Raises:
        ExperimentError: there is none.
    """
    usable = (answers["token_ids"].map(len) > 0) & answers["rendered_prompt"].map(_can_be_asked)
    if "closing_start" in answers:
        usable &= answers["closing_start"].isna()
    if "token_ids_counted" in answers:
        usable &= answers["token_ids_counted"].map(lambda counted: counted is not True)
    rows = answers[usable]
    order = [
        hashlib.sha256(f"{prompt}\n{question}".encode()).hexdigest()
        for prompt, question in zip(rows["prompt"], rows["question_id"], strict=True)
    ]
    chosen = rows.assign(_order=order).sort_values("_order", kind="stable")
    chosen = chosen.groupby("quantization", sort=False).head(prompts)
    if chosen.empty:
        raise ExperimentError(
            "no answer can be compared with the board's",
            next_step="its prompts may be too long for the probe, or its tokens were only counted",
        )
    return chosen.drop(columns="_order")


def _can_be_asked(prompt: object) -> bool:
    if not isinstance(prompt, str):
        return False
    try:
        probe_command("", "", prompt, ProbeOptions())
    except ProbeError:
        return False
    return True


def _ask_board(
    checking: Checking, board: Board, chosen: pd.DataFrame, store: Store
) -> Sequence[Pair]:
    probe, remote = deploy_missing(board, checking.models.paths, checking.build, store)

    def tokens_of(model: str, prompt: str, count: int) -> list[int]:
        # The probe needs two tokens to time one.
        options = checking.options.model_copy(update={"tokens": max(2, count)})
        run = run_steadily(
            board, checking.clock, lambda: run_probe(board, probe, model, prompt, options)
        )
        return [token.token_id for token in run.tokens[:count]]

    pairs = []
    with task(f"Comparing with {checking.profile.name}", total=len(chosen)) as bar:
        for row in records(chosen):
            mirror = [int(i) for i in row["token_ids"]][: checking.section.tokens]
            board_s = tokens_of(remote[row["quantization"]], row["rendered_prompt"], len(mirror))
            group = (row["quantization"], row["prompt"], row["strategy"], row["budget_tokens"])
            pairs.append(Pair(group, row["question_id"], mirror, board_s))
            bar.advance()
    return pairs
