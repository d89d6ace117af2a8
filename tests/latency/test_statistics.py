"""The statistics of a run: the study's figures, and laws that hold for every series."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import LATENCY
from edgequant.latency.frame import make_frame, with_all_columns
from edgequant.latency.pace import study_frame
from edgequant.latency.statistics import (
    MIN_TOKENS,
    decode_seconds,
    median,
    median_interval,
    quantile,
    ratio_interval,
    ratios,
    spread,
    summarize,
)

seconds = st.floats(min_value=1e-6, max_value=1e4, allow_nan=False)
series = st.lists(seconds, min_size=1, max_size=60)


def decode_frame(values: dict[str, list[float]], *, repeats: int = 1) -> pd.DataFrame:
    rows = [
        {
            "quantization": name,
            "repeat": 1 + index * repeats // max(len(times), 1),
            "phase": "decode",
            "index": 1 + index % -(-len(times) // repeats),
            "seconds": time,
            "latency_source": "measured",
        }
        for name, times in values.items()
        for index, time in enumerate(times)
    ]
    return make_frame(rows)


def test_the_studys_series_gives_the_studys_figures() -> None:
    frame = study_frame()
    by_name = {summary.quantization: summary for summary in summarize(frame)}
    assert by_name["Q2_K"].n == by_name["Q8_0"].n == 19
    assert by_name["Q2_K"].median_seconds == pytest.approx(18.18, abs=1e-9)
    assert by_name["Q8_0"].median_seconds == pytest.approx(49.73, abs=1e-9)
    by_ratio = {ratio.quantization: ratio for ratio in ratios(frame)}
    assert by_ratio["Q8_0"].reference == "Q2_K"
    assert round(by_ratio["Q8_0"].ratio, 3) == 2.735
    assert by_ratio["Q2_K"].ratio == 1


def test_the_studys_series_is_reliable_and_its_ratio_has_an_interval() -> None:
    summaries = summarize(study_frame())
    assert all(s.reliable and s.unreliable_because is None for s in summaries)
    assert all(s.latency_source == "study" for s in summaries)
    # 19 tokens that differ by chance have no trend.
    assert [s.growth for s in summaries] == [0, 0]
    assert sorted(round(s.spread or 0, 3) for s in summaries) == [0.014, 0.027]
    ratio = next(r for r in ratios(study_frame()) if r.quantization == "Q8_0")
    assert ratio.interval is not None
    assert 2.6 < ratio.interval.low < ratio.ratio < ratio.interval.high < 2.9


def test_what_the_study_did_not_record_is_missing_not_zero() -> None:
    summary = summarize(study_frame())[0]
    assert summary.ttft_seconds is None
    assert summary.prefill_seconds_per_token is None
    assert summary.load_seconds is None
    assert summary.resident_bytes is None
    assert summary.major_faults_per_token is None


@settings(deadline=None)
@given(series, st.floats(min_value=1e-3, max_value=1e3))
def test_quantiles_and_spread_scale_with_the_clock(values: list[float], factor: float) -> None:
    scaled = [value * factor for value in values]
    for probability in (0.5, 0.9, 0.99):
        assert quantile(scaled, probability) == pytest.approx(
            quantile(values, probability) * factor, rel=1e-9
        )
    assert spread(scaled) == pytest.approx(spread(values), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(st.data(), series)
def test_order_matters_to_the_trend_alone(data: st.DataObject, values: list[float]) -> None:
    shuffled = data.draw(st.permutations(values))
    before, after = (summarize(decode_frame({"Q": v}))[0] for v in (values, shuffled))
    assert before.median_seconds == after.median_seconds
    assert before.p99_seconds == after.p99_seconds
    assert before.median_interval == after.median_interval


@settings(deadline=None)
@given(series)
def test_quantiles_are_ordered_and_inside_the_series(values: list[float]) -> None:
    middle, p90, p99 = (quantile(values, p) for p in (0.5, 0.9, 0.99))
    # Interpolating between equal values may be off in the last digit.
    slack = 1 + 1e-12
    assert min(values) <= middle * slack
    assert middle <= p90 * slack
    assert p90 <= p99 * slack
    assert p99 <= max(values) * slack


@settings(deadline=None)
@given(st.lists(seconds, min_size=1, max_size=80))
def test_the_interval_holds_the_median_and_has_the_coverage_it_claims(values: list[float]) -> None:
    interval = median_interval(values)
    n = len(values)
    if n < 6:
        assert interval is None
        return
    assert interval is not None
    assert interval.low <= median(values) <= interval.high
    k = next(k for k in range(1, n) if 2 * scipy.stats.binom.cdf(k, n, 0.5) > 0.05)
    ordered = sorted(values)
    assert (interval.low, interval.high) == (ordered[k - 1], ordered[n - k])


def test_the_interval_covers_the_true_median_of_a_skewed_distribution() -> None:
    generator = np.random.default_rng(7)
    true_median = math.log(2)
    draws = generator.exponential(size=(2000, 25))
    intervals = [median_interval(row) for row in draws]
    covered = np.mean([i is not None and i.low <= true_median <= i.high for i in intervals])
    assert covered >= 0.94


def test_constant_series_have_no_spread() -> None:
    assert spread([2.0] * 10) == 0
    assert spread([0.0] * 10) == 0
    assert ratio_interval([4.0] * 10, [2.0] * 10) is not None


@settings(deadline=None)
@given(st.lists(seconds, min_size=MIN_TOKENS, max_size=30))
def test_a_ratio_and_its_inverse_agree(values: list[float]) -> None:
    frame = decode_frame({"A": values, "B": [1.0] * MIN_TOKENS})
    forward = next(r for r in ratios(frame, "B") if r.quantization == "A").ratio
    backward = next(r for r in ratios(frame, "A") if r.quantization == "B").ratio
    assert forward * backward == pytest.approx(1)


def test_too_few_tokens_have_no_ratio_interval() -> None:
    assert ratio_interval([1.0] * (MIN_TOKENS - 1), [1.0] * 100) is None


@pytest.mark.parametrize(
    ("values", "repeats", "reason"),
    [
        ([1.0] * 7, 1, "7 tokens"),
        ([1.0, 1.3] * 10, 1, "spread 0.26"),
        ([1.0] * 10 + [1.2] * 10, 2, "repeats differ by 0.18"),
    ],
)
def test_a_series_that_should_not_be_believed_says_why(
    values: list[float], repeats: int, reason: str
) -> None:
    summary = summarize(decode_frame({"Q": values}, repeats=repeats))[0]
    assert not summary.reliable
    assert reason in (summary.unreliable_because or "")


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_a_trend_is_no_noise(repeats: int) -> None:
    # As the tokens of a board do whose every token is 0.2 % dearer than the one before.
    series = [1 + 0.002 * index for index in range(228)]
    summary = summarize(decode_frame({"Q": series * repeats}, repeats=repeats))[0]
    assert spread(series) > 0.10
    assert summary.reliable
    assert summary.spread == pytest.approx(0, abs=1e-9)
    assert summary.growth == pytest.approx(0.002 * 227 / summary.median_seconds)  # type: ignore[operator]


def test_one_stalled_token_does_not_tilt_the_trend() -> None:
    series = [1 + 0.002 * index for index in range(100)]
    series[97] = 50.0
    summary = summarize(decode_frame({"Q": series}))[0]
    assert summary.reliable
    assert summary.growth == pytest.approx(0.198 / 1.1, rel=0.05)


def test_figures_are_those_of_the_measured_prompt() -> None:
    rows: list[dict[str, object]] = []
    for repeat, (prompt, tokens, seconds) in enumerate(
        [(80, 60, 1.0), (40, 7, 9.0), (160, 7, 9.0)]
    ):
        common = {"quantization": "Q", "repeat": repeat, "prompt_tokens": prompt}
        rows.append(common | {"phase": "prefill", "index": 0, "seconds": prompt / 10})
        rows += [
            common | {"phase": "decode", "index": 1 + index, "seconds": seconds}
            for index in range(tokens)
        ]
    summary = summarize(make_frame(rows))[0]
    assert (summary.n, summary.repeats, summary.prompt_tokens) == (60, 1, 80)
    assert summary.median_seconds == summary.p99_seconds == 1.0
    assert summary.ttft_seconds == 8.0
    assert decode_seconds(make_frame(rows), "Q").tolist() == [1.0] * 60


def test_a_failed_run_stays_and_the_others_count() -> None:
    good = decode_frame({"Q": [1.0] * 10})
    bad = make_frame([{"quantization": "Q", "repeat": 2, "failed": True, "error": "killed"}])
    summary = summarize(pd.concat([good, bad]))[0]
    assert (summary.n, summary.repeats, summary.failed_repeats) == (10, 2, 1)
    assert summary.median_seconds == 1.0
    assert summary.error == "killed"
    assert not summary.reliable


def test_a_quantization_whose_runs_all_failed_has_no_figures() -> None:
    rows = [{"quantization": "Q", "repeat": r, "failed": True, "error": "no"} for r in (1, 2)]
    summary = summarize(make_frame(rows))[0]
    assert summary.n == 0
    assert summary.median_seconds is None
    assert summary.failed_repeats == 2
    assert ratios(make_frame(rows)) == []


def test_prefill_and_load_are_medians_over_the_repeats() -> None:
    rows = [
        {
            "quantization": "Q",
            "repeat": repeat,
            "phase": phase,
            "seconds": value,
            "prompt_tokens": 10,
            "resident_bytes": 100 * repeat,
        }
        for repeat, (load, prefill) in enumerate([(9.0, 5.0), (1.0, 2.0), (1.5, 3.0)], start=1)
        for phase, value in (("load", load), ("prefill", prefill), ("decode", 0.5))
    ]
    summary = summarize(make_frame(rows))[0]
    assert summary.ttft_seconds == 3.0
    assert summary.load_seconds == 1.5
    assert summary.prefill_seconds_per_token == pytest.approx(0.3)
    assert summary.prompt_tokens == 10
    assert summary.resident_bytes == 300
    assert summary.n == 3


def test_a_table_from_elsewhere_needs_three_columns_only() -> None:
    frame = pd.DataFrame({"quantization": ["Q"] * 9, "phase": ["decode"] * 9, "seconds": [2.0] * 9})
    summary = summarize(frame)[0]
    assert summary.median_seconds == 2.0
    assert summary.reliable
    assert list(with_all_columns(frame).columns) == list(LATENCY.columns)
    with pytest.raises(DataFrameError, match="phase"):
        summarize(frame.drop(columns="phase"))
    with pytest.raises(DataFrameError, match="'seconds' must hold numbers"):
        summarize(frame.assign(seconds="soon"))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_an_impossible_time_is_an_error(bad: float) -> None:
    with pytest.raises(DataFrameError, match="not a number"):
        summarize(decode_frame({"Q": [1.0, bad]}))


def test_an_unknown_reference_is_an_error() -> None:
    with pytest.raises(DataFrameError, match="Q9"):
        ratios(decode_frame({"Q": [1.0]}), "Q9")


def test_decode_seconds_leaves_other_phases_out() -> None:
    frame = make_frame(
        [
            {"quantization": "Q", "phase": "prefill", "seconds": 9.0},
            {"quantization": "Q", "phase": "decode", "seconds": 1.0},
            {"quantization": "R", "phase": "decode", "seconds": 2.0},
        ]
    )
    assert decode_seconds(frame, "Q").tolist() == [1.0]
