"""Hard budgets: what the first b tokens of an answer say, against cutting and grading afresh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.core.errors import DataFrameError, ExperimentError
from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.latency.pace import Pace
from edgequant.matching.curves import draw_curve
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.graders.grader import last_value
from edgequant.matching.graders.registry import by_role
from edgequant.matching.groups import group_answers
from tests.matching.synthetic_answers import Table, answer_row, box, frame

# Boxes in one token and in many, wrong ones, empty ones, nested and broken braces, empty texts.
PIECE = st.sampled_from(
    [r"\boxed{7}", r"\boxed{8}", r"\boxed{", r"\boxed", "{", "}", "7", "8", ".0", " apples", "",
     "\\", r"\}", r"\text{", "x", r"\boxed{}", r"} \boxed{7} \boxed{"]
)  # fmt: skip
ANSWER = st.lists(PIECE, max_size=25)


def says(pieces: list[str]) -> str | None:
    return last_value(by_role("integer")["exact"].readings("".join(pieces)))


def turns(group: AnswerGroup, question: int = 0) -> list[int]:
    """Tokens at which an answer turns right or wrong."""
    changes = group.changes["exact"]
    return [int(t) for t in changes.when[changes.question == question]]


def one_group(answers: list[list[str]], expected: int = 7) -> Table:
    return frame(
        [answer_row("Q8_0", "cot", None, n, expected, pieces) for n, pieces in enumerate(answers)]
    )


@settings(deadline=None)
@given(st.lists(ANSWER, min_size=1, max_size=4))
def test_every_budget_is_the_cut_answer_graded_afresh(answers: list[list[str]]) -> None:
    (group,) = group_answers(*one_group(answers))
    budgets = list(range(28))
    by_hand = [[says(pieces[:b]) == "7" for b in budgets] for pieces in answers]
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
    whole = [says(pieces) == "7" for pieces in answers]
    assert group.longest == max(len(pieces) for pieces in answers)
    assert group.correct([group.longest, group.longest + more]).T.tolist() == [whole, whole]


def test_a_quick_answer_counts_until_a_later_box_overwrites_it() -> None:
    # Tokens:     0          1..5 (box)  6..9                      10..14 (box)
    pieces = ["Quick: ", *box(7), " Verify", ":", " no", ", ", *box(8), ""]
    (group,) = group_answers(*one_group([pieces]))
    assert turns(group) == [6, 15]
    assert group.correct([5, 6, 14, 15, 16]).tolist() == [[False, True, True, False, False]]
    (other,) = group_answers(*one_group([pieces], expected=8))
    assert turns(other) == [15]


def test_a_box_that_repeats_the_answer_is_no_change() -> None:
    (group,) = group_answers(*one_group([[*box(7), " so ", *box(7)]]))
    assert turns(group) == [5]


def test_a_box_in_the_middle_of_a_token_counts_with_that_token() -> None:
    (group,) = group_answers(*one_group([["a", r" \boxed{8} \boxed{7} and", " more"]]))
    assert turns(group) == [2]
    (gone,) = group_answers(*one_group([["a", r" \boxed{7} \boxed{8} and", " more"]]))
    assert turns(gone) == []


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
    assert group.correct([100], "lenient")[:, 0].tolist()[0]


def test_answers_without_any_token_are_wrong() -> None:
    (group,) = group_answers(*one_group([[], []]))
    assert group.longest == 0
    assert group.correct([0, 1]).tolist() == [[False, False], [False, False]]


def test_each_question_keeps_its_own_prompt() -> None:
    rows = [
        answer_row("Q8_0", "cot", None, 1, 7, box(7), prompt_tokens=100),
        answer_row("Q8_0", "cot", None, 2, 7, box(7), prompt_tokens=151),
    ]
    (group,) = group_answers(*frame(rows))
    assert group.prompt_tokens.tolist() == [100, 151]


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


@settings(deadline=None)
@given(
    st.lists(st.tuples(ANSWER, st.integers(1, 90), st.integers(1, 6)), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5, 1e12]),
    st.sampled_from([0.0, 0.25, 3.0]),
    st.booleans(),
)
def test_right_within_a_time_is_each_answer_cut_there_and_graded_anew(
    drawn: list[tuple[list[str], int, int]], decode: float, prefill: float, closed: bool
) -> None:
    rows = []
    for n, (pieces, prompt, start) in enumerate(drawn):
        row = answer_row("Q8_0", "cot", None, n, 7, pieces, prompt_tokens=prompt)
        if closed and len(pieces) > start + 2:
            row |= {"closing_start": start, "closing_tokens": 2}
        rows.append(row)
    (group,) = group_answers(*frame(rows))
    pace = Pace("Q8_0", "measured", decode, prefill)
    ends = [
        [_seconds(row, count, pace) for count in range(1, len(pieces) + 1)]
        for row, (pieces, _, _) in zip(rows, drawn, strict=True)
    ]
    times = np.unique(np.array([0.0, 7.3, 1e15, *(t for own in ends for t in own)]))
    curve = draw_curve(group, pace, "seconds")
    expected = [
        [says(pieces[: sum(end <= t for end in own)]) == "7" for t in times]
        for own, (pieces, _, _) in zip(ends, drawn, strict=True)
    ]
    assert curve.right_at(times).tolist() == expected
    at, right = curve.steps()
    by_steps = [int(right[at <= t][-1]) if (at <= t).any() else 0 for t in times]
    assert by_steps == np.sum(expected, axis=0).tolist()
    assert (np.diff(right, prepend=0) != 0).all()


def _seconds(row: dict[str, Any], count: int, pace: Pace) -> float:
    start, closing = row.get("closing_start"), row.get("closing_tokens", 0)
    prompt = row["prompt_tokens"]
    if start is None or count <= start:
        return pace.seconds(float(prompt), float(count))
    rest = max(count - start - closing - 1, 0)
    return float(
        pace.seconds(float(prompt), float(start))
        + pace.batch_seconds(float(closing + 1), float(prompt + start - 1))
        + pace.decode_seconds_for(float(prompt + start + closing), float(rest))
    )
