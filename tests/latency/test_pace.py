"""Tokens turned into seconds."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.core.errors import DataFrameError
from edgequant.latency.frame import make_frame
from edgequant.latency.pace import Pace, from_summaries, from_summary, study_paces
from edgequant.latency.statistics import LatencySummary, summarize


def summary() -> LatencySummary:
    rows: list[dict[str, object]] = [
        {
            "quantization": "Q8_0",
            "repeat": 1,
            "phase": "prefill",
            "seconds": 2.0,
            "prompt_tokens": 20,
            "latency_source": "emulated",
        }
    ]
    rows += [
        {
            "quantization": "Q8_0",
            "repeat": 1,
            "phase": "decode",
            "seconds": 0.5,
            "latency_source": "emulated",
        }
        for _ in range(10)
    ]
    return summarize(make_frame(rows))[0]


def test_seconds_of_an_answer_are_prompt_and_further_tokens() -> None:
    pace = from_summary(summary())
    assert pace.source == "emulated"
    assert pace.note == ""
    assert pace.seconds(20, 1) == pytest.approx(2.0)
    assert pace.seconds(20, 101) == pytest.approx(2.0 + 100 * 0.5)
    assert pace.seconds(20, 0) == pytest.approx(2.0)
    assert pace.seconds(0, 0) == 0


@given(st.integers(0, 500), st.integers(1, 500), st.integers(1, 500))
def test_more_tokens_never_take_less_time(prompt: int, tokens: int, more: int) -> None:
    pace = Pace("Q", "measured", 0.1, 0.01)
    assert pace.seconds(prompt, tokens + more) > pace.seconds(prompt, tokens)
    assert pace.seconds(prompt + more, tokens) > pace.seconds(prompt, tokens)


def test_an_unreliable_measurement_says_so_in_its_note() -> None:
    doubtful = dataclasses.replace(summary(), reliable=False, unreliable_because="spread 0.50")
    assert "UNRELIABLE: spread 0.50" in from_summary(doubtful).note


def test_a_measurement_without_times_gives_no_pace() -> None:
    failed = summarize(make_frame([{"quantization": "Q2_K", "failed": True, "error": "killed"}]))
    with pytest.raises(DataFrameError, match="killed"):
        from_summary(failed[0])
    assert [m.quantization for m in from_summaries([*failed, summary()])] == ["Q8_0"]


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(DataFrameError, match="latency_source"):
        from_summary(dataclasses.replace(summary(), latency_source="guessed"))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_impossible_times_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="decode_seconds"):
        Pace("Q", "measured", bad, 0.0)


def test_the_study_gives_two_paces_whose_prompts_cost_nothing() -> None:
    paces = {pace.quantization: pace for pace in study_paces()}
    assert set(paces) == {"Q2_K", "Q8_0"}
    assert all(pace.source == "study" for pace in paces.values())
    assert all("no prompt times" in pace.note for pace in paces.values())
    # 100 tokens of the 2-bit model take as long as 36.6 of the 8-bit pace.
    equal = paces["Q2_K"].decode_seconds * 100 / paces["Q8_0"].decode_seconds
    assert equal == pytest.approx(36.6, abs=0.05)
    assert paces["Q2_K"].seconds(500, 101) == pytest.approx(1818.0)
