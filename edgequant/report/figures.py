"""The report's figures: each one SVG and the CSV of the same data."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgequant.answers.strategies.registry import strategies
from edgequant.answers.strategies.stated import NAME as STATED
from edgequant.answers.strategies.truncate import NAME as TRUNCATE
from edgequant.core.errors import ToolMissingError
from edgequant.core.schemas import MATCHED
from edgequant.latency.statistics import at_measured_prompt, rows_by_quantization
from edgequant.matching.match import ANY_PROMPT
from edgequant.report.style import (
    GRID,
    INK,
    MUTED,
    PAPER,
    SOURCE_LABELS,
    SeriesStyle,
    duration,
    tick_duration,
)
from edgequant.report.words import Row, crossovers_at_the_top

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

SIZE_INCHES = (5.4, 3.9)
_LEGEND_COLUMNS = 5
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SECOND_TICKS = [m * 10.0**e for e in range(-6, 2) for m in (1, 2, 5) if m * 10.0**e < 60] + [
    60.0 * minutes for minutes in (1, 2, 5, 10, 20, 60, 120, 300, 600, 1440, 2880, 7200, 14400)
]
_RC: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgequant",
    "font.family": "DejaVu Sans",
    "font.size": 9,
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
class Figure:
    """One figure.

    Attributes:
        name: of its files, without suffix.
        group: which section of the page it belongs to.
        title: what it shows, one line.
        description: what a reader who cannot see it needs to know.
        svg: a whole SVG file.
        columns: of what was drawn.
        rows: what was drawn, as plain values; a row may hold more than the columns.
    """

    name: str
    group: str
    title: str
    description: str
    svg: str
    columns: Sequence[str]
    rows: Sequence[Row]

    def inline(self) -> str:
        """The SVG for inside the page: its inks follow the page's theme, its ids are its own."""
        body = self.svg[self.svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
        body = re.sub(r'\bid="', f'id="{self.name}-', body)
        body = body.replace("url(#", f"url(#{self.name}-").replace(
            'href="#', f'href="#{self.name}-'
        )
        for colour, variable in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid"), (PAPER, "paper")):
            body = body.replace(colour, f"var(--{variable})")
        label = (self.description or self.title).replace("&", "&amp;").replace('"', "&quot;")
        label = label.replace("<", "&lt;")
        return re.sub(
            r"<svg\b[^>]*?(viewBox=\"[^\"]*\")[^>]*>",
            rf'<svg \1 xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}">',
            body,
            count=1,
            flags=re.DOTALL,
        )


def draw_figures(
    matched: Sequence[Row],
    crossovers: Sequence[Row],
    latency: pd.DataFrame,
    styles: Mapping[str, SeriesStyle],
    latency_source: str,
) -> list[Figure]:
    """Draw all figures of a report.

    Args:
        matched: rows of accuracy against seconds, see :data:`edgequant.core.schemas.MATCHED`.
        crossovers: rows, see :data:`edgequant.core.schemas.CROSSOVERS`.
        latency: one row for each token.
        styles: one for each quantization, in the order of the legends.
        latency_source: label of the latency rows.

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
        return [
            *_latency_figures(latency, styles, latency_source),
            *_token_figures(matched, styles),
            *_stated_figures(matched, styles),
            *_second_figures(matched, crossovers, styles),
        ]


def _axes(*, legend_rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as MplFigure

    figure = MplFigure(figsize=SIZE_INCHES)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0.105, 0.125, 0.87, 0.78 - 0.05 * (legend_rows - 1)))
    axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "edgequant"})
    return stream.getvalue().replace("'DejaVu Sans'", _FONTS)


def _legend_rows(entries: int) -> int:
    return max(1, math.ceil(entries / _LEGEND_COLUMNS))


def _legend(figure: Any, handles: Sequence[Any]) -> None:
    """Above the plot: there it covers no data."""
    rows = _legend_rows(len(handles))
    columns = math.ceil(len(handles) / rows)
    # The legend fills columns; people read rows.
    handles = [h for column in range(columns) for h in handles[column::columns]]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.09, 1.0),
        ncols=columns,
        fontsize=8.5,
        handlelength=1.5,
        columnspacing=1.0,
        handletextpad=0.4,
        borderaxespad=0.2,
    )


def _handle(label: str, style: SeriesStyle, *, marker: bool = True) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle=style.dash,
        linewidth=2,
        marker=style.marker if marker else "",
        markersize=4.5,
        label=label,
    )


def _stated_handle() -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=MUTED, marker="o", linestyle="", markerfacecolor=PAPER, label="budget stated"
    )


def _percent_axis(axes: Any, top: float) -> None:
    """From 0 to just above the highest interval: a cut axis would exaggerate differences."""
    limit = min(1.0, math.ceil(max(top, 0.1) * 10 + 0.2) / 10)
    axes.set_ylim(0, limit * 1.02)
    ticks = np.arange(0, limit + 1e-9, 0.1 if limit <= 0.6 else 0.2)
    axes.set_yticks(ticks, [f"{t * 100:.0f} %" for t in ticks])


def _log_axis(axes: Any, low: float, high: float, ticks: Sequence[float], texts: Any) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    shown = [t for t in ticks if low <= t <= high]
    # As many labels as fit on a phone.
    step = max(1, math.ceil(len(shown) / 7))
    shown = shown[(len(shown) - 1) % step :: step]
    axes.set_xticks(shown, [texts(t) for t in shown])
    axes.minorticks_off()


def _seconds_axis(axes: Any, low: float, high: float) -> None:
    _log_axis(axes, low, high, _SECOND_TICKS, tick_duration)


def _latency_figures(
    latency: pd.DataFrame, styles: Mapping[str, SeriesStyle], source: str
) -> Iterator[Figure]:
    """The share of tokens that were generated within a time."""
    columns = [c for c in ("quantization", "repeat", "index", "seconds") if c in latency.columns]
    decode = [
        row
        for rows in rows_by_quantization(latency).values()
        for row in at_measured_prompt(rows)
        if row["phase"] == "decode" and row["seconds"] is not None
    ]
    present = _present(decode, styles)
    if not present:
        return
    figure, axes = _axes(legend_rows=_legend_rows(len(present)))
    handles, low, high = [], math.inf, 0.0
    for name in present:
        values = np.sort(_floats(_of(decode, name), "seconds"))
        shares = np.arange(1, len(values) + 1) / len(values)
        style = styles[name]
        axes.step(
            np.concatenate([values[:1], values]),
            np.concatenate([[0], shares]),
            where="post",
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.8,
        )
        median = float(np.median(values))
        axes.plot(
            [median], [0.5], marker=style.marker, color=style.colour, markersize=6, zorder=4,
            markeredgecolor=PAPER, markeredgewidth=0.8,
        )  # fmt: skip
        handles.append(_handle(f"{name}  {duration(median)}", style))
        low, high = min(low, float(values[0])), max(high, float(np.quantile(values, 0.995)))
    _percent_axis(axes, 1.0)
    pad = max(1.08, (high / low) ** 0.04)
    _fine_seconds_axis(axes, low / pad, high * pad)
    axes.set_xlabel(f"Seconds per decoded token ({SOURCE_LABELS.get(source, source).lower()})")
    axes.set_ylabel("")
    _legend(figure, handles)
    yield Figure(
        name="latency",
        group="latency",
        title="Share of tokens decoded within a time; the mark is the median",
        description="Distribution of the seconds per decoded token of each quantization.",
        svg=_svg(figure),
        columns=columns,
        rows=decode,
    )


def _fine_seconds_axis(axes: Any, low: float, high: float) -> None:
    """A narrow range needs more than 1, 2 and 5."""
    if high / low > 8:
        _seconds_axis(axes, low, high)
        return
    raw = (high - low) / 6
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw) * magnitude
    ticks = np.arange(math.ceil(low / step) * step, high, step)
    _log_axis(axes, low, high, [float(f"{t:.6g}") for t in ticks], tick_duration)


_ACCURACY_COLUMNS = [c for c in MATCHED.columns if c not in ("seconds", "latency_source")]


def _one_source(matched: Sequence[Row]) -> list[Row]:
    """Rows of each budget once: accuracy does not depend on where seconds come from."""
    # Strategies in the order of their registry, as matching has them; "no limit" comes last.
    order = {name: place for place, name in enumerate(strategies())}
    once: dict[tuple[str, str, int, float], Row] = {}
    for row in matched:
        budget = math.inf if row["budget_tokens"] is None else row["budget_tokens"]
        key = (row["quantization"], row["prompt"], order.get(row["strategy"], len(order)), budget)
        once.setdefault(key, row)
    return [once[key] for key in sorted(once)]


def _token_figures(matched: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    rows = _one_source(matched)
    for prompt in sorted({row["prompt"] for row in rows}):
        data = [row for row in rows if row["prompt"] == prompt]
        svg = _accuracy_svg(
            # "No limit" is the last budget's accuracy over again.
            [row for row in data if row["budget_tokens"] is not None],
            styles,
            x="budget_tokens",
            label="Token budget",
            seconds=False,
        )
        yield Figure(
            name=f"accuracy-tokens-{_slug(prompt)}",
            group="tokens",
            title=f"Prompt “{prompt}”: accuracy within a token budget",
            description=f"Accuracy against the token budget for the prompt {prompt}, one line for "
            "each quantization, with 95 % intervals.",
            svg=svg,
            columns=_ACCURACY_COLUMNS,
            rows=data,
        )


def _second_figures(
    matched: Sequence[Row], crossovers: Sequence[Row], styles: Mapping[str, SeriesStyle]
) -> Iterator[Figure]:
    for source in dict.fromkeys(row["latency_source"] for row in matched):
        of_source = [row for row in matched if row["latency_source"] == source]
        marks = [r for r in crossovers if r["latency_source"] == source and r["confident"]]
        label = SOURCE_LABELS.get(source, source)
        axis = f"Seconds for an answer ({label.lower()})"
        envelope = best_within_time(of_source)
        yield Figure(
            name=f"best-seconds-{_slug(source)}",
            group=f"best-{source}",
            title="Best accuracy within a time",
            description="Best accuracy within a time limit over all prompts and budgets, one line "
            f"for each quantization, {label}.",
            svg=_envelope_svg(
                envelope,
                crossovers_at_the_top([m for m in marks if m["prompt"] == ANY_PROMPT], of_source),
                styles,
                axis,
            ),
            columns=list(MATCHED.columns),
            rows=envelope,
        )
        for prompt in sorted({row["prompt"] for row in of_source}):
            data = [row for row in of_source if row["prompt"] == prompt]
            yield Figure(
                name=f"accuracy-seconds-{_slug(source)}-{_slug(prompt)}",
                group=f"seconds-{source}",
                title=f"Prompt “{prompt}”: accuracy against seconds",
                description=f"Accuracy against the seconds of an answer for the prompt {prompt}, "
                f"one line for each quantization, with 95 % intervals, {label}.",
                svg=_accuracy_svg(
                    data,
                    styles,
                    x="seconds",
                    label=axis,
                    seconds=True,
                    marks=crossovers_at_the_top(
                        [m for m in _truncated(marks) if m["prompt"] == prompt],
                        _truncated(data),
                    ),
                ),
                columns=list(MATCHED.columns),
                rows=data,
            )


def best_within_time(matched: Sequence[Row]) -> list[Row]:
    """For each quantization the choices that beat every quicker one, by seconds."""
    best: list[Row] = []
    so_far: dict[str, float] = {}
    for row in sorted(matched, key=lambda r: (r["quantization"], r["seconds"], -r["accuracy"])):
        if row["accuracy"] > so_far.get(row["quantization"], 0.0):
            so_far[row["quantization"]] = row["accuracy"]
            best.append(row)
    return best


def _present(rows: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> list[str]:
    """The quantizations of the rows, in the order of the legends."""
    names = {row["quantization"] for row in rows}
    return [name for name in styles if name in names]


def _of(rows: Sequence[Row], quantization: str) -> list[Row]:
    return [row for row in rows if row["quantization"] == quantization]


def _truncated(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["strategy"] == TRUNCATE]


def _accuracy_svg(
    data: Sequence[Row],
    styles: Mapping[str, SeriesStyle],
    *,
    x: str,
    label: str,
    seconds: bool,
    marks: Sequence[Row] | None = None,
) -> str:
    present = _present(data, styles)
    told = [row for row in data if row["strategy"] != TRUNCATE]
    figure, axes = _axes(legend_rows=_legend_rows(len(present) + (len(told) > 0)))
    for name in present:
        style = styles[name]
        line = sorted(_of(_truncated(data), name), key=lambda row: row[x])
        places, accuracy = _floats(line, x), _floats(line, "accuracy")
        _band(axes, line, places, style)
        axes.plot(places, accuracy, color=style.colour, linestyle=style.dash, linewidth=1.8)
        if line:
            axes.plot(
                places[-1:], accuracy[-1:], color=style.colour, marker=style.marker, markersize=5
            )
        points = _of(told, name)
        _points(axes, points, _floats(points, x), style, hollow=True)
    low = _smallest([r[x] for r in data if r["accuracy"] > 0] or [r[x] for r in data])
    high = float(max(row[x] for row in data))
    if seconds:
        _seconds_axis(axes, low / 1.25, high * 1.12)
    else:
        _log_axis(axes, low / 1.25, high * 1.12, [2.0**k for k in range(16)], lambda t: f"{t:.0f}")
    _percent_axis(axes, _highest(data))
    axes.set_xlabel(label)
    if marks is not None:
        _mark_crossovers(axes, marks)
    handles = [_handle(q, styles[q]) for q in present]
    _legend(figure, [*handles, _stated_handle()] if told else handles)
    return _svg(figure)


def _smallest(values: Sequence[float]) -> float:
    return float(min((value for value in values if value > 0), default=1.0))


def _highest(rows: Sequence[Row]) -> float:
    """The upper end of the highest interval."""
    return float(max(row["accuracy_high"] for row in rows))


def _floats(rows: Sequence[Row], column: str) -> npt.NDArray[np.float64]:
    return np.array([row[column] for row in rows], dtype=np.float64)


def _band(
    axes: Any, line: Sequence[Row], x: Any, style: SeriesStyle, step: str | None = None
) -> None:
    axes.fill_between(
        x, _floats(line, "accuracy_low"), _floats(line, "accuracy_high"),
        color=style.colour, alpha=0.13, linewidth=0, step=step,
    )  # fmt: skip


def _points(axes: Any, rows: Sequence[Row], x: Any, style: SeriesStyle, *, hollow: bool) -> None:
    if not rows:
        return
    accuracy = _floats(rows, "accuracy")
    errors = np.stack(
        [accuracy - _floats(rows, "accuracy_low"), _floats(rows, "accuracy_high") - accuracy]
    )
    axes.errorbar(
        x, accuracy, yerr=np.maximum(errors, 0), fmt=style.marker, color=style.colour, markersize=5,
        markerfacecolor=PAPER if hollow else style.colour, markeredgewidth=1.3, elinewidth=0.9,
        zorder=3,
    )  # fmt: skip


def _envelope_svg(
    envelope: Sequence[Row], marks: Sequence[Row], styles: Mapping[str, SeriesStyle], label: str
) -> str:
    present = _present(envelope, styles)
    figure, axes = _axes(legend_rows=_legend_rows(len(present)))
    if not present:
        axes.text(0.5, 0.5, "no right answer", transform=axes.transAxes, ha="center")
        return _svg(figure)
    seconds = [row["seconds"] for row in envelope]
    low, high = min(seconds) / 1.25, max(seconds) * 1.5
    low = low if low > 0 else high / 1000
    for name in present:
        rows = _of(envelope, name)
        # What the last choice reaches, it also reaches with more time.
        line, x = [*rows, rows[-1]], [*_floats(rows, "seconds"), high]
        style = styles[name]
        _band(axes, line, x, style, step="post")
        axes.step(
            x, _floats(line, "accuracy"), where="post", color=style.colour,
            linestyle=style.dash, linewidth=2,
        )  # fmt: skip
    _seconds_axis(axes, low, high)
    _percent_axis(axes, _highest(envelope))
    axes.set_xlabel(label)
    _mark_crossovers(axes, marks)
    _legend(figure, [_handle(q, styles[q], marker=False) for q in present])
    return _svg(figure)


def _mark_crossovers(axes: Any, marks: Sequence[Row]) -> None:
    """A line where a lead changes hands beyond chance, its 95 % interval in grey."""
    shown = sorted(marks, key=lambda mark: mark["seconds"])[:4]
    if not shown:
        return
    # Room above the data for the labels.
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * (1 + 0.075 * len(shown)))
    for index, mark in enumerate(shown):
        axes.axvspan(mark["seconds_low"], mark["seconds_high"], color=MUTED, alpha=0.13, lw=0)
        height = 0.985 - 0.062 * index
        axes.axvline(mark["seconds"], ymax=height, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        on_right = _position(axes, mark["seconds"]) < 0.62
        axes.annotate(
            f"{mark['first_quantization']} → {mark['second_quantization']}, "
            f"{duration(mark['seconds'])}",
            xy=(mark["seconds"], height),
            xycoords=("data", "axes fraction"),
            xytext=(4 if on_right else -4, 0),
            textcoords="offset points",
            ha="left" if on_right else "right",
            va="top",
            fontsize=8,
            color=INK,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
        )


def _position(axes: Any, seconds: float) -> float:
    low, high = (math.log(v) for v in axes.get_xlim())
    return (math.log(max(seconds, 1e-12)) - low) / (high - low)


def _stated_figures(matched: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """The same budget, told to the model or only cut."""
    rows = [
        row
        for row in _one_source(matched)
        if row["budget_tokens"] is not None and row["strategy"] in (TRUNCATE, STATED)
    ]
    stated = [row for row in rows if row["strategy"] == STATED]
    for prompt in sorted({row["prompt"] for row in stated}):
        budgets = sorted({row["budget_tokens"] for row in stated if row["prompt"] == prompt})
        data = [r for r in rows if r["prompt"] == prompt and r["budget_tokens"] in budgets]
        present = _present(data, styles)
        figure, axes = _axes(legend_rows=_legend_rows(len(present) + 1))
        for index, name in enumerate(present):
            style = styles[name]
            offset = (index - (len(present) - 1) / 2) * 0.75 / max(len(present), 2)
            both = {
                strategy: {
                    r["budget_tokens"]: r for r in _of(data, name) if r["strategy"] == strategy
                }
                for strategy in (TRUNCATE, STATED)
            }
            for place, budget in enumerate(budgets):
                pair = [told[budget]["accuracy"] for told in both.values() if budget in told]
                if len(pair) == 2:
                    axes.plot(
                        [place + offset - 0.04, place + offset + 0.04],
                        pair,
                        color=style.colour, linewidth=1.4, alpha=0.6,
                    )  # fmt: skip
            for strategy, shift in ((TRUNCATE, -0.04), (STATED, 0.04)):
                points = both[strategy]
                x = [budgets.index(budget) + offset + shift for budget in points]
                _points(axes, list(points.values()), x, style, hollow=strategy == STATED)
        axes.set_xticks(range(len(budgets)), [str(b) for b in budgets])
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("Token budget")
        _percent_axis(axes, _highest(data))
        _legend(figure, [*(_handle(q, styles[q]) for q in present), _stated_handle()])
        yield Figure(
            name=f"stated-{_slug(prompt)}",
            group="stated",
            title=f"Prompt “{prompt}”: the budget only cut (filled) or also told (hollow)",
            description=f"Accuracy at a budget with and without telling the model: {prompt}.",
            svg=_svg(figure),
            columns=_ACCURACY_COLUMNS,
            rows=data,
        )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
