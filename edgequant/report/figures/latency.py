"""The share of tokens that were generated within a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgequant.core.tables import records
from edgequant.report.clocks import label
from edgequant.report.figures.canvas import Canvas, handle, of, present
from edgequant.report.figures.figure import Figure
from edgequant.report.style import PAPER, SeriesStyle, duration

if TYPE_CHECKING:
    import pandas as pd


def latency_figures(
    latency: pd.DataFrame, styles: Mapping[str, SeriesStyle], source: str
) -> Iterator[Figure]:
    """One figure of all quantizations; none where nothing was decoded."""
    columns = [c for c in ("quantization", "repeat", "index", "seconds") if c in latency.columns]
    decode = [
        row
        for row in records(latency[[*columns, "phase"]])
        if row["phase"] == "decode" and row["seconds"] is not None
    ]
    names = present(decode, styles)
    if not names:
        return
    values = {name: np.sort([float(r["seconds"]) for r in of(decode, name)]) for name in names}
    axis = f"Seconds per decoded token ({label(source).lower()})"
    yield Figure(
        name="latency",
        group="latency",
        title="Share of tokens decoded within a time; the mark is the median",
        description="; ".join(
            f"{name}: half of its tokens within {duration(float(np.median(own)))}, nine tenths "
            f"within {duration(float(np.quantile(own, 0.9)))}"
            for name, own in values.items()
        )
        + ".",
        svg=_paint(values, styles, axis),
        columns=columns,
        rows=decode,
    )


def _paint(
    values: Mapping[str, np.ndarray[tuple[int], np.dtype[np.float64]]],
    styles: Mapping[str, SeriesStyle],
    axis: str,
) -> str:
    handles = [
        handle(f"{name} {duration(float(np.median(own)))}", styles[name])
        for name, own in values.items()
    ]
    canvas = Canvas([h.get_label() for h in handles])
    low, high = math.inf, 0.0
    for name, own in values.items():
        style, median = styles[name], float(np.median(own))
        shares = np.arange(1, len(own) + 1) / len(own)
        canvas.axes.step(
            np.concatenate([own[:1], own]), np.concatenate([[0], shares]), where="post",
            color=style.colour, linestyle=style.dash, linewidth=1.8,
        )  # fmt: skip
        canvas.axes.plot(
            [median], [0.5], marker=style.marker, color=style.colour, markersize=6, zorder=4,
            markeredgecolor=PAPER, markeredgewidth=0.8,
        )  # fmt: skip
        low, high = min(low, float(own[0])), max(high, float(np.quantile(own, 0.995)))
    canvas.percent_axis(1.0)
    pad = max(1.08, (high / low) ** 0.04)
    canvas.seconds_axis(low / pad, high * pad)
    canvas.axes.set_xlabel(axis)
    canvas.legend(handles)
    return canvas.svg()
