"""The demo model on the virtual board: Q8_0 and Q2_K, 228 tokens after a prompt of 79.

``recorded/virtual_board_lengths.csv`` was measured with ``measure virtual -n 228`` (two repeats),
and with ``-n 8`` after the same text cut and repeated to 18, 34, 158 and 237 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgequant.latency.fit import fit_paces
from edgequant.latency.frame import with_all_columns
from edgequant.latency.pace import Pace
from edgequant.latency.statistics import decode_seconds, spread, summarize

RECORDED = with_all_columns(
    pd.read_csv(Path(__file__).parent / "recorded" / "virtual_board_lengths.csv").assign(
        latency_source="emulated"
    )
)
PROMPT = 79


def rows_of(tokens: int, lengths: Sequence[int]) -> pd.DataFrame:
    """What ``measure -n TOKENS`` would have recorded with further prompts of these lengths."""
    index, prompt = RECORDED["index"], RECORDED["prompt_tokens"]
    return RECORDED[((prompt == PROMPT) & (index < tokens)) | prompt.isin(lengths)]


def pace_of(quantization: str, tokens: int, lengths: Sequence[int] = (34, 158)) -> Pace:
    return next(p for p in fit_paces(rows_of(tokens, lengths)) if p.quantization == quantization)


def end_of(quantization: str, tokens: int) -> float:
    """Seconds from the question to the end of a token, as they were recorded."""
    first = RECORDED[(RECORDED["quantization"] == quantization) & (RECORDED["repeat"] == 1)]
    return float(first.loc[first["index"] < tokens, "seconds"].sum())


@pytest.mark.parametrize("quantization", ["Q8_0", "Q2_K"])
def test_perfectly_repeatable_series_are_reliable(quantization: str) -> None:
    (summary,) = summarize(RECORDED[RECORDED["quantization"] == quantization])
    assert summary.reliable, summary.unreliable_because
    assert summary.repeat_spread is not None
    assert summary.repeat_spread < 0.001
    # The trend alone spreads over more than the limit.
    assert spread(decode_seconds(RECORDED, quantization)) > 0.10


def test_repeats_of_these_series_that_drift_apart_are_not_reliable() -> None:
    frame = RECORDED[RECORDED["quantization"] == "Q8_0"].copy()
    later = (frame["repeat"] == 2) & (frame["index"] > 100)
    frame.loc[later, "seconds"] *= 1.5
    (summary,) = summarize(frame)
    assert not summary.reliable


@pytest.mark.parametrize("quantization", ["Q8_0", "Q2_K"])
@pytest.mark.parametrize("token", [64, 128, 192, 228])
def test_a_late_token_is_priced_from_64_tokens(quantization: str, token: int) -> None:
    exact = end_of(quantization, token)
    assert pace_of(quantization, 64).seconds(PROMPT, token) == pytest.approx(exact, rel=0.015)


@pytest.mark.parametrize("quantization", ["Q8_0", "Q2_K"])
@pytest.mark.parametrize("token", [1, 2, 50, 192, 228])
def test_inside_the_measured_range_the_rows_stand(quantization: str, token: int) -> None:
    exact = end_of(quantization, token)
    assert pace_of(quantization, 228).seconds(PROMPT, token) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(("quantization", "late"), [("Q8_0", 0.10), ("Q2_K", 0.05)])
def test_the_median_alone_prices_the_192nd_token_too_low(quantization: str, late: float) -> None:
    pace = pace_of(quantization, 64, ())
    flat = Pace(quantization, "emulated", pace.decode_seconds, pace.prefill_seconds_per_token)
    assert flat.seconds(PROMPT, 192) < (1 - late) * end_of(quantization, 192)


@pytest.mark.parametrize(
    ("quantization", "length"), [(q, n) for q in ("Q8_0", "Q2_K") for n in (18, 237)]
)
def test_prompts_and_depths_that_were_not_measured_are_predicted(
    quantization: str, length: int
) -> None:
    pace = pace_of(quantization, 64)
    rows = RECORDED[
        (RECORDED["quantization"] == quantization) & (RECORDED["prompt_tokens"] == length)
    ]
    seconds = rows.sort_values("index")["seconds"].to_numpy(dtype=np.float64)
    assert pace.first_token_seconds(length) == pytest.approx(seconds[0], rel=0.06)
    assert pace.decode_seconds_for(length, 7) == pytest.approx(seconds[1:].sum(), rel=0.02)


def test_each_question_pays_its_own_prompt() -> None:
    pace = pace_of("Q8_0", 64)
    lengths = np.array([18.0, 237.0])
    own = RECORDED[(RECORDED["quantization"] == "Q8_0") & RECORDED["prompt_tokens"].isin(lengths)]
    real = own.groupby("prompt_tokens")["seconds"].sum().to_numpy(dtype=np.float64)
    assert pace.seconds(lengths, 8) == pytest.approx(real, rel=0.04)
    # The price of the mean prompt is 2.9 times the one's and less than the other's.
    mean = pace.seconds(float(lengths.mean()), 8)
    assert mean > 2.5 * real[0]
    assert mean < 0.6 * real[1]


def test_the_errors_of_rows_held_out_are_those_measured_here() -> None:
    for quantization, prefill, decode in (("Q8_0", 0.07, 0.01), ("Q2_K", 0.02, 0.002)):
        errors = pace_of(quantization, 64).errors
        assert errors is not None
        assert errors.prefill_held_out is not None
        assert errors.decode_held_out is not None
        assert errors.prefill_held_out < prefill
        assert errors.decode_held_out < decode
