"""What a series of token times says: pure functions over the latency table.

Quantiles interpolate linearly between order statistics (Hyndman and Fan's type 7, the default of
numpy, R and spreadsheets); with fewer than about a hundred tokens p99 is little else than the
largest value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import DataFrameError
from edgequant.core.tables import records
from edgequant.latency.frame import with_all_columns

if TYPE_CHECKING:
    import pandas as pd

SPREAD_LIMIT = 0.10
"""A series whose middle half spreads over more than a tenth around its trend is not reliable: the
study's two series, on a quiet board, spread by 0.03 and 0.01."""
REPEAT_LIMIT = 0.10
"""Nor is one whose repeats lie further apart than that around their common trend."""
MIN_TOKENS = 8
"""Nor one of fewer tokens: an interval of its median would be as wide as the whole series."""
CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 4000
BOOTSTRAP_SEED = 20240607
TREND_POINTS = 128
"""Points that a trend is drawn through at most: its slope is the median over all pairs of them."""

_Row = Mapping[str, Any]
# What a summary is made of.
_COLUMNS = (
    "quantization",
    "repeat",
    "phase",
    "index",
    "seconds",
    "prompt_tokens",
    "major_faults",
    "read_bytes",
    "resident_bytes",
    "frequency_hz",
    "temperature_celsius",
    "failed",
    "error",
    "latency_source",
)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class LatencySummary:
    """The figures of one quantization on one board. None is missing, never zero.

    They are of the runs with the prompt that was measured; the short runs with prompts of other
    lengths serve the pace alone.
    """

    quantization: str
    n: int
    """Decoded tokens that were timed, over all repeats that did not fail."""
    repeats: int
    failed_repeats: int
    median_seconds: float | None
    """Of the time for one decoded token: the figure of a run."""
    median_interval: Interval | None
    p90_seconds: float | None
    p99_seconds: float | None
    growth: float | None
    """What the trend adds from the first to the last token, in parts of the median: a token takes
    longer the more are in the cache."""
    spread: float | None
    """Interquartile range around the trend, in parts of it."""
    repeat_spread: float | None
    """How far the repeats' medians lie apart, in parts of the trend; None with one repeat."""
    reliable: bool
    unreliable_because: str | None
    ttft_seconds: float | None
    """Median over the repeats of prefill and first token; loading is not in it."""
    prompt_tokens: int | None
    prefill_seconds_per_token: float | None
    """Median over the repeats of TTFT over prompt tokens; holds near that prompt's length."""
    load_seconds: float | None
    resident_bytes: int | None
    """The largest seen."""
    major_faults_per_token: float | None
    read_bytes_per_token: float | None
    frequency_hz: float | None
    temperature_celsius: float | None
    """The highest seen."""
    latency_source: str | None
    error: str | None
    """Why a repeat failed, the first one's reason."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """How many times longer a token takes than with the reference quantization."""

    quantization: str
    reference: str
    ratio: float
    interval: Interval | None


def quantile(values: Sequence[float] | Floats, probability: float) -> float:
    """A quantile by linear interpolation (type 7).

    Raises:
        ValueError: no values, or one that is not finite.
    """
    return float(np.quantile(_finite(values), probability))


def median(values: Sequence[float] | Floats) -> float:
    """The middle value, or the mean of the two in the middle."""
    return quantile(values, 0.5)


def spread(values: Sequence[float] | Floats) -> float:
    """Interquartile range over the median: 0 when all are equal, infinite when the median is 0."""
    lower, middle, upper = (quantile(values, p) for p in (0.25, 0.5, 0.75))
    if upper == lower:
        return 0.0
    return (upper - lower) / middle if middle > 0 else math.inf


def median_interval(values: Sequence[float] | Floats) -> Interval | None:
    """The exact 95 % interval of the median from order statistics.

    The number of values below the true median is binomial(n, 1/2), whatever the distribution, so
    from the k-th smallest to the k-th largest value covers it with at least 95 %. It takes the
    tokens as independent, which neighbours in one run are only roughly.

    Returns:
        None for fewer than 6 values: then even the whole range covers less.
    """
    ordered = np.sort(_finite(values))
    n = len(ordered)
    below, k = 0.0, 0
    while True:
        below += math.exp(_log_choose(n, k) - n * math.log(2))
        if below > (1 - CONFIDENCE) / 2:
            break
        k += 1
    if k == 0:
        return None
    return Interval(float(ordered[k - 1]), float(ordered[n - k]))


def ratio_interval(
    numerator: Sequence[float] | Floats, denominator: Sequence[float] | Floats
) -> Interval | None:
    """A 95 % percentile bootstrap interval of the ratio of two medians, with a fixed seed.

    Returns:
        None where one series has fewer than :data:`MIN_TOKENS` values or the ratio is not finite.
    """
    above, below = _finite(numerator), _finite(denominator)
    if min(len(above), len(below)) < MIN_TOKENS or np.min(below) <= 0:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    ratios = _resampled_medians(above, generator) / _resampled_medians(below, generator)
    tail = (1 - CONFIDENCE) / 2
    return Interval(float(np.quantile(ratios, tail)), float(np.quantile(ratios, 1 - tail)))


def summarize(frame: pd.DataFrame) -> list[LatencySummary]:
    """One summary for each quantization, in the order of their first rows.

    Args:
        frame: a latency table (see :data:`edgequant.core.schemas.LATENCY`); quantization, phase
            and seconds are needed, the rest may be missing.

    Raises:
        DataFrameError: needed columns are missing, or a time is negative or not a number.
    """
    return [_summarize_one(name, rows) for name, rows in rows_by_quantization(frame).items()]


def decode_seconds(frame: pd.DataFrame, quantization: str) -> Floats:
    """Seconds of every decoded token of one quantization, all repeats one after another."""
    rows = rows_by_quantization(frame).get(quantization, [])
    return _seconds(at_measured_prompt(rows), "decode")


def ratios(frame: pd.DataFrame, reference: str | None = None) -> list[Ratio]:
    """Ratio of each quantization's median token time to the reference's.

    Args:
        frame: a latency table.
        reference: a quantization, by default the one with the smallest median.

    Returns:
        One for each quantization that has times, the reference itself included with 1.

    Raises:
        DataFrameError: the reference has no times.
    """
    series = {
        name: _seconds(at_measured_prompt(rows), "decode")
        for name, rows in rows_by_quantization(frame).items()
    }
    series = {name: values for name, values in series.items() if len(values)}
    if not series:
        return []
    if reference is None:
        reference = min(series, key=lambda name: median(series[name]))
    if reference not in series:
        raise DataFrameError(f"no token times of {reference!r}, the reference for ratios")
    base = series[reference]
    if median(base) <= 0:
        raise DataFrameError(f"the median token time of {reference!r} is zero")
    return [
        Ratio(
            name,
            reference,
            median(values) / median(base),
            Interval(1.0, 1.0) if name == reference else ratio_interval(values, base),
        )
        for name, values in series.items()
    ]


def rows_by_quantization(frame: pd.DataFrame) -> dict[str, list[_Row]]:
    """The rows as plain values: quicker than a filter of a frame for each number that is wanted.

    Raises:
        DataFrameError: as :func:`summarize`.
    """
    groups: dict[str, list[_Row]] = {}
    for row in records(with_all_columns(frame)[list(_COLUMNS)]):
        groups.setdefault(row["quantization"], []).append(row)
    return groups


def at_measured_prompt(rows: Sequence[_Row]) -> list[_Row]:
    """Of one quantization's rows that did not fail, those of the runs with the measured prompt.

    It is the one after which most tokens were decoded; what follows prompts of other lengths is a
    few tokens each. Rows that do not tell their prompt belong to it.
    """
    good = [row for row in rows if not row["failed"]]
    lengths = Counter(row["prompt_tokens"] for row in good if row["phase"] == "decode")
    if not lengths:
        return good
    ((most, _),) = lengths.most_common(1)
    if most is None:
        return good
    return [row for row in good if row["prompt_tokens"] in (most, None)]


def around_trend(places: Floats, values: Floats) -> tuple[Floats, float]:
    """Each value in parts of the series' trend there, and what the trend adds over the series.

    The trend is a line that does not fall, with Theil and Sen's slope: one stalled token does not
    tilt it, as it would tilt a least-squares fit.

    Args:
        places: of the tokens, in any order; the same place may come several times.
        values: their seconds.

    Returns:
        The values over the trend (around 1; all 1 where the trend is zero), and the trend's growth
        from the first to the last place in parts of the median.
    """
    middle = median(values)
    if middle <= 0:
        return np.where(values == middle, 1.0, math.inf), 0.0
    x, y = _drawn_through(places, values)
    first, second = np.triu_indices(len(x), 1)
    slopes = (y[second] - y[first]) / (x[second] - x[first])
    slope = max(float(np.median(slopes)), 0.0) if len(slopes) else 0.0
    fixed = float(np.median(values - slope * places))
    line = fixed + slope * places
    if np.min(line) <= 0 or spread(values / line) >= spread(values):
        # It explains nothing: the slope of a few tokens that differ by chance.
        return values / middle, 0.0
    return values / line, slope * float(np.ptp(places)) / middle


def _drawn_through(places: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Distinct places, and the median value around each."""
    distinct, where = np.unique(places, return_inverse=True)
    groups = np.minimum(len(distinct), TREND_POINTS)
    group = where * groups // len(distinct)
    x = np.array([np.median(places[group == number]) for number in range(groups)])
    y = np.array([np.median(values[group == number]) for number in range(groups)])
    return x, y


def _summarize_one(quantization: str, group: Sequence[_Row]) -> LatencySummary:
    good = at_measured_prompt(group)
    failed = [row for row in group if row["failed"]]
    decode = [row for row in good if row["phase"] == "decode" and row["seconds"] is not None]
    prefill = [row for row in good if row["phase"] == "prefill"]
    times = _seconds(decode, "decode")
    around, growth = _around_trend(decode, times)
    repeat_medians = [
        median(around[[row["repeat"] == repeat for row in decode]]) for repeat in _repeats(decode)
    ]
    paces = [
        row["seconds"] / row["prompt_tokens"]
        for row in prefill
        if row["prompt_tokens"] and row["seconds"] is not None
    ]
    failed_repeats = len(_repeats(failed))
    reasons = _doubts(around, repeat_medians, failed_repeats=failed_repeats)
    middle = median(times) if len(times) else None
    return LatencySummary(
        quantization=quantization,
        n=len(times),
        repeats=len(_repeats([*good, *failed])),
        failed_repeats=failed_repeats,
        median_seconds=middle,
        median_interval=median_interval(times) if len(times) else None,
        p90_seconds=quantile(times, 0.90) if len(times) else None,
        p99_seconds=quantile(times, 0.99) if len(times) else None,
        growth=growth,
        spread=spread(around) if len(times) else None,
        repeat_spread=_repeat_spread(repeat_medians),
        reliable=not reasons,
        unreliable_because="; ".join(reasons) or None,
        ttft_seconds=_middle(_kept(prefill, "seconds")),
        prompt_tokens=_whole(_middle(_kept(prefill, "prompt_tokens"))),
        prefill_seconds_per_token=_middle(np.array(paces)),
        load_seconds=_middle(_kept([row for row in good if row["phase"] == "load"], "seconds")),
        resident_bytes=_whole(_highest(_kept(good, "resident_bytes"))),
        major_faults_per_token=_mean(_kept(decode, "major_faults")),
        read_bytes_per_token=_mean(_kept(decode, "read_bytes")),
        frequency_hz=_middle(_kept(decode, "frequency_hz")),
        temperature_celsius=_highest(_kept(good, "temperature_celsius")),
        latency_source=_first(group, "latency_source"),
        error=_first(failed, "error"),
    )


def _around_trend(decode: Sequence[_Row], times: Floats) -> tuple[Floats, float | None]:
    if not decode:
        return times, None
    # Without an index nobody knows which token came first: then there is no trend to see.
    places = np.array([row["index"] or 0 for row in decode], dtype=np.float64)
    return around_trend(places, times)


def _doubts(values: Floats, repeat_medians: list[float], *, failed_repeats: int) -> list[str]:
    """Why a series should not be taken at its word."""
    reasons = []
    if len(values) < MIN_TOKENS:
        reasons.append(f"{len(values)} tokens, fewer than {MIN_TOKENS}")
    if len(values) and spread(values) > SPREAD_LIMIT:
        reasons.append(f"spread {spread(values):.2f}, more than {SPREAD_LIMIT:.2f}")
    apart = _repeat_spread(repeat_medians)
    if apart is not None and apart > REPEAT_LIMIT:
        reasons.append(f"repeats differ by {apart:.2f}, more than {REPEAT_LIMIT:.2f}")
    if failed_repeats:
        reasons.append(f"{failed_repeats} failed")
    return reasons


def _repeat_spread(repeat_medians: list[float]) -> float | None:
    if len(repeat_medians) < 2:
        return None
    return max(repeat_medians) - min(repeat_medians)


def _repeats(rows: Sequence[_Row]) -> set[int | None]:
    return {row["repeat"] for row in rows}


def _seconds(rows: Sequence[_Row], phase: str) -> Floats:
    of_phase = [row for row in rows if row["phase"] == phase and not row["failed"]]
    times = _kept(of_phase, "seconds")
    if not np.all(np.isfinite(times)) or np.any(times < 0):
        name = of_phase[0]["quantization"]
        raise DataFrameError(f"a {phase} time of {name} is negative or not a number")
    return times


def _kept(rows: Sequence[_Row], column: str) -> Floats:
    """A column's cells that are not empty."""
    return np.array([v for row in rows if (v := row[column]) is not None], dtype=np.float64)


def _finite(values: Sequence[float] | Floats) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("no values")
    if not np.all(np.isfinite(array)):
        raise ValueError("a value is not finite")
    return array


def _resampled_medians(values: Floats, generator: np.random.Generator) -> Floats:
    drawn = generator.integers(0, len(values), size=(BOOTSTRAP_RESAMPLES, len(values)))
    medians: Floats = np.median(values[drawn], axis=1)
    return medians


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _middle(kept: Floats) -> float | None:
    return float(np.median(kept)) if len(kept) else None


def _mean(kept: Floats) -> float | None:
    return float(kept.mean()) if len(kept) else None


def _highest(kept: Floats) -> float | None:
    return float(kept.max()) if len(kept) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _first(rows: Sequence[_Row], column: str) -> str | None:
    return next((str(v) for row in rows if (v := row[column]) is not None), None)
