"""Loops: found where they are sure, and not where something repeats for a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.answers.loops import MIN_TOKENS, REPEATS, Loop, find_loop

FEW = st.integers(0, 3)


def by_definition(ids: list[int], repeats: int, min_tokens: int) -> Loop | None:
    """The first prefix that ends in a long enough stretch of a period, the shortest first."""
    for end in range(1, len(ids) + 1):
        for period in range(1, end + 1):
            length = max(period * repeats, min_tokens)
            start = end - length
            if start >= 0 and all(ids[i] == ids[i - period] for i in range(start + period, end)):
                return Loop(start, end, period)
    return None


@given(st.lists(FEW, max_size=60), st.integers(2, 5), st.integers(2, 14))
def test_the_loop_is_the_first_that_the_definition_has(
    ids: list[int], repeats: int, min_tokens: int
) -> None:
    found = find_loop(ids, repeats=repeats, min_tokens=min_tokens)
    assert found == by_definition(ids, repeats, min_tokens)


@given(
    head=st.lists(st.integers(0, 10**5), max_size=30),
    block=st.lists(st.integers(10**6, 10**7), min_size=1, max_size=40, unique=True),
    tail=st.lists(st.integers(0, 10**5), max_size=30),
)
def test_a_block_over_and_over_is_found_where_it_becomes_sure(
    head: list[int], block: list[int], tail: list[int]
) -> None:
    length = max(REPEATS * len(block), MIN_TOKENS)
    stretch = (block * length)[:length]
    loop = Loop(len(head), len(head) + length, len(block))
    assert find_loop([*head, *stretch, *tail]) == loop
    assert find_loop([*head, *stretch]) == loop
    assert find_loop([*head, *stretch[:-1], -1, *tail]) is None


@given(st.lists(FEW, max_size=100), st.integers(0, 100))
def test_reading_on_changes_nothing(ids: list[int], cut: int) -> None:
    whole = find_loop(ids, min_tokens=8)
    seen = find_loop(ids[:cut], min_tokens=8)
    assert seen == (whole if whole is not None and whole.detected_at <= cut else None)


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [7] * (MIN_TOKENS - 1),  # a long number, a rule of a table
        [1, 0, 2] * 15,  # 10 + 10 + 10 + ..., fifteen terms
        [token for n in range(60) for token in (5, 100 + n, 9, 9, 8)],  # a numbered list
        [*range(40)] * 3,  # the same paragraph three times, as a verification may
    ],
)
def test_what_repeats_for_a_reason_is_no_loop(ids: list[int]) -> None:
    assert find_loop(ids) is None


def test_a_loop_within_a_loop_is_told_by_the_inner_one() -> None:
    assert find_loop([5] * 60 + [6] + [5] * 60) == Loop(0, MIN_TOKENS, 1)
