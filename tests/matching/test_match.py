"""Matching on synthetic answers: budgets, seconds, best choices, and the study's crossover."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from edgequant.answers.strategies.truncate import budget_grid
from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import MATCHED
from edgequant.core.tables import records, values
from edgequant.latency.pace import Pace, study_paces
from edgequant.matching.cuts import group_answers
from edgequant.matching.files import read_matched, write_matched
from edgequant.matching.graders.boxed import grade
from edgequant.matching.match import (
    MatchedResult,
    match,
    order_quantizations,
    round_limits,
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


def test_a_budget_is_graded_as_the_cut_text_would_be(answers: Table) -> None:
    group = next(
        g for g in group_answers(*answers) if g.prompt == "aav" and g.strategy == "truncate"
    )
    rows = plain(answers, group.quantization, "aav").sort_values("question_id")
    gold = dict(
        zip(values(answers[1]["question_id"]), values(answers[1]["expected_answer"]), strict=True)
    )
    budgets = [1, 7, 10, 12, 13, 60, 100, 384, 5000]
    correct = group.correct(budgets)
    for place, row in enumerate(records(rows.head(30))):
        for column, budget in enumerate(budgets):
            cut = grade("".join(row["token_texts"][:budget])).boxed
            assert correct[place, column] == (str(cut) == gold[row["question_id"]])


def test_a_later_box_overwrites_a_right_one() -> None:
    pieces = [*box(5), " no ", *box(6), " yes ", *box(5)]
    answers = frame([answer_row("Q8_0", "aav", None, 1, 5, pieces)])
    (group,) = group_answers(*answers)
    assert group.changes == ((5, 11, 17),)
    assert group.correct([4, 5, 10, 11, 16, 17]).tolist() == [
        [False, True, True, False, False, True]
    ]


def test_text_behind_a_stop_text_is_not_graded() -> None:
    row = answer_row("Q8_0", "cot", None, 1, 5, [*box(5), "<|im_end|>", *box(6)])
    row["text"] = r"\boxed{5}"
    (group,) = group_answers(*frame([row]))
    assert group.correct([100]).tolist() == [[True]]


def test_the_seconds_are_the_formulas(result: MatchedResult, answers: Table) -> None:
    table = result.matched
    (row,) = records(
        table[
            (table["quantization"] == "Q4_K_M")
            & (table["prompt"] == "cot")
            & (table["strategy"] == "truncate")
            & (table["budget_tokens"] == 64)
            & (table["latency_source"] == "emulated")
        ]
    )
    mean_prompt = plain(answers, "Q4_K_M", "cot")["prompt_tokens"].mean()
    assert row["seconds"] == pytest.approx(mean_prompt * 0.015 + 63 * 0.03)
    assert row["n"] == 120


def test_no_limit_takes_as_long_as_the_longest_answer(
    result: MatchedResult, answers: Table
) -> None:
    whole = plain(answers, "Q8_0", "cot")
    longest = max(map(len, whole["token_ids"]))
    table = result.matched
    (row,) = records(
        table[
            (table["quantization"] == "Q8_0")
            & (table["prompt"] == "cot")
            & table["budget_tokens"].isna()
            & (table["latency_source"] == "study")
        ]
    )
    assert row["seconds"] == pytest.approx(longest * 49.73)
    right = sum(
        str(grade(text).boxed) == expected
        for text, expected in zip(
            whole.merge(answers[1], on="question_id")["text"],
            whole.merge(answers[1], on="question_id")["expected_answer"],
            strict=True,
        )
    )
    assert row["accuracy"] == pytest.approx(right / 120)


def test_the_studys_mapping_is_budget_times_ratio(answers: Table) -> None:
    matched = match(*answers, study_paces(), BUDGETS, mapping="ratio").matched
    seconds = {
        q: matched[
            (matched["quantization"] == q)
            & (matched["budget_tokens"] == 128)
            & (matched["strategy"] == "truncate")
        ]["seconds"].iloc[0]
        for q in ("Q2_K", "Q8_0")
    }
    assert seconds["Q2_K"] == pytest.approx(128 * 18.18)
    assert seconds["Q8_0"] / seconds["Q2_K"] == pytest.approx(2.735, abs=0.001)


def test_the_studys_crossover_appears(result: MatchedResult) -> None:
    """Q2_K ahead while time is short, Q8_0 later."""
    table = result.crossovers
    rows = records(
        table[
            (table["latency_source"] == "study")
            & (table["prompt"] == "cot")
            & (table["strategy"] == "truncate")
            & table["confident"]
        ]
    )
    assert len(rows) == 1
    assert rows[0]["first_quantization"] == "Q2_K"
    assert rows[0]["second_quantization"] == "Q8_0"
    assert 0 < rows[0]["seconds_low"] <= rows[0]["seconds"] <= rows[0]["seconds_high"]


def test_what_is_faster_and_better_is_never_overtaken(result: MatchedResult) -> None:
    table = result.crossovers
    sure = table[(table["latency_source"] == "emulated") & table["confident"]]
    assert "Q2_K" not in set(sure["second_quantization"])
    best = result.best[result.best["latency_source"] == "emulated"]
    assert set(best["quantization"]) == {"Q8_0"}


def test_every_best_choice_keeps_its_limit_and_is_the_best(result: MatchedResult) -> None:
    table = result.matched
    for row in records(result.best):
        within = table[
            (table["latency_source"] == row["latency_source"])
            & (table["seconds"] <= row["time_limit_seconds"])
        ]
        assert row["seconds"] <= row["time_limit_seconds"]
        assert row["accuracy"] == within["accuracy"].max()
        assert row["quantization"] not in row["not_distinguishable_from"]


def test_budgets_asked_for_are_there_and_the_columns_are_the_promised_ones(
    result: MatchedResult,
) -> None:
    assert list(result.matched.columns) == list(MATCHED.columns)
    hard = result.matched[result.matched["strategy"] == "truncate"]
    assert set(BUDGETS) <= set(hard["budget_tokens"].dropna())
    stated = result.matched[result.matched["strategy"] == "stated"]
    assert set(stated["budget_tokens"]) == {32, 64, 128}
    assert result.notes == ("No study latency for Q3_K_M, Q4_K_M: left out there.",)


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


def test_the_same_seed_gives_the_same_result(answers: Table) -> None:
    one, two = (match(*answers, study_paces(), resamples=200, seed=4) for _ in range(2))
    assert one.crossovers.equals(two.crossovers)


def test_files_come_back_as_they_were(result: MatchedResult, tmp_path: Path) -> None:
    paths = write_matched(tmp_path / "new", result)
    assert paths[0].read_text().splitlines()[0] == ",".join(MATCHED.columns)
    again = read_matched(tmp_path / "new", notes=result.notes)
    assert again.matched.equals(result.matched)
    assert again.crossovers.equals(result.crossovers)
    assert again.scores.equals(result.scores)
    assert again.best["quantization"].equals(result.best["quantization"])


def test_a_csv_without_a_column_is_refused(result: MatchedResult, tmp_path: Path) -> None:
    write_matched(tmp_path, result)
    best = pd.read_csv(tmp_path / "best.csv", dtype=str).drop(columns="seconds")
    best.to_csv(tmp_path / "best.csv", index=False)
    with pytest.raises(DataFrameError, match=r"best.csv: the best choices: no column 'seconds'"):
        read_matched(tmp_path)


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
    with pytest.raises(DataFrameError, match="no time"):
        match(*answers, emulated(Q2_K=0.0))


def test_quantizations_are_ordered_by_their_bits() -> None:
    shuffled = ["Q8_0", "F16", "Q3_K_L", "Q2_K", "Q3_K_S", "Q4_0", "Q3_K_M", "Q6_K", "IQ2_XXS"]
    assert order_quantizations(shuffled) == [
        "IQ2_XXS", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q6_K", "Q8_0", "F16",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shortest", "longest", "limits"),
    [
        (0.15, 7.1, [0.2, 0.5, 1, 2, 5, 10]),
        (1.1, 4.9, [1.5, 2, 3, 5]),
        (218, 11500, [300, 600, 1200, 1800, 3600, 7200, 18000]),
        (30, 7000, [50, 60, 120, 300, 600, 1200, 1800, 3600, 7200]),
        (40000, 900000, [72000, 180000, 360000, 720000, 1800000]),
        (0, 0, []),
    ],
)
def test_limits_are_ones_that_people_name(
    shortest: float, longest: float, limits: list[float]
) -> None:
    found = round_limits(shortest, longest)
    if limits == [1.5, 2, 3, 5]:
        # Too few: the closest steps are taken.
        assert found[0] >= shortest
        assert len(found) >= 5
        assert set(limits) <= set(found)
    else:
        assert found == limits


def test_the_grid_is_dense_bounded_and_has_what_was_asked_for() -> None:
    grid = budget_grid(384, [50, 51])
    assert {1, 50, 51} <= set(grid)
    assert max(grid) <= 384
    assert len(grid) < 70
    assert all(b / a < 1.2 for a, b in pairwise(grid) if a > 8)
