"""What all figures are drawn with: sizes, axes, legends. The only place that knows matplotlib."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgequant.core.errors import ToolMissingError
from edgequant.report.style import GRID, INK, MUTED, PAPER, SeriesStyle, rounded, tick_duration

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SECOND_TICKS = [m * 10.0**e for e in range(-6, 2) for m in (1, 2, 5) if m * 10.0**e < 50] + [
    60.0 * minutes for minutes in (1, 2, 5, 10, 20, 60, 120, 300, 600, 1440, 2880, 7200, 14400)
]
_RC: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgequant",
    "font.family": "DejaVu Sans",
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


@dataclass(frozen=True)
class Size:
    """What a drawing is made for. Lengths in points (1/72 inch), which are the SVG's units.

    A wide drawing is shown at 400 pixels or more, a narrow one at 300 or more: so its text is
    never smaller than 11 pixels.
    """

    width: float
    height: float
    font: float
    ticks: int

    @property
    def character(self) -> float:
        """Width of a character, about."""
        return self.font * 0.62


WIDE = Size(width=360, height=262, font=10, ticks=7)
NARROW = Size(width=240, height=250, font=9, ticks=4)


@dataclass
class Canvas:
    """One drawing in the making."""

    size: Size
    left: float = 0.0
    bottom: float = 0.0
    figure: Any = field(init=False)
    axes: Any = field(init=False)

    def open(self, legend: Sequence[str] = (), *, left: float | None = None) -> None:
        """Make room for the legend's entries above the plot: there it covers no data."""
        from matplotlib.figure import Figure as MplFigure

        size = self.size
        self.figure = MplFigure(figsize=(size.width / 72, size.height / 72))
        self.figure.patch.set_alpha(0)
        rows = len(self._legend_lines(legend))
        left = size.character * 6 + 4 if left is None else left
        bottom, top = size.font * 3.7, rows * size.font * 1.55 + 8
        self.axes = self.figure.add_axes(
            (
                left / size.width,
                bottom / size.height,
                (size.width - left - 9) / size.width,
                (size.height - bottom - top) / size.height,
            )
        )
        self.axes.patch.set_alpha(0)

    def _legend_lines(self, labels: Sequence[str]) -> list[Sequence[str]]:
        if not labels:
            return []
        entry = max(map(len, labels)) * self.size.character + self.size.font * 3.2
        columns = max(1, int((self.size.width - 6) // entry))
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
            fontsize=self.size.font,
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
        shown = [t for t in ticks if low <= t <= high]
        step = max(1, math.ceil(len(shown) / self.size.ticks))
        shown = shown[(len(shown) - 1) % step :: step]
        self.axes.set_xticks(shown, [texts(t) for t in shown])
        self.axes.minorticks_off()

    def seconds_axis(self, low: float, high: float) -> None:
        if high / low > 8:
            self.log_axis(low, high, _SECOND_TICKS, tick_duration)
            return
        # A narrow range needs more than 1, 2 and 5.
        raw = (high - low) / (self.size.ticks - 1)
        magnitude = 10.0 ** math.floor(math.log10(raw))
        step = next(m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw) * magnitude
        ticks = np.arange(math.ceil(low / step) * step, high, step)
        self.log_axis(low, high, [float(f"{t:.6g}") for t in ticks], tick_duration)

    def position(self, x: float) -> float:
        """Place on a logarithmic axis, 0 to 1."""
        low, high = (math.log(v) for v in self.axes.get_xlim())
        return (math.log(max(x, 1e-12)) - low) / (high - low)


@dataclass(frozen=True)
class Drawing:
    """The same figure for both places."""

    svg: str
    narrow_svg: str


def draw(paint: Callable[[Canvas], None]) -> Drawing:
    """Paint for both sizes."""
    drawn = []
    for size in (WIDE, NARROW):
        with _settings(size.font):
            canvas = Canvas(size)
            paint(canvas)
            drawn.append(canvas.svg())
    return Drawing(*drawn)


@contextmanager
def _settings(font: float) -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context({**_RC, "font.size": font}):
        yield


def require_matplotlib() -> None:
    """Say what is missing before anything is drawn.

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
