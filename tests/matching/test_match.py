"""Matching on synthetic answers: budgets, seconds, best choices, and the study's crossover."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import MATCHED
from edgequant.core.tables import records, values
from edgequant.latency.pace import Pace, study_paces
from edgequant.matching.files import read_matched, write_matched
from edgequant.matching.groups import group_answers
from edgequant.matching.match import (
    MatchedResult,
    match,
    order_quantizations,
)
from tests.matching.synthetic_answers import Table, answer_row, box, frame, synthetic_answers

BUDGETS = [8, 16, 32, 64, 128]


def emulated(**seconds: float) -> list[Pace]:
    return [Pace(q, "emulated", s, s / 2) for q, s in seconds.items()]


@pytest.fixture(scope="module")
def answers() -> Table:
    return synthetic_answers(120)


def plain(answers: Table, quantization: str, prompt: str) -> pd.DataFrame:
    """The answers that were told no budget."""
    table = answers[0]
    return table[
        (table["quantization"] == quantization)
        & (table["prompt"] == prompt)
        & table["budget_tokens"].isna()
    ]


@pytest.fixture(scope="module")
def result(answers: Table) -> MatchedResult:
    latencies = emulated(Q2_K=0.04, Q3_K_M=0.035, Q4_K_M=0.03, Q8_0=0.02) + study_paces()
    return match(*answers, latencies, BUDGETS)


def test_text_behind_a_stop_text_is_not_graded() -> None:
    row = answer_row("Q8_0", "cot", None, 1, 5, [*box(5), "<|im_end|>", *box(6)])
    row["text"] = r"\boxed{5}"
    (group,) = group_answers(*frame([row]))
    assert group.correct([100]).tolist() == [[True]]


def test_what_is_faster_and_better_is_never_overtaken(result: MatchedResult) -> None:
    table = result.crossovers
    sure = table[(table["latency_source"] == "emulated") & table["confident"]]
    assert "Q2_K" not in set(sure["second_quantization"])
    best = result.best[result.best["latency_source"] == "emulated"]
    assert set(best["quantization"]) == {"Q8_0"}


def test_limits_asked_for_are_kept_also_where_nothing_answers(answers: Table) -> None:
    best = match(*answers, study_paces(), time_limits_seconds=[1.0, 36000.0]).best
    assert best["time_limit_seconds"].to_list() == [1.0, 36000.0]
    assert values(best["quantization"]) == [None, "Q8_0"]


def test_indistinguishable_ones_are_named() -> None:
    rows = [
        answer_row(q, "cot", None, n, 5, box(5 if n < right else 6))
        for q, right in (("Q4_K_M", 70), ("Q8_0", 72), ("Q2_K", 20))
        for n in range(100)
    ]
    result = match(*frame(rows), emulated(Q2_K=1, Q4_K_M=1, Q8_0=1))
    last = records(result.best)[-1]
    assert last["quantization"] == "Q8_0"
    assert last["not_distinguishable_from"] == "Q4_K_M"


def test_files_come_back_as_they_were(result: MatchedResult, tmp_path: Path) -> None:
    paths = write_matched(tmp_path / "new", result)
    assert paths[0].read_text().splitlines()[0] == ",".join(MATCHED.columns)
    again = read_matched(tmp_path / "new", notes=result.notes)
    assert again.matched.equals(result.matched)
    assert again.crossovers.equals(result.crossovers)
    assert again.scores.equals(result.scores)
    assert again.best["quantization"].equals(result.best["quantization"])


@pytest.mark.parametrize(
    "column", ["quantization", "strategy", "budget_tokens", "token_texts", "prompt_tokens"]
)
def test_a_missing_column_is_named(answers: Table, column: str) -> None:
    with pytest.raises(DataFrameError, match=f"no column '{column}'"):
        match(answers[0].drop(columns=column), answers[1], study_paces())


def test_wrong_answers_tables_are_refused(answers: Table) -> None:
    table, questions = answers
    one = table[table["question_id"] == "0003"].head(1)
    cases = {
        "has answers to 119 of 120 questions": table.drop(index=one.index),
        "more than one answer": pd.concat([table, one]),
        "has no rows|have no rows": table.head(0),
        "'text' must hold text": table.assign(text=5),
        "'prompt_tokens' must hold whole numbers": table.assign(prompt_tokens="many"),
        "'token_ids' must hold lists of whole numbers": table.assign(token_ids="1 2"),
        "has empty cells": table.assign(text=None),
        "-5 prompt_tokens": table.assign(prompt_tokens=-5),
        "a closing text of 5 tokens at 9999 in": table.assign(closing_start=9999, closing_tokens=5),
        "joined are not the text": table.assign(text="other"),
        "token_texts for": table.assign(token_ids=[ids[:2] for ids in table["token_ids"]]),
    }
    for message, wrong in cases.items():
        with pytest.raises(DataFrameError, match=message):
            match(wrong, questions, study_paces())


def test_latencies_that_fit_nothing_are_refused(answers: Table) -> None:
    with pytest.raises(DataFrameError, match="F16 against Q2_K"):
        match(*answers, emulated(F16=1.0))
    with pytest.raises(DataFrameError, match="two emulated latencies for Q2_K"):
        match(*answers, emulated(Q2_K=1.0) * 2)


def test_quantizations_are_ordered_by_their_bits() -> None:
    shuffled = ["Q8_0", "F16", "Q3_K_L", "Q2_K", "Q3_K_S", "Q4_0", "Q3_K_M", "Q6_K", "IQ2_XXS"]
    assert order_quantizations(shuffled) == [
        "IQ2_XXS", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q6_K", "Q8_0", "F16",
    ]  # fmt: skip


def test_shuffled_rows_and_a_second_run_give_equal_tables(
    answers: Table, result: MatchedResult
) -> None:
    table, questions = answers
    paces = emulated(Q2_K=0.04, Q3_K_M=0.035, Q4_K_M=0.03, Q8_0=0.02) + study_paces()
    order = np.random.default_rng(1).permutation(len(table))
    for again in (table, table.iloc[order]):
        other = match(again, questions.iloc[::-1], paces, BUDGETS)
        for name in ("matched", "budgets", "best", "crossovers", "scores"):
            assert getattr(other, name).equals(getattr(result, name)), name


def test_other_names_change_no_curve_and_no_lead_of_one_configuration() -> None:
    table, questions = synthetic_answers(150, prompts=("cot",), stated_budgets=())
    before = match(table, questions, study_paces())
    renamed = [
        t.assign(question_id=[f"{97 * (int(q) + 1) % 1009}-name" for q in t["question_id"]])
        for t in (table, questions)
    ]
    after = match(*renamed, study_paces())
    for name in ("matched", "crossovers"):
        assert getattr(after, name).equals(getattr(before, name)), name


@pytest.mark.parametrize("right", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_handful_of_questions_claims_nothing(n: int, right: int) -> None:
    """None right, all right by one, all right by both; also times of 0 s."""
    rows = [
        answer_row(q, "cot", None, k, 5, box(5 if place < right else 6))
        for place, q in enumerate(("Q2_K", "Q8_0"))
        for k in range(n)
    ]
    for seconds in (0.0, 1.0, 1e12):
        found = match(*frame(rows), emulated(Q2_K=seconds, Q8_0=seconds))
        assert found.crossovers.empty
        assert not any(found.best["worse"].dropna())
        assert values(found.best["quantization"])[-1] == ("Q2_K" if right else None)


def test_answers_that_all_failed_are_wrong_and_counted() -> None:
    rows = [
        answer_row(q, "cot", None, k, 5, []) | {"stop_reason": "failed"}
        for q in ("Q2_K", "Q8_0")
        for k in range(3)
    ]
    found = match(*frame(rows), emulated(Q2_K=1.0, Q8_0=1.0))
    assert found.matched.empty
    assert found.scores["failed"].to_list() == [1.0, 1.0]
    assert values(found.best["quantization"]) == [None]


def test_a_lone_quantization_has_no_runner_up(answers: Table) -> None:
    lone = match(*answers, emulated(Q8_0=1.0))
    assert lone.best["runner_up"].isna().all()
    assert lone.crossovers.empty
    assert lone.notes == ("No emulated latency for Q2_K, Q3_K_M, Q4_K_M: left out there.",)
