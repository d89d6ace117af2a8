"""Hard budgets: what the first b tokens of an answer say, against cutting and grading afresh."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.answers.strategies.truncate import budget_grid
from edgequant.core.errors import DataFrameError, ExperimentError
from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.matching.cuts import group_answers
from edgequant.matching.graders.boxed import grade
from tests.matching.synthetic_answers import Table, answer_row, box, frame

# Boxes in one token and in many, wrong ones, empty ones, nested and broken braces, empty texts.
PIECE = st.sampled_from(
    [r"\boxed{7}", r"\boxed{8}", r"\boxed{", r"\boxed", "{", "}", "7", "8", ".0", " apples", "",
     "\\", r"\}", r"\text{", "x", r"\boxed{}", r"} \boxed{7} \boxed{"]
)  # fmt: skip
ANSWER = st.lists(PIECE, max_size=25)


def one_group(answers: list[list[str]], expected: int = 7) -> Table:
    return frame(
        [answer_row("Q8_0", "cot", None, n, expected, pieces) for n, pieces in enumerate(answers)]
    )


@settings(deadline=None)
@given(st.lists(ANSWER, min_size=1, max_size=4))
def test_every_budget_is_the_cut_answer_graded_afresh(answers: list[list[str]]) -> None:
    (group,) = group_answers(*one_group(answers))
    budgets = list(range(28))
    by_hand = [[grade("".join(pieces[:b])).boxed == 7 for b in budgets] for pieces in answers]
    assert group.correct(budgets).tolist() == by_hand


@settings(deadline=None)
@given(ANSWER, ANSWER)
def test_what_comes_later_does_not_change_smaller_budgets(
    pieces: list[str], later: list[str]
) -> None:
    (short,) = group_answers(*one_group([pieces]))
    (long,) = group_answers(*one_group([pieces + later]))
    budgets = list(range(len(pieces) + 1))
    assert np.array_equal(short.correct(budgets), long.correct(budgets))


@settings(deadline=None)
@given(st.lists(ANSWER, min_size=1, max_size=4), st.integers(0, 1000))
def test_a_budget_beyond_the_longest_answer_changes_nothing(
    answers: list[list[str]], more: int
) -> None:
    (group,) = group_answers(*one_group(answers))
    whole = [grade("".join(pieces)).boxed == 7 for pieces in answers]
    assert group.longest == max(len(pieces) for pieces in answers)
    assert group.correct([group.longest, group.longest + more]).T.tolist() == [whole, whole]


def test_a_quick_answer_counts_until_a_later_box_overwrites_it() -> None:
    # Tokens:     0          1..5 (box)  6..9                      10..14 (box)
    pieces = ["Quick: ", *box(7), " Verify", ":", " no", ", ", *box(8), ""]
    (group,) = group_answers(*one_group([pieces]))
    assert group.changes == ((6, 15),)
    assert group.correct([5, 6, 14, 15, 16]).tolist() == [[False, True, True, False, False]]
    (other,) = group_answers(*one_group([pieces], expected=8))
    assert other.changes == ((15,),)


def test_a_box_that_repeats_the_answer_is_no_change() -> None:
    (group,) = group_answers(*one_group([[*box(7), " so ", *box(7)]]))
    assert group.changes == ((5,),)


def test_a_box_in_the_middle_of_a_token_counts_with_that_token() -> None:
    (group,) = group_answers(*one_group([["a", r" \boxed{8} \boxed{7} and", " more"]]))
    assert group.changes == ((2,),)
    (gone,) = group_answers(*one_group([["a", r" \boxed{7} \boxed{8} and", " more"]]))
    assert gone.changes == ((),)


def test_stated_answers_are_graded_whole_in_groups_of_their_own() -> None:
    rows = [
        answer_row("Q8_0", "cot", None, 1, 7, [*["x"] * 20, *box(7)]),
        answer_row("Q8_0", "cot", 8, 1, 7, ["x", *box(7), ""], max_tokens=8),
        answer_row("Q8_0", "cot", 16, 1, 7, [*["x"] * 20, *box(7)], max_tokens=16),
    ]
    groups = {g.budget_tokens: g for g in group_answers(*frame(rows))}
    assert len(groups) == 3
    assert groups[8].correct([8]).tolist() == [[True]]
    assert groups[16].correct([16]).tolist() == [[False]]
    assert groups[None].correct([8, 16, 25]).tolist() == [[False, False, True]]
    assert [bool(groups[b].limited[0]) for b in (8, 16, None)] == [False, True, False]


def test_fallbacks_count_in_the_lenient_score_alone() -> None:
    (group,) = group_answers(*one_group([["The answer is ", "7", "."], [*box(8), " or 7"]]))
    assert group.correct([100]).tolist() == [[False], [False]]
    assert group.lenient.tolist() == [True, False]


def test_answers_without_any_token_are_wrong() -> None:
    (group,) = group_answers(*one_group([[], []]))
    assert group.longest == 0
    assert group.correct([0, 1]).tolist() == [[False, False], [False, False]]


def test_the_mean_prompt_is_that_of_the_group() -> None:
    rows = [
        answer_row("Q8_0", "cot", None, 1, 7, box(7), prompt_tokens=100),
        answer_row("Q8_0", "cot", None, 2, 7, box(7), prompt_tokens=151),
    ]
    (group,) = group_answers(*frame(rows))
    assert group.mean_prompt_tokens == 125.5


def test_a_stop_text_that_begins_inside_a_token_is_cut_there() -> None:
    row = answer_row("Q8_0", "cot", None, 1, 7, [*box(7), r"! \boxed{8}"])
    row["text"] = r"\boxed{7}!"
    (group,) = group_answers(*frame([row]))
    assert group.correct([5, 6]).tolist() == [[True, True]]


@pytest.mark.parametrize("column", [n for n, c in ANSWERS.columns.items() if c.required])
def test_each_missing_column_is_named(column: str) -> None:
    answers, questions = one_group([[*box(7)]])
    with pytest.raises(DataFrameError, match=f"'{column}'"):
        group_answers(answers.drop(columns=column), questions)


@pytest.mark.parametrize("column", [n for n, c in QUESTIONS.columns.items() if c.required])
def test_each_missing_column_of_the_questions_is_named(column: str) -> None:
    answers, questions = one_group([[*box(7)]])
    with pytest.raises(DataFrameError, match=f"the questions: no column '{column}'"):
        group_answers(answers, questions.drop(columns=column))


def test_answers_are_graded_by_the_questions_handed_in() -> None:
    answers, questions = one_group([box(7), box(8)])
    (group,) = group_answers(answers, questions)
    assert group.correct([9]).tolist() == [[True], [False]]
    corrected = questions.assign(expected_answer=["7", "8"])
    (group,) = group_answers(answers, corrected)
    assert group.correct([9]).tolist() == [[True], [True]]


def test_answers_to_other_questions_are_refused() -> None:
    answers, questions = one_group([box(7), box(8)])
    with pytest.raises(DataFrameError, match="0001 of the answers is not among"):
        group_answers(answers, questions.head(1))
    with pytest.raises(DataFrameError, match="0000 of the answers is another one"):
        group_answers(answers, questions.assign(question_sha256="ff" * 32))
    with pytest.raises(DataFrameError, match="0000 more than once"):
        group_answers(answers, questions.assign(question_id="0000"))
    # Questions that nobody asked do no harm.
    more = pd.concat([questions, questions.head(1).assign(question_id="0009")])
    assert len(group_answers(answers, more)) == 1


def test_an_unknown_strategy_is_named() -> None:
    answers, questions = one_group([box(7)])
    with pytest.raises(ExperimentError, match="'guess'"):
        group_answers(answers.assign(strategy="guess"), questions)


@given(st.integers(0, 5000), st.lists(st.integers(1, 5000), max_size=5))
def test_the_grid_rises_by_small_steps_and_has_what_was_asked_for(
    longest: int, extra: list[int]
) -> None:
    grid = budget_grid(longest, extra)
    assert set(extra) <= set(grid)
    assert all(a < b for a, b in pairwise(grid))
    own = budget_grid(longest)
    assert own[0] == 1
    assert own[-1] <= max(longest, 1)
    assert all(b <= max(a + 1, 1.2 * a) for a, b in pairwise([*own, max(longest, own[-1])]))
