"""The board beside the mirror: which answers are compared, and what is counted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest

from edgequant.answers.agreement import Pair, agreement
from edgequant.boards.profile import BoardProfile
from edgequant.core.artefact import Store
from edgequant.core.errors import ExperimentError
from edgequant.core.paths import data_folder
from edgequant.core.schemas import ANSWERS
from edgequant.core.tables import make_table
from edgequant.experiment import mirror_check
from edgequant.experiment.file import MirrorCheckSection, load_experiment
from edgequant.experiment.inputs import read_inputs
from edgequant.experiment.line import draw_line
from edgequant.experiment.mirror_check import (
    Checking,
    check_mirror,
    find_mirror_check,
    sample_rows,
)
from edgequant.latency.measure import MeasureSettings
from edgequant.latency.probe import MAX_PROMPT_BYTES, ProbeOptions


def answers(count: int = 10, **changes: object) -> pd.DataFrame:
    rows = [
        {
            "quantization": quantization,
            "prompt": "cot",
            "strategy": "truncate",
            "budget_tokens": None,
            "question_id": f"{n:04d}-aaaaaaaa",
            "question_sha256": "",
            "rendered_prompt": f"What is {n}?",
            "token_ids": [n, 5, 6, 7],
            "token_texts": ["a"] * 4,
            "text": "aaaa",
            "stop_reason": "eos",
            "prompt_tokens": 3,
            **changes,
        }
        for quantization in ("Q2_K", "Q8_0")
        for n in range(count)
    ]
    return make_table(rows, ANSWERS)


def test_the_same_sample_of_each_quantization_in_every_run() -> None:
    chosen = sample_rows(answers(), 4)
    assert chosen.groupby("quantization").size().to_dict() == {"Q2_K": 4, "Q8_0": 4}
    again = sample_rows(answers().iloc[::-1], 4)
    assert {*again["question_id"]} == {*chosen["question_id"]}
    first, second = (set(some["question_id"]) for _, some in chosen.groupby("quantization"))
    assert first == second


@pytest.mark.parametrize(
    "changes",
    [
        {"token_ids": [], "token_texts": [], "stop_reason": "failed"},
        {"rendered_prompt": "x" * (MAX_PROMPT_BYTES + 1)},
        {"rendered_prompt": None},
        {"token_ids_counted": True},
    ],
)
def test_what_cannot_be_compared_is_left_out(changes: dict[str, object]) -> None:
    with pytest.raises(ExperimentError, match="no answer can be compared"):
        sample_rows(answers(**changes), 4)
    both = pd.concat([answers(2, **changes), answers(3)])
    assert len(sample_rows(both, 9)) == 6


def test_agreement_is_counted_to_the_first_token_that_differs() -> None:
    group = ("Q8_0", "cot", "truncate", None)
    found = agreement(
        [
            Pair(group, "1", [1, 2, 3, 4], [1, 2, 3, 4]),
            Pair(group, "2", [1, 2, 3, 4], [1, 9, 3, 4]),
            Pair(("Q2_K", "cot", "stated", 8), "1", [1, 2], [1, 2, 3]),
        ]
    )
    assert (found["answers"], found["same"], found["share_of_tokens"]) == (3, 1, 0.7)
    assert found["different"] == [
        {
            "quantization": "Q8_0",
            "prompt": "cot",
            "strategy": "truncate",
            "budget_tokens": None,
            "question_id": "2",
            "common_tokens": 1,
        },
        {
            "quantization": "Q2_K",
            "prompt": "cot",
            "strategy": "stated",
            "budget_tokens": 8,
            "question_id": "1",
            "common_tokens": 2,
        },
    ]
    assert [group["same"] for group in cast(list[Any], found["groups"])] == [1, 0]
    assert agreement([])["share_of_tokens"] is None


def test_the_board_is_asked_for_as_many_tokens_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, int]] = []

    def run_probe(
        board: object, binary: str, model: str, prompt: str, options: ProbeOptions
    ) -> SimpleNamespace:
        asked.append((model, prompt, options.tokens))
        number = int(prompt.removeprefix("What is ").removesuffix("?"))
        ids = [number, 5, 6 if model == "/Q8_0" else 0, 7][: options.tokens]
        return SimpleNamespace(tokens=[SimpleNamespace(token_id=i) for i in ids])

    def deploy_missing(*_: object) -> tuple[str, dict[str, str]]:
        return "probe", {"Q2_K": "/Q2_K", "Q8_0": "/Q8_0"}

    monkeypatch.setattr(mirror_check, "run_probe", run_probe)
    monkeypatch.setattr(mirror_check, "deploy_missing", deploy_missing)
    monkeypatch.setattr(mirror_check, "run_steadily", lambda board, clock, once: once())
    probe = tmp_path / "probe"
    probe.touch()

    @contextmanager
    def board() -> Iterator[None]:
        yield None

    frame = answers()
    checking = Checking(
        profile=BoardProfile.model_validate(
            {"name": "b", "kind": "local", "build": {"target": "host"}}
        ),
        clock="host",
        build=cast(Any, SimpleNamespace(binary=lambda name: probe, llama_cpp_commit="c")),
        models=cast(Any, SimpleNamespace(paths={})),
        answers=cast(Any, SimpleNamespace(frame=lambda: frame, artefact=SimpleNamespace(key="k"))),
        settings=MeasureSettings(),
        section=MirrorCheckSection(board="b", prompts=2, tokens=3),
    )
    store = Store(tmp_path / "store")
    assert find_mirror_check(checking, store=store) is None
    result = check_mirror(checking, cast(Any, board), store=store).result
    assert [tokens for _, _, tokens in asked] == [3] * 4
    assert (result["board"], result["answers"], result["same"]) == ("b", 4, 2)
    assert result["share_of_tokens"] == pytest.approx((3 + 3 + 2 + 2) / 12)
    found = find_mirror_check(checking, store=store)
    assert found is not None
    assert json.dumps(found.result) == json.dumps(result)
    other = dataclasses.replace(checking, section=MirrorCheckSection(board="b", prompts=3))
    assert find_mirror_check(other, store=store) is None


def test_it_is_a_stage_of_its_own_where_it_is_asked_for(tmp_path: Path) -> None:
    if not (data_folder("experiments") / "demo_model" / "model" / "model.safetensors").is_file():
        pytest.skip("the demo model's weights are not here")
    demo = load_experiment("demo")[0]

    def stages(**changes: object) -> Sequence[Any]:
        changed = demo.model_copy(update=changes)
        return draw_line(changed, read_inputs(changed), Store(tmp_path)).graph.stages

    assert "mirror check" not in [stage.name for stage in stages()]
    with_check = stages(mirror_check=MirrorCheckSection(board="rk3588"))
    (stage,) = [stage for stage in with_check if stage.name == "mirror check"]
    assert stage.place == "board rk3588"
    assert {"models", "answers"} < {needed.name for needed in stage.needs}
    assert stage.cost is not None
    assert stage.cost(cast(Any, None)).endswith("answers of at most 48 tokens")
