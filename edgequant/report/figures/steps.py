"""Accuracy over time as steps: the best of several configurations, and what a line needs. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
COLUMNS_DRAWN = 160
"""A line is drawn at so many places at most; the CSV beside it has every step."""


def envelope(steps: Sequence[Row]) -> list[Row]:
    """The steps of the best accuracy within each time.

    Args:
        steps: rows of accuracy against seconds, of any configurations of one quantization.

    Returns:
        Rows by rising seconds: at ``seconds``, the configuration named is the best one from there
        until the next row. Only where the accuracy changes.
    """
    current: dict[tuple[object, ...], Row] = {}
    best: list[Row] = []
    ordered = sorted(steps, key=lambda row: float(row["seconds"]))
    for place, row in enumerate(ordered):
        current[row["prompt"], row["strategy"], row["budget_tokens"]] = row
        if place + 1 < len(ordered) and ordered[place + 1]["seconds"] == row["seconds"]:
            continue
        top = max(current.values(), key=lambda r: float(r["accuracy"]))
        if top["accuracy"] != (best[-1]["accuracy"] if best else 0.0):
            best.append({**top, "seconds": row["seconds"]})
    return best


def thinned(steps: Sequence[Row], low: float, high: float) -> list[Row]:
    """The last step of each of :data:`COLUMNS_DRAWN` columns of a logarithmic axis."""
    if len(steps) <= COLUMNS_DRAWN:
        return list(steps)
    last: dict[int, Row] = {}
    for row in steps:
        share = math.log(max(row["seconds"], low) / low) / math.log(high / low)
        last[int(share * COLUMNS_DRAWN)] = row
    return list(last.values())


def accuracy_at(steps: Sequence[Row], seconds: float) -> float:
    """The accuracy within a time; ``steps`` by rising seconds."""
    place = bisect_right(steps, seconds, key=lambda row: float(row["seconds"]))
    return float(steps[place - 1]["accuracy"]) if place else 0.0


def telling_times(lines: Iterable[Sequence[Row]], count: int = 5) -> list[float]:
    """Times between which the lines have equally many steps, the last step's at the end."""
    every = sorted(row["seconds"] for line in lines for row in line)
    return [every[math.ceil(len(every) * k / count) - 1] for k in range(1, count + 1)]
