"""Where the lead changes hands, in plain sentences: the page, its tables and the terminal agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgequant.matching.leads import ANY_PROMPT
from edgequant.report.advice import Row, names
from edgequant.report.style import duration, span, tick_duration
from edgequant.report.words import family_words

_SAME = 1 + 1e-9
"""Sums of the same seconds in another order differ by less than this factor."""


def sure_crossovers(crossovers: Iterable[Row], source: str) -> list[Row]:
    """The changes of lead of one source that are beyond chance."""
    return [r for r in crossovers if r["latency_source"] == source and r["confident"]]


def overall(crossovers: Iterable[Row]) -> list[Row]:
    """Those between the best of all prompts and strategies."""
    return [row for row in crossovers if row["prompt"] == ANY_PROMPT]


def describe_crossovers(crossovers: Sequence[Row], matched: Sequence[Row]) -> list[str]:
    """One sentence or two for each pair of quantizations, by the time of its last change.

    Args:
        crossovers: changes of lead that are beyond chance, of one source.
        matched: rows of accuracy against seconds of that source.
    """
    return [_pair_words(pair, matched) for pair in _pairs(crossovers)]


def place_words(row: Row, matched: Sequence[Row]) -> str:
    """Where the change lies: ``at 0.108 s (0.090 s to 0.120 s)``, ``between 21.5 and 23.2 min``.

    Args:
        row: of the table of crossovers.
        matched: rows of accuracy against seconds of its source: where both ends of the interval
            lie one step apart, nothing is known of the times between them.
    """
    low, high = row["seconds_low"], row["seconds_high"]
    steps = _steps(row, matched)
    if high <= low * _SAME:
        # All happens at one step; of the times since the step before, nothing is known.
        low = max((t for t in steps if t * _SAME < high), default=row["first_ahead_seconds"])
    if not any(low * _SAME < step and step * _SAME < high for step in steps):
        return f"between {span(low, high).replace(' to ', ' and ')}"
    return f"at {duration(row['seconds'])} ({span(low, high)})"


def at_the_top(crossovers: Sequence[Row], best: Sequence[Row]) -> list[Row]:
    """The changes after which no quantization is surely better than the new leader.

    Args:
        crossovers: of one source, each with the limit at which the new leader is surely ahead.
        best: rows of the table of best choices of that source.
    """
    able = {
        float(row["time_limit_seconds"]): {
            row["quantization"],
            *names(row["not_distinguishable_from"]),
        }
        for row in best
    }
    return [
        row
        for row in crossovers
        if row["second_quantization"] in able.get(float(row["second_ahead_seconds"]), ())
    ]


def pair_of(row: Row) -> frozenset[str]:
    """The two quantizations of a crossover, in no order."""
    return frozenset((row["first_quantization"], row["second_quantization"]))


def family(row: Row) -> str:
    """What a crossover compares: all prompts, or one with one way of asking."""
    if row["prompt"] == ANY_PROMPT:
        return "the best of all prompts"
    return f"“{row['prompt']}”, {family_words(row['strategy'])}"


def _pairs(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of each prompt, strategy and pair, by time; pairs in the order of their last change."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: float(row["seconds"])):
        groups.setdefault((row["prompt"], row["strategy"], pair_of(row)), []).append(row)
    return sorted(groups.values(), key=lambda members: float(members[-1]["seconds"]))


def _pair_words(pair: Sequence[Row], matched: Sequence[Row]) -> str:
    first, *later = pair
    text = (
        f"{first['first_quantization']} is surely ahead of {first['second_quantization']} at "
        f"{tick_duration(first['first_ahead_seconds'])}, {first['second_quantization']} "
        f"{_from(first, alone=not later)}; the change lies {place_words(first, matched)}."
    )
    for row in later:
        alone = row is later[-1]
        text += (
            f" Then {row['second_quantization']} is {_from(row, alone=alone)}; that change lies "
            f"{place_words(row, matched)}."
        )
    return text


def _from(row: Row, *, alone: bool) -> str:
    time = tick_duration(row["second_ahead_seconds"])
    return f"from {time} on" if alone else f"at {time}"


def _steps(row: Row, matched: Sequence[Row]) -> list[float]:
    """When the accuracies change that a crossover compares."""
    pair = pair_of(row)
    return [
        step["seconds"]
        for step in matched
        if step["quantization"] in pair
        and row["prompt"] in (ANY_PROMPT, step["prompt"])
        and row["strategy"] in (None, step["strategy"])
    ]
