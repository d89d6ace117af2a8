"""What all figures are drawn with: sizes, axes, legends. The only place that knows matplotlib."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgequant.core.errors import ToolMissingError
from edgequant.report.style import GRID, INK, MUTED, PAPER, SeriesStyle, rounded, tick_duration

WIDTH, HEIGHT = 286, 240
"""In points (1/72 inch), which are the SVG's units. Shown 318 pixels wide or more, which is what a
phone leaves of 390, text of :data:`FONT` is never smaller than 11 pixels."""
FONT = 10
CHARACTER = FONT * 0.62
"""Width of a character, about."""
TICKS = 5
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SECOND_TICKS = [m * 10.0**e for e in range(-6, 2) for m in (1, 2, 5) if m * 10.0**e < 50] + [
    60.0 * minutes for minutes in (1, 2, 5, 10, 20, 60, 120, 300, 600, 1440, 2880, 7200, 14400)
]
_RC: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgequant",
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


class Canvas:
    """One drawing in the making: a plot with its legend above it, where it covers no data."""

    def __init__(self, legend: Sequence[str] = (), *, left: float = CHARACTER * 6 + 4) -> None:
        """Make room.

        Args:
            legend: the entries that :meth:`legend` will show.
            left: of the plot, in points, for its labels.
        """
        from matplotlib.figure import Figure as MplFigure

        self.figure = MplFigure(figsize=(WIDTH / 72, HEIGHT / 72))
        self.figure.patch.set_alpha(0)
        rows = len(self._legend_lines(legend))
        bottom, top = FONT * 3.7, rows * FONT * 1.55 + 8
        self.axes = self.figure.add_axes(
            (
                left / WIDTH,
                bottom / HEIGHT,
                (WIDTH - left - 9) / WIDTH,
                (HEIGHT - bottom - top) / HEIGHT,
            )
        )
        self.axes.patch.set_alpha(0)

    def _legend_lines(self, labels: Sequence[str]) -> list[Sequence[str]]:
        if not labels:
            return []
        entry = max(map(len, labels)) * CHARACTER + FONT * 3.2
        columns = max(1, int((WIDTH - 6) // entry))
        rows = math.ceil(len(labels) / columns)
        columns = math.ceil(len(labels) / rows)
        return [labels[start : start + columns] for start in range(0, len(labels), columns)]

    def legend(self, handles: Sequence[Any]) -> None:
        lines = self._legend_lines([handle.get_label() for handle in handles])
        if not lines:
            return
        columns = len(lines[0])
        # The legend fills columns; people read rows.
        ordered = [h for column in range(columns) for h in handles[column::columns]]
        self.figure.legend(
            handles=ordered,
            loc="upper left",
            bbox_to_anchor=(0.01, 1.0),
            ncols=columns,
            fontsize=FONT,
            handlelength=2.1,
            columnspacing=1.0,
            handletextpad=0.4,
            borderaxespad=0.1,
            labelspacing=0.3,
        )

    def svg(self) -> str:
        stream = io.StringIO()
        self.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "edgequant"})
        svg = stream.getvalue().replace("'DejaVu Sans'", _FONTS)
        # A hundredth of a point is more than a screen shows.
        return re.sub(r"(?<=\d\.\d\d)\d+(?=[\s\"])", "", svg)

    def percent_axis(self, top: float) -> None:
        """From 0 to just above the highest: a cut axis would exaggerate differences."""
        limit = min(1.0, math.ceil(max(top, 0.1) * 10 + 0.2) / 10)
        self.axes.set_ylim(0, limit * 1.03)
        ticks = np.arange(0, limit + 1e-9, 0.1 if limit <= 0.6 else 0.2)
        self.axes.set_yticks(ticks, [f"{rounded(float(t) * 100, 0)} %" for t in ticks])

    def log_axis(
        self, low: float, high: float, ticks: Sequence[float], texts: Callable[[float], str]
    ) -> None:
        self.axes.set_xscale("log")
        self.axes.set_xlim(low, high)
        shown = self._apart([t for t in ticks if low <= t <= high], texts)
        self.axes.set_xticks(shown, [texts(t) for t in shown])
        self.axes.minorticks_off()

    def seconds_axis(self, low: float, high: float) -> None:
        if high / low > 8:
            self.log_axis(low, high, _SECOND_TICKS, tick_duration)
            return
        # A narrow range needs more than 1, 2 and 5.
        raw = (high - low) / (TICKS - 1)
        magnitude = 10.0 ** math.floor(math.log10(raw))
        step = next(m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw) * magnitude
        ticks = np.arange(math.ceil(low / step) * step, high, step)
        self.log_axis(low, high, [float(f"{t:.6g}") for t in ticks], tick_duration)

    def _apart(self, ticks: Sequence[float], texts: Callable[[float], str]) -> list[float]:
        """Those of the ticks whose texts do not run into each other, from the right on."""
        width = WIDTH * self.axes.get_position().width
        kept: list[float] = []
        for tick in reversed(ticks):
            room = (len(texts(tick)) + 2) * CHARACTER / width
            if not kept or self.position(kept[-1]) - self.position(tick) >= room:
                kept.append(tick)
        return kept[::-1]

    def position(self, x: float) -> float:
        """Place on a logarithmic axis, 0 to 1."""
        low, high = (math.log(v) for v in self.axes.get_xlim())
        return (math.log(max(x, 1e-12)) - low) / (high - low)


@contextmanager
def drawing_settings() -> Iterator[None]:
    """Our settings of matplotlib, and no other's.

    Raises:
        ToolMissingError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise ToolMissingError(
            "matplotlib is not installed", next_step='pip install "edgequant[report]"'
        ) from None
    mpl.use("svg")
    with mpl.rc_context(_RC):
        yield


def handle(label: str, style: SeriesStyle, *, line: bool = True, hollow: bool = False) -> Any:
    """A legend's entry: dash, mark and colour of a series."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=style.colour, linestyle=style.dash if line else "", linewidth=1.9,
        marker=style.marker, markersize=5, markerfacecolor=PAPER if hollow else style.colour,
        label=label,
    )  # fmt: skip


def plain_handle(label: str, *, hollow: bool) -> Any:
    """An entry for what is the same in all series: a filled or a hollow mark."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=MUTED, marker="o", linestyle="", markersize=5,
        markerfacecolor=PAPER if hollow else MUTED, label=label,
    )  # fmt: skip


def present(rows: Sequence[Mapping[str, Any]], styles: Mapping[str, SeriesStyle]) -> list[str]:
    """The quantizations of the rows, in the order of the legends."""
    found = {row["quantization"] for row in rows}
    return [name for name in styles if name in found]


def of(rows: Sequence[Mapping[str, Any]], quantization: str) -> list[Mapping[str, Any]]:
    """The rows of one quantization."""
    return [row for row in rows if row["quantization"] == quantization]
