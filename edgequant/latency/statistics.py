"""What a series of token times says: pure functions over the latency table.

Quantiles interpolate linearly between order statistics (Hyndman and Fan's type 7, the default of
numpy, R and spreadsheets); with fewer than about a hundred tokens p99 is little else than the
largest value.
"""

from __future__ import annotations

import math
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
"""A series whose middle half spreads over more than a tenth of its median is not reliable: the
study's two series, on a quiet board, spread by 0.03 and 0.01."""
REPEAT_LIMIT = 0.10
"""Nor is one whose repeats' medians lie further apart than that."""
MIN_TOKENS = 8
"""Nor one of fewer tokens: an interval of its median would be as wide as the whole series."""
CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 4000
BOOTSTRAP_SEED = 20240607

_Row = Mapping[str, Any]
# What a summary is made of.
_COLUMNS = (
    "quantization",
    "repeat",
    "phase",
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
    """The figures of one quantization on one board. None is missing, never zero."""

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
    spread: float | None
    """Interquartile range over the median."""
    repeat_spread: float | None
    """Range of the repeats' medians over the median; None with one repeat."""
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
    return [_summarize_one(name, rows) for name, rows in _by_quantization(frame).items()]


def decode_seconds(frame: pd.DataFrame, quantization: str) -> Floats:
    """Seconds of every decoded token of one quantization, all repeats one after another."""
    return _seconds(_by_quantization(frame).get(quantization, []), "decode")


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
    series = {name: _seconds(rows, "decode") for name, rows in _by_quantization(frame).items()}
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


def _by_quantization(frame: pd.DataFrame) -> dict[str, list[_Row]]:
    """The rows as plain values: quicker than a filter of a frame for each number that is wanted."""
    groups: dict[str, list[_Row]] = {}
    for row in records(with_all_columns(frame)[list(_COLUMNS)]):
        groups.setdefault(row["quantization"], []).append(row)
    return groups


def _summarize_one(quantization: str, group: Sequence[_Row]) -> LatencySummary:
    good = [row for row in group if not row["failed"]]
    failed = [row for row in group if row["failed"]]
    decode = [row for row in good if row["phase"] == "decode"]
    prefill = [row for row in good if row["phase"] == "prefill"]
    times = _seconds(good, "decode")
    repeat_medians = [
        median(_seconds([row for row in decode if row["repeat"] == repeat], "decode"))
        for repeat in _repeats(decode)
    ]
    paces = [
        row["seconds"] / row["prompt_tokens"]
        for row in prefill
        if row["prompt_tokens"] and row["seconds"] is not None
    ]
    failed_repeats = len(_repeats(failed))
    reasons = _doubts(times, repeat_medians, failed_repeats=failed_repeats)
    middle = median(times) if len(times) else None
    return LatencySummary(
        quantization=quantization,
        n=len(times),
        repeats=len(_repeats(group)),
        failed_repeats=failed_repeats,
        median_seconds=middle,
        median_interval=median_interval(times) if len(times) else None,
        p90_seconds=quantile(times, 0.90) if len(times) else None,
        p99_seconds=quantile(times, 0.99) if len(times) else None,
        spread=spread(times) if len(times) else None,
        repeat_spread=_repeat_spread(repeat_medians, middle),
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


def _doubts(values: Floats, repeat_medians: list[float], *, failed_repeats: int) -> list[str]:
    """Why a series should not be taken at its word."""
    reasons = []
    if len(values) < MIN_TOKENS:
        reasons.append(f"{len(values)} tokens, fewer than {MIN_TOKENS}")
    if len(values) and spread(values) > SPREAD_LIMIT:
        reasons.append(f"spread {spread(values):.2f}, more than {SPREAD_LIMIT:.2f}")
    apart = _repeat_spread(repeat_medians, median(values) if len(values) else None)
    if apart is not None and apart > REPEAT_LIMIT:
        reasons.append(f"repeats differ by {apart:.2f}, more than {REPEAT_LIMIT:.2f}")
    if failed_repeats:
        reasons.append(f"{failed_repeats} failed")
    return reasons


def _repeat_spread(repeat_medians: list[float], middle: float | None) -> float | None:
    if len(repeat_medians) < 2 or middle is None:
        return None
    width = max(repeat_medians) - min(repeat_medians)
    if width == 0:
        return 0.0
    return width / middle if middle > 0 else math.inf


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
