"""What is recommended for a time limit: the row of the best choice, and what fits into the time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.core.errors import DataFrameError
from edgequant.latency.pace import Pace
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.groups import group_answers
from edgequant.matching.recommend import recommend, tokens_within
from tests.matching.synthetic_answers import answer_row, box, frame

PACES = [Pace("Q2_K", "measured", 1.0, 0.1), Pace("Q8_0", "measured", 2.0, 0.1)]


def groups() -> list[AnswerGroup]:
    """Q2_K is right in 60 of 100 after 6 tokens, Q8_0 in 95 after 8; prompts have 120 tokens."""
    rows = [
        answer_row(name, "cot", None, n, 7, [*["x"] * steps, *box(7 if n < right else 8), ""])
        for name, steps, right in (("Q2_K", 1, 60), ("Q8_0", 3, 95))
        for n in range(100)
    ]
    return group_answers(*frame(rows))


def test_each_limit_has_its_choice_and_the_tokens_that_fit() -> None:
    nothing, quick, good = recommend(groups(), PACES, [5.0, 20.0, 30.0])
    assert (nothing.quantization, nothing.accuracy, nothing.worse) == (None, None, ())
    assert (quick.quantization, quick.accuracy, quick.worse) == ("Q2_K", 0.6, ("Q8_0",))
    # 12 s of prompt and a second for each further token, but no answer has more than 7.
    assert quick.max_tokens == 7
    assert (good.quantization, good.accuracy, good.runner_up) == ("Q8_0", 0.95, "Q2_K")
    assert good.difference == pytest.approx(0.35)
    assert good.not_distinguishable_from == ()
    assert good.max_tokens == 9


def test_no_limit_is_refused() -> None:
    with pytest.raises(DataFrameError, match="no time limit"):
        recommend(groups(), PACES, [])


@given(st.integers(1, 500), st.floats(0, 1e4), st.floats(1e-6, 10), st.floats(0, 1))
def test_the_tokens_within_a_time_are_the_most_that_fit(
    prompt: int, seconds: float, decode: float, prefill: float
) -> None:
    pace = Pace("Q2_K", "measured", decode, prefill)
    tokens = tokens_within(pace, prompt, seconds)
    assert tokens == 0 or pace.seconds(float(prompt), float(tokens)) <= seconds
    if tokens < 1_000_000:
        assert pace.seconds(float(prompt), float(tokens + 1)) > seconds
