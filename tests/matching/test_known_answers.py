"""Matching worked out by hand: four questions to the last digit, and the study's board to the s."""

from __future__ import annotations

import pandas as pd
import pytest

from edgequant.core.tables import records
from edgequant.latency.pace import Pace, study_paces
from edgequant.matching.match import MatchedResult, match
from tests.matching.synthetic_answers import Table, answer_row, box, frame

EXPECTED = (7, 8, 9, 10)
PROMPT_TOKENS = (10, 20, 30, 40)
# One token a piece; behind each, the tokens from which on it is right or wrong.
Q2_K = (
    ["so ", r"\boxed{7}", ""],  # right from 2
    [r"\boxed{8}", " no ", r"\boxed{9}"],  # right from 1, wrong from 3
    ["one ", "two ", "three ", "so ", r"\boxed{9}"],  # right from 5
    [],  # no mirror answered
)
Q8_0 = (
    [r"\boxed{7}"],  # right from 1
    ["hm ", r"\boxed{8}"],  # right from 2
    [r"\boxed{1}"],  # never
    ["a ", "b ", r"\boxed{10}"],  # right from 3
)
Q8_0_STATED_4 = (
    [r"\boxed{7}"],  # right from 1: not from 4 on
    [r"\boxed{8}", ""],  # right from 1
    ["well ", r"\boxed{9}"],  # right from 2
    ["well ", "then "],  # never
)
LATENCIES = [Pace("Q2_K", "measured", 1.0, 0.1), Pace("Q8_0", "measured", 3.0, 0.2)]


def four_questions() -> Table:
    rows = []
    for quantization, stated, texts, extra in (
        ("Q2_K", None, Q2_K, 0),
        ("Q8_0", None, Q8_0, 0),
        ("Q8_0", 4, Q8_0_STATED_4, 4),
    ):
        for n, pieces in enumerate(texts):
            tokens = PROMPT_TOKENS[n] + extra
            row = answer_row(
                quantization, "cot", stated, n, EXPECTED[n], pieces, prompt_tokens=tokens
            )
            rows.append(row if pieces else row | {"stop_reason": "failed"})
    return frame(rows)


def rows_of(table: pd.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    return [
        tuple(round(v, 9) if isinstance(v, float) else v for v in row.values())
        for row in records(table[list(columns)])
    ]


@pytest.fixture(scope="module")
def by_hand() -> MatchedResult:
    return match(*four_questions(), LATENCIES, [1, 3, 100], time_limits_seconds=[1.9, 2, 9, 1000])


def test_every_step_of_every_curve(by_hand: MatchedResult) -> None:
    # Q2_K: prompt * 0.1 + (tokens - 1) * 1; Q8_0: prompt * 0.2 + (tokens - 1) * 3.
    columns = ("quantization", "strategy", "budget_tokens", "seconds", "accuracy", "n")
    assert rows_of(by_hand.matched, *columns) == [
        ("Q2_K", "truncate", None, 2.0, 0.5, 4),  # question 1 at 1 + 1, and 2 at 2
        ("Q2_K", "truncate", None, 4.0, 0.25, 4),  # question 2 turns wrong at 2 + 2
        ("Q2_K", "truncate", None, 7.0, 0.5, 4),  # question 3 at 3 + 4
        ("Q8_0", "truncate", None, 2.0, 0.25, 4),
        ("Q8_0", "truncate", None, 7.0, 0.5, 4),  # 4 + 3
        ("Q8_0", "truncate", None, 14.0, 0.75, 4),  # 8 + 6
        ("Q8_0", "stated", 4, 2.8, 0.25, 4),  # not the 12 s that four tokens would take
        ("Q8_0", "stated", 4, 4.8, 0.5, 4),
        ("Q8_0", "stated", 4, 9.8, 0.75, 4),  # 34 * 0.2 + 3
    ]
    # Wilson's interval of 1, 2, 3 of 4: centre (k/4 + z^2/8) / (1 + z^2/4), on paper.
    ends = rows_of(by_hand.matched, "accuracy", "accuracy_low", "accuracy_high")
    assert {(a, round(low, 6), round(high, 6)) for a, low, high in ends} == {
        (0.25, 0.045587, 0.699358),
        (0.5, 0.150039, 0.849961),
        (0.75, 0.300642, 0.954413),
    }


def test_every_budget(by_hand: MatchedResult) -> None:
    columns = (
        "quantization",
        "strategy",
        "cut_tokens",
        "accuracy",
        "mean_seconds",
        "longest_seconds",
    )
    assert rows_of(by_hand.budgets, *columns) == [
        ("Q2_K", "truncate", 1, 0.25, 2.5, 4.0),
        ("Q2_K", "truncate", 3, 0.25, 4.0, 5.0),  # 3, 4, 5 and the prompt alone: 4
        ("Q2_K", "truncate", 100, 0.5, 4.5, 7.0),
        ("Q2_K", "truncate", None, 0.5, 4.5, 7.0),
        ("Q8_0", "truncate", 1, 0.25, 5.0, 8.0),
        ("Q8_0", "truncate", 3, 0.75, 7.25, 14.0),
        ("Q8_0", "truncate", 100, 0.75, 7.25, 14.0),
        ("Q8_0", "truncate", None, 0.75, 7.25, 14.0),
        ("Q8_0", "stated", 1, 0.5, 5.8, 8.8),
        ("Q8_0", "stated", 3, 0.75, 8.05, 11.8),
        ("Q8_0", "stated", 100, 0.75, 8.05, 11.8),
        ("Q8_0", "stated", None, 0.75, 8.05, 11.8),
    ]


def test_every_row_of_best(by_hand: MatchedResult) -> None:
    columns = (
        "time_limit_seconds",
        "quantization",
        "strategy",
        "accuracy_seen",
        "worse",
        "not_distinguishable_from",
    )
    assert rows_of(by_hand.best, *columns) == [
        (1.9, None, None, None, None, None),
        (2.0, "Q2_K", "truncate", 0.5, "", "Q8_0"),
        # Both have 2 of 4: the one of fewer bits.
        (9.0, "Q2_K", "truncate", 0.5, "", "Q8_0"),
        # Both ways of Q8_0 have 3 of 4, and the plain one is quicker: 7.25 s, not 8.05.
        (1000.0, "Q8_0", "truncate", 0.75, "", "Q2_K"),
    ]
    assert by_hand.best["difference_low"].dropna().le(0).all()


def test_every_score_of_whole_answers(by_hand: MatchedResult) -> None:
    columns = (
        "quantization",
        "budget_tokens",
        "accuracy",
        "failed",
        "boxed",
        "mean_tokens",
        "median_tokens",
        "longest_tokens",
        "mean_prompt_tokens",
        "longest_prompt_tokens",
    )
    assert rows_of(by_hand.scores, *columns) == [
        ("Q2_K", None, 0.5, 0.25, 0.75, 2.75, 3.0, 5, 25.0, 40),
        ("Q8_0", None, 0.75, 0.0, 1.0, 1.75, 1.5, 3, 25.0, 40),
        ("Q8_0", 4, 0.75, 0.0, 0.75, 1.75, 2.0, 2, 29.0, 44),
    ]


def test_four_questions_make_no_crossover(by_hand: MatchedResult) -> None:
    assert not by_hand.crossovers["confident"].any()
    assert by_hand.crossovers["seconds"].isna().all()


def test_the_ratio_mapping_by_hand() -> None:
    matched = match(*four_questions(), LATENCIES, mapping="ratio").matched
    # Tokens times seconds of a token; prompts cost nothing.
    assert rows_of(matched[matched["strategy"] == "truncate"], "quantization", "seconds") == [
        ("Q2_K", 1.0), ("Q2_K", 2.0), ("Q2_K", 3.0), ("Q2_K", 5.0),
        ("Q8_0", 3.0), ("Q8_0", 6.0), ("Q8_0", 9.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prefill", "passed"),
    # Four tokens in one pass: the last of its own, not yet read, and three put there. No cheaper
    # than one step, no dearer than four.
    [(0.5, 2.0), (0.1, 1.0), (9.0, 4.0)],
)
def test_a_closing_text_is_one_pass(prefill: float, passed: float) -> None:
    pieces = ["a", "b", " so", " it", " is", r" \boxed{1}", r" \boxed{7}", ""]
    row = answer_row("Q2_K", "cot", None, 1, 7, pieces, prompt_tokens=10)
    row |= {"closing_start": 2, "closing_tokens": 3, "strategy": "early_stop", "budget_tokens": 2}
    result = match(*frame([row]), [Pace("Q2_K", "measured", 1.0, prefill)], [2, 3, 5, 6])
    own = 10 * prefill + 1
    assert rows_of(result.matched, "seconds", "accuracy") == [(own + passed + 1, 1.0)]
    assert rows_of(result.budgets, "cut_tokens", "mean_seconds") == [
        (2, own), (3, own + passed), (5, own + passed), (6, own + passed), (None, own + passed + 2),
    ]  # fmt: skip


def study_answers(questions: int = 100) -> Table:
    """Q2_K boxes at its 20th token, 60 % right; Q8_0 at its 40th, 90 %; told, at 10 and 24."""
    rows = []
    for quantization, stated, closes_at, right in (
        ("Q2_K", None, 20, 60),
        ("Q8_0", None, 40, 90),
        ("Q2_K", 24, 10, 40),
        ("Q8_0", 24, 24, 80),
    ):
        for n in range(questions):
            value = 7 if n * 37 % 100 < right else 8
            pieces = [*[" step"] * (closes_at - 5), *box(value)]
            rows.append(answer_row(quantization, "cot", stated, n, 7, pieces))
    return frame(rows)


def crossings(result: MatchedResult) -> dict[tuple[object, object], tuple[object, ...]]:
    sure = result.crossovers[result.crossovers["confident"]]
    columns = (
        "prompt",
        "strategy",
        "first_quantization",
        "second_quantization",
        "seconds",
        "lead_before",
        "lead_after",
    )
    return {(row[0], row[1]): row[2:] for row in rows_of(sure, *columns)}


def test_the_studys_crossover_to_the_second() -> None:
    result = match(*study_answers(), study_paces())
    # A prompt costs one pass over the file, as a token does.
    assert crossings(result) == {
        ("cot", "truncate"): ("Q2_K", "Q8_0", pytest.approx(40 * 49.73), 0.6, 0.3),
        ("cot", "stated"): ("Q2_K", "Q8_0", pytest.approx(24 * 49.73), 0.4, 0.4),
        ("any", None): ("Q2_K", "Q8_0", pytest.approx(24 * 49.73), 0.6, 0.3),
    }


def test_a_faster_board_moves_the_crossover_in_proportion_and_its_names_with_it() -> None:
    swap = {"Q2_K": "Q8_0", "Q8_0": "Q2_K"}
    answers, questions = study_answers()
    answers = answers.assign(quantization=answers["quantization"].map(swap))
    paces = [
        Pace(swap[p.quantization], "measured", p.decode_seconds / 1000, 0.0) for p in study_paces()
    ]
    found = crossings(match(answers, questions, paces))
    assert found["cot", "truncate"] == ("Q8_0", "Q2_K", pytest.approx(39 * 0.04973), 0.6, 0.3)


def test_prompt_time_moves_the_crossover_by_the_prompt() -> None:
    paces = [
        Pace(p.quantization, "measured", p.decode_seconds, 2.0 * (p.quantization == "Q8_0"))
        for p in study_paces()
    ]
    assert crossings(match(*study_answers(), paces))["cot", "truncate"][2] == pytest.approx(
        39 * 49.73 + 240
    )
