"""Configurations that no other beats in everything: accuracy, seconds and bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One configuration's whole answers.

    Attributes:
        row: of the table of budgets, with nothing cut.
        bytes: of the quantization's file; None where it is unknown.
        kept: no other one is at least as accurate, as quick and as small, and better in one.
    """

    row: Row
    bytes: int | None
    kept: bool


def pareto(budgets: Sequence[Row], source: str, sizes: Mapping[str, int]) -> list[Point]:
    """The configurations of one latency source, by mean seconds.

    Args:
        budgets: rows of the table of budgets.
        source: the latency source.
        sizes: quantization to the bytes of its file.
    """
    whole = [r for r in budgets if r["latency_source"] == source and r["cut_tokens"] is None]
    costs = [_costs(row, sizes) for row in whole]
    points = [
        Point(row, sizes.get(row["quantization"]), not any(_beats(o, own) for o in costs))
        for row, own in zip(whole, costs, strict=True)
    ]
    return sorted(points, key=lambda p: (float(p.row["mean_seconds"]), -p.row["accuracy"]))


def _costs(row: Row, sizes: Mapping[str, int]) -> tuple[float, float, float]:
    return -row["accuracy"], row["mean_seconds"], sizes.get(row["quantization"], 0)


def _beats(other: tuple[float, ...], own: tuple[float, ...]) -> bool:
    return other != own and all(a <= b for a, b in zip(other, own, strict=True))
