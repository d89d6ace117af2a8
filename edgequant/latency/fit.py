"""A pace fitted to the rows of a latency table.

A prompt takes ``fixed + linear * tokens`` seconds, and a term with the square of its tokens where a
straight line misses what was measured; a decoded token takes ``fixed + linear * depth``, where
depth is the tokens already in the cache (the form of EdgeReasoning, arXiv 2511.01866). Both are
fitted by least squares without negative coefficients. Where prompts and depths were measured, what
was measured stands; the fit speaks for what lies outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgequant.core.errors import DataFrameError
from edgequant.latency.curve import Curve, Trend, curve_through, fit_trend
from edgequant.latency.pace import SOURCES, FitErrors, LatencySource, Pace
from edgequant.latency.statistics import LatencySummary, median, rows_by_quantization, summarize

if TYPE_CHECKING:
    import pandas as pd

STRAIGHT = 0.02
"""A line through the prompts' times that misses none by more than this is straight enough."""

Points = dict[int, float]
"""A number of tokens to the median seconds there, rising."""
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Fitted:
    """What rows say of prompts and tokens: the curves of a :class:`Pace`."""

    prefill: Curve
    decode: Curve
    first_step_seconds: float
    errors: FitErrors


def fit_paces(frame: pd.DataFrame) -> list[Pace]:
    """The pace of each quantization that has times; the others are left out.

    Args:
        frame: a latency table.

    Raises:
        DataFrameError: a quantization has no prompt's time, or no known source.
    """
    rows = rows_by_quantization(frame)
    return [
        fit_pace(summary, rows[summary.quantization])
        for summary in summarize(frame)
        if summary.median_seconds is not None
    ]


def fit_pace(summary: LatencySummary, rows: Sequence[_Row]) -> Pace:
    """The pace that a measurement gives.

    Args:
        summary: of the rows.
        rows: of one quantization.

    Raises:
        DataFrameError: there are no times (every run failed), or no known source.
    """
    if summary.median_seconds is None or summary.prefill_seconds_per_token is None:
        raise DataFrameError(
            f"no times of {summary.quantization}: {summary.error or 'no tokens were decoded'}",
            next_step="edgequant measure --force with at least 2 tokens",
        )
    if summary.median_seconds <= 0:
        raise DataFrameError(
            f"a token of {summary.quantization} takes no time at all: no clock ran, or one that is "
            "too coarse for it"
        )
    fitted = fit_rows(rows)
    notes = []
    if not summary.reliable:
        notes.append(f"UNRELIABLE: {summary.unreliable_because}")
    notes.append(_rests_on(fitted.errors))
    return Pace(
        quantization=summary.quantization,
        source=_source(summary),
        decode_seconds=summary.median_seconds,
        prefill_seconds_per_token=summary.prefill_seconds_per_token,
        note="; ".join(notes),
        prefill=fitted.prefill,
        decode=fitted.decode,
        first_step_seconds=fitted.first_step_seconds,
        pass_seconds=float(fitted.decode.at(0.0)),
        errors=fitted.errors,
    )


def _rests_on(errors: FitErrors) -> str:
    lengths = ", ".join(map(str, errors.prompt_tokens))
    if len(errors.prompt_tokens) == 1:
        return (
            f"one prompt length alone, {lengths} tokens: others are on the line from there to "
            "one token in the time of a decode step"
        )
    text = f"fitted to prompts of {lengths} tokens"
    if errors.depths is not None:
        text += f" and depths from {errors.depths[0]} to {errors.depths[1]}"
    held_out = [
        f"{100 * error:.2g} % for {what}"
        for error, what in (
            (errors.prefill_held_out, "a prompt"),
            (errors.decode_held_out, "a token"),
        )
        if error is not None
    ]
    return f"{text}; error on lengths held out {', '.join(held_out)}" if held_out else text


def fit_rows(rows: Sequence[_Row]) -> Fitted:
    """The curves through the rows of one quantization, which has prompts and decoded tokens.

    Raises:
        DataFrameError: a time is negative or not a number.
    """
    prompts, depths = _prompts(rows), _depths(rows)
    decode = decode_curve(depths)
    change = _first_step(rows, decode)
    step = float(decode.at(0.0)) + change
    prefill = prefill_curve(prompts, step)
    errors = FitErrors(
        prompt_tokens=tuple(prompts),
        depths=(min(depths), max(depths)),
        prefill_fit=_off(prefill.trend, prompts),
        decode_fit=_off(decode.trend, depths),
        prefill_held_out=_prefill_held_out(prompts, step),
        decode_held_out=_decode_held_out(rows, [*prompts]),
    )
    return Fitted(prefill, decode, change, errors)


def prefill_curve(prompts: Points, step_seconds: float) -> Curve:
    """Seconds of a prompt over its tokens.

    Args:
        prompts: what was measured; not empty.
        step_seconds: of a first step without anything in the cache. A single prompt does not tell
            what prompts of other lengths take: then one of one token is taken to take this.
    """
    tokens, seconds = [*prompts], [*prompts.values()]
    if len(tokens) == 1:
        trend = _line((1, min(step_seconds, seconds[0])), (tokens[0], seconds[0]))
        return Curve(trend, (float(tokens[0]),), (seconds[0],))
    trend = fit_trend(tokens, seconds, 1)
    missed = np.abs(trend.at(np.array(tokens, dtype=np.float64)) / seconds - 1)
    if np.max(missed) > STRAIGHT:
        trend = fit_trend(tokens, seconds, 2)
    return curve_through(trend, tokens, seconds)


def decode_curve(depths: Points) -> Curve:
    """Seconds of a decoded token over the tokens in the cache; ``depths`` is not empty."""
    tokens, seconds = [*depths], [*depths.values()]
    return curve_through(fit_trend(tokens, seconds, 1), tokens, seconds)


def _source(summary: LatencySummary) -> LatencySource:
    source = next((s for s in SOURCES if s == summary.latency_source), None)
    if source is None:
        raise DataFrameError(
            f"latency_source of {summary.quantization} is {summary.latency_source!r}, "
            f"none of {', '.join(SOURCES)}"
        )
    return source


def _line(first: tuple[float, float], second: tuple[float, float]) -> Trend:
    """Through two points, of which the second lies right of the first or is the first."""
    (x, low), (end, high) = first, second
    slope = (high - low) / (end - x) if end > x else 0.0
    return Trend(max(low - slope * x, 0.0), slope)


def _prompts(rows: Sequence[_Row]) -> Points:
    """Prompt tokens to the time of the first token."""
    prefill = (row for row in rows if row["phase"] == "prefill" and not row["failed"])
    return _medians(
        (row["prompt_tokens"], row["seconds"]) for row in prefill if row["prompt_tokens"]
    )


def _depths(rows: Sequence[_Row]) -> Points:
    """Tokens in the cache to the time of one more.

    Without the first step after the prompt, which is dearer at any depth, where there are others.
    """
    decode = [row for row in rows if row["phase"] == "decode" and not row["failed"]]
    further = [row for row in decode if row["index"] != 1]
    return _medians((_depth(row), row["seconds"]) for row in further or decode)


def _depth(row: _Row) -> int:
    """Tokens in the cache: the prompt, and those that were decoded before; where known."""
    return int((row["prompt_tokens"] or 0) + (row["index"] or 1) - 1)


def _first_step(rows: Sequence[_Row], decode: Curve) -> float:
    """What the first step after a prompt takes more than the curve says."""
    first = [row for row in rows if row["phase"] == "decode" and row["index"] == 1]
    more = [
        row["seconds"] - float(decode.at(_depth(row)))
        for row in first
        if not row["failed"] and row["seconds"] is not None
    ]
    return max(median(more), 0.0) if more else 0.0


def _medians(pairs: Iterable[tuple[int, float | None]]) -> Points:
    found: dict[int, list[float]] = {}
    for tokens, seconds in pairs:
        if seconds is None:
            continue
        if not math.isfinite(seconds) or seconds < 0:
            raise DataFrameError(f"a time is {seconds} s: negative or not a number")
        found.setdefault(tokens, []).append(seconds)
    return {tokens: median(found[tokens]) for tokens in sorted(found)}


def _prefill_held_out(prompts: Points, step_seconds: float) -> float | None:
    """None with fewer than three lengths: two others are the least that a line needs."""
    if len(prompts) < 3:
        return None
    errors = []
    for length, seconds in prompts.items():
        others = {tokens: value for tokens, value in prompts.items() if tokens != length}
        errors.append(_off(prefill_curve(others, step_seconds), {length: seconds}))
    return float(np.mean(errors))


def _decode_held_out(rows: Sequence[_Row], lengths: Sequence[int]) -> float | None:
    """None with fewer than two lengths; each length counts alike, however many tokens it has."""
    errors = []
    for length in lengths:
        left_out = _depths([row for row in rows if row["prompt_tokens"] == length])
        others = _depths([row for row in rows if row["prompt_tokens"] != length])
        if left_out and others:
            errors.append(_off(decode_curve(others), left_out))
    return float(np.mean(errors)) if len(errors) > 1 else None


def _off(expected: Trend | Curve, measured: Points) -> float:
    """The mean absolute error in parts of what was measured."""
    tokens = np.array([*measured], dtype=np.float64)
    seconds = np.array([*measured.values()], dtype=np.float64)
    timed = seconds > 0
    if not np.any(timed):
        return 0.0
    return float(np.mean(np.abs(expected.at(tokens)[timed] / seconds[timed] - 1)))
