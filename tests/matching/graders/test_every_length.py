r"""What holds for every grader: it reads a growing text as it would read each of its beginnings."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.matching.graders.grader import (
    Grader,
    Reading,
    last_value,
    readings_by_token,
    value_at,
)
from edgequant.matching.graders.registry import CHOICE, INTEGER, graders_for

GRADERS = [*graders_for(INTEGER).values(), *graders_for(CHOICE).values()]
PIECES = st.sampled_from(
    [
        *"0123456789{}()[]$.,:;-+*/=%^\\ \n\t'\"xABCJamdo",
        "\\boxed{",
        "\\boxed ",
        "\\fbox{",
        "boxed",
        "boxe",
        "\\text{",
        "\\frac{",
        "\\{",
        "\\$",
        "####",
        "the answer is",
        "answer is",
        "The final answer is $",
        "final answer is ",
        "$. I hope",
        "答案是",
        "\n\n",
        "1,234",
        "{,}",
        "48 + 24 = 72",
        "−",
        "–",
        "３",
        " dozen",
        " apples",
        "n't",
        " not ",
        "(B)",
        "Answer: ",
        "option ",
        "½",
    ]
)


@pytest.mark.parametrize("grader", GRADERS, ids=lambda grader: grader.name)
@given(pieces=st.lists(PIECES, max_size=14))
@settings(max_examples=300, deadline=None)
def test_readings_are_those_of_every_beginning(grader: Grader, pieces: list[str]) -> None:
    text = "".join(pieces)
    readings = grader.readings(text)
    ends = [reading.end for reading in readings]
    assert ends == sorted(set(ends))
    for length in range(len(text) + 1):
        alone = last_value(grader.readings(text[:length]))
        assert value_at(readings, length) == alone, text[:length]


@pytest.mark.parametrize("grader", GRADERS, ids=lambda grader: grader.name)
@given(pieces=st.lists(PIECES, max_size=10))
@settings(max_examples=50, deadline=None)
def test_readings_by_token_are_those_of_the_tokens_so_far(
    grader: Grader, pieces: list[str]
) -> None:
    ends = list(accumulate(len(piece) for piece in pieces))
    by_token = readings_by_token(grader.readings("".join(pieces)), ends)
    assert [r.end for r in by_token] == sorted({r.end for r in by_token})
    for count in range(len(pieces) + 1):
        alone = last_value(grader.readings("".join(pieces[:count])))
        assert value_at(by_token, count) == alone


WANTED = st.sampled_from(["7", "72", "-3", "1234", "1,234", "0", "100", "B"])


@pytest.mark.parametrize("grader", GRADERS, ids=lambda grader: grader.name)
@given(
    pieces=st.lists(st.one_of(PIECES, st.sampled_from(["72", "-3", "100 ", "0.72"])), max_size=14),
    wanted=WANTED,
)
@settings(max_examples=300, deadline=None)
def test_readings_for_one_answer_agree_with_it_where_all_readings_do(
    grader: Grader, pieces: list[str], wanted: str
) -> None:
    text = "".join(pieces)

    def agreeing(readings: list[Reading]) -> list[bool]:
        said = [value_at(readings, length) for length in range(len(text) + 1)]
        return [value is not None and grader.agrees(value, wanted) for value in said]

    assert agreeing(grader.readings(text, wanted)) == agreeing(grader.readings(text))


@pytest.mark.parametrize("grader", GRADERS, ids=lambda grader: grader.name)
@given(text=st.text(max_size=60))
def test_any_text_is_read_and_explained(grader: Grader, text: str) -> None:
    grader.readings(text)
    assert grader.basis(text)


def test_before_the_first_reading_a_text_says_nothing() -> None:
    readings = [Reading(3, "7"), Reading(5, None)]
    assert [value_at(readings, n) for n in (0, 2, 3, 4, 5, 99)] == [
        None,
        None,
        "7",
        "7",
        None,
        None,
    ]
