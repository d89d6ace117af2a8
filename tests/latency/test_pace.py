"""Tokens turned into seconds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edgequant.latency.curve import Curve, Trend
from edgequant.latency.pace import Pace, study_paces

FITTED = Pace(
    "Q8_0",
    "measured",
    decode_seconds=0.3,
    prefill_seconds_per_token=0.02,
    prefill=Curve(Trend(0.2, 0.015, 1e-5), (30.0, 80.0, 300.0), (0.7, 1.5, 5.5)),
    decode=Curve(Trend(0.2, 0.001), (80.0, 100.0, 143.0), (0.28, 0.29, 0.35)),
    first_step_seconds=0.1,
    pass_seconds=0.2,
)
FLAT = Pace("Q2_K", "emulated", 0.1, 0.01)
ROOFED = Pace("Q4_0", "predicted", 0.1, 0.01, decode=Curve(Trend(0.1)), pass_seconds=0.1)
PACES = (FITTED, FLAT, ROOFED, *study_paces())

tokens = st.integers(0, 3000) | st.floats(0, 3000, allow_nan=False)
paces = st.sampled_from(PACES)


@settings(deadline=None)
@given(paces, tokens, tokens, tokens)
def test_more_tokens_never_take_less_time(
    pace: Pace, prompt: float, count: float, more: float
) -> None:
    slack = 1 + 1e-12
    for function in (pace.seconds, pace.decode_seconds_for, pace.batch_seconds):
        least = function(prompt, count)
        assert least >= 0
        assert function(prompt + more, count) * slack + 1e-9 >= least
        assert function(prompt, count + more) * slack + 1e-9 >= least
    assert pace.first_token_seconds(prompt + more) >= pace.first_token_seconds(prompt) >= 0


@settings(deadline=None)
@given(paces, tokens, st.integers(1, 3000))
def test_an_answer_is_its_first_token_and_the_steps_after_it(
    pace: Pace, prompt: float, count: int
) -> None:
    assert pace.seconds(prompt, count) == pytest.approx(
        pace.first_token_seconds(prompt) + pace.decode_seconds_for(prompt, count - 1)
    )
    assert pace.seconds(prompt, 1) == pytest.approx(pace.first_token_seconds(prompt))


@settings(deadline=None)
@given(paces, st.lists(tokens, min_size=1, max_size=5), tokens)
def test_arrays_give_what_their_numbers_give(pace: Pace, many: list[float], one: float) -> None:
    array = np.array(many, dtype=np.float64)
    for function in (pace.seconds, pace.decode_seconds_for, pace.batch_seconds):
        found = function(array, one)
        assert found.shape == array.shape
        assert found.tolist() == pytest.approx([function(value, one) for value in many])
        table = function(array[:, None], array[None, :])
        assert table.shape == (len(many), len(many))
    assert isinstance(pace.seconds(1, 2), float)
    assert isinstance(pace.first_token_seconds(np.int64(3)), float)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_steps_are_summed_one_by_one(depth: int, steps: int) -> None:
    assert FITTED.decode is not None
    one_by_one = sum(float(FITTED.decode.at(depth + step)) for step in range(steps))
    expected = one_by_one + (0.1 if steps else 0.0)
    assert FITTED.decode_seconds_for(depth, steps) == pytest.approx(expected)


@settings(deadline=None)
@given(paces, st.integers(1, 600), st.integers(0, 600))
def test_a_batch_costs_a_pass_and_no_more_than_its_tokens_one_by_one(
    pace: Pace, count: int, depth: int
) -> None:
    batch = pace.batch_seconds(count, depth)
    steps = pace.decode_seconds_for(depth, count) - pace.first_step_seconds
    assert batch <= steps + 1e-9
    assert batch >= pace.decode_seconds_for(depth, 1) - pace.first_step_seconds - 1e-9
    assert pace.batch_seconds(0, depth) == 0


def test_a_pace_of_two_numbers_is_flat() -> None:
    assert FLAT.seconds(20, 1) == pytest.approx(0.2)
    assert FLAT.seconds(20, 101) == pytest.approx(0.2 + 100 * 0.1)
    assert FLAT.seconds(20, 0) == pytest.approx(0.2)
    assert FLAT.seconds(0, 0) == 0


def test_a_pace_goes_through_json_and_back() -> None:
    adapter = TypeAdapter(list[Pace])
    again = adapter.validate_json(adapter.dump_json(list(PACES)))
    assert again == list(PACES)
    assert again[0].seconds(120, 300) == FITTED.seconds(120, 300)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_impossible_times_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="decode_seconds"):
        Pace("Q", "measured", bad, 0.0)
    with pytest.raises(ValueError, match="pass_seconds"):
        Pace("Q", "measured", 1.0, 0.0, pass_seconds=bad)


def test_no_row_of_the_study_costs_nothing() -> None:
    found = {pace.quantization: pace for pace in study_paces()}
    assert set(found) == {"Q2_K", "Q8_0"}
    assert all(pace.source == "study" for pace in found.values())
    for pace in found.values():
        assert "a prompt costs one pass over the file" in pace.note
        # The file is read for the prompt's batch as it is for a token.
        assert pace.seconds(1, 1) == pace.seconds(500, 1) == pace.decode_seconds
        assert pace.first_token_seconds(513) == 2 * pace.decode_seconds
    # 100 tokens of the 2-bit model take as long as 36.6 of the 8-bit pace.
    equal = found["Q2_K"].decode_seconds * 100 / found["Q8_0"].decode_seconds
    assert equal == pytest.approx(36.6, abs=0.05)
    assert found["Q2_K"].seconds(500, 101) == pytest.approx(101 * 18.18)
