"""What is read and what counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.core.errors import DataFrameError, DataSetError
from edgequant.quality.overlap import find_overlap, refuse_overlap
from edgequant.quality.passages import answers, windows

BOS = 9999


@given(
    st.integers(2, 300), st.integers(4, 64), st.sampled_from([None, BOS]),
)  # fmt: skip
def test_every_token_counts_once_with_half_a_window_before_it(
    length: int, context: int, bos: int | None
) -> None:
    tokens = list(range(length))
    text = windows("t", tokens, context=context, bos=bos)
    counted = [token for run in text.counted_runs for token in run]
    assert counted == tokens[0 if bos is not None else 1 :]
    for number, passage in enumerate(text.passages):
        assert len(passage.tokens) <= context
        assert min(passage.counted) >= 1
        if bos is not None:
            assert passage.tokens[0] == BOS
        if number:
            assert min(passage.counted) >= context // 2 - 1


def test_a_text_of_nothing_is_refused() -> None:
    with pytest.raises(DataSetError, match="too few tokens"):
        windows("empty.txt", [5], context=8, bos=None)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "question_id": "0001", "rendered_prompt": "ab", "prompt_tokens": 3,
        "token_ids": [7, 8], "stop_reason": "eos", "closing_tokens": None, **changes,
    }  # fmt: skip


def tokenize(text: str) -> list[int]:
    return [1, *map(ord, text)]


def test_only_the_answers_own_tokens_count() -> None:
    rows = [
        row(), row(), row(stop_reason="failed", token_ids=[4]), row(closing_tokens=2, token_ids=[5])
    ]  # fmt: skip
    text = answers(rows, name="a", tokenize=tokenize, limit=9)
    (passage,) = text.passages
    assert passage.tokens == (1, 97, 98, 7, 8)
    assert passage.counted == (3, 4)


def test_a_doubled_bos_is_one_as_in_the_mirror() -> None:
    text = answers(
        [row(rendered_prompt="\1ab")], name="a", tokenize=tokenize, limit=9
    )  # fmt: skip
    assert text.passages[0].tokens == (1, 97, 98, 7, 8)


def test_another_tokenizers_answers_are_refused() -> None:
    with pytest.raises(DataFrameError, match="question 0001 has 4 tokens there and 3 here"):
        answers([row(prompt_tokens=4)], name="a", tokenize=tokenize, limit=9)
    with pytest.raises(DataFrameError, match="no answers"):
        answers([row(rendered_prompt=None)], name="a", tokenize=tokenize, limit=9)


def test_the_limit_takes_the_same_answers_in_any_order() -> None:
    rows = [row(token_ids=[i]) for i in range(20)]
    taken = answers(rows, name="a", tokenize=tokenize, limit=5)
    assert taken == answers(rows[::-1], name="a", tokenize=tokenize, limit=5)
    assert len(taken.passages) == 5


def test_overlap_by_hand() -> None:
    calibration, test = [[1, 2, 3, 4, 5]], [[9, 2, 3, 4, 8]]
    found = find_overlap(calibration, test, ngram=3)
    assert (found.share, found.first) == (1 / 3, (2, 3, 4))
    assert find_overlap(calibration, test, ngram=4).share == 0
    # No run reaches over an end.
    assert find_overlap([[1, 2], [3, 4]], [[1, 2, 3, 4]], ngram=3).share == 0
    # What is shorter than an n-gram is compared as a whole.
    assert find_overlap(calibration, [[4, 5]], ngram=32).share == 1
    assert find_overlap(calibration, [[]], ngram=3).share == 0


def test_a_text_that_stands_in_the_calibration_text_is_refused() -> None:
    calibration = [list(range(1000))]
    with pytest.raises(DataSetError, match=r"100\.0% .*32 tokens.* calibration text c\.txt") as e:
        refuse_overlap(calibration, [list(range(100, 200))], names=("c.txt", "t.txt"))
    assert e.value.subject == "t.txt"
    refuse_overlap(calibration, [list(range(2000, 2100))], names=("c.txt", "t.txt"))
