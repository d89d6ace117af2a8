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
from edgequant.core.tables import records
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
from edgequant.report.words import crossovers_at_the_top

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
        data: what was drawn.
    """

    name: str
    group: str
    title: str
    description: str
    svg: str
    data: pd.DataFrame

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
    matched: pd.DataFrame,
    crossovers: pd.DataFrame,
    latency: pd.DataFrame,
    styles: Mapping[str, SeriesStyle],
    latency_source: str,
) -> list[Figure]:
    """Draw all figures of a report.

    Args:
        matched: accuracy against seconds, see :data:`edgequant.core.schemas.MATCHED`.
        crossovers: see :data:`edgequant.core.schemas.CROSSOVERS`.
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
    decode = latency[(latency["phase"] == "decode") & latency["seconds"].notna()]
    present = [q for q in styles if q in set(decode["quantization"].to_list())]
    if not present:
        return
    figure, axes = _axes(legend_rows=_legend_rows(len(present)))
    handles, low, high = [], math.inf, 0.0
    for name in present:
        values = np.sort(_floats(decode[decode["quantization"] == name]["seconds"]))
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
        data=decode[
            [c for c in ("quantization", "repeat", "index", "seconds") if c in decode.columns]
        ],
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


def _one_source(matched: pd.DataFrame) -> pd.DataFrame:
    """Rows of each budget once: accuracy does not depend on where seconds come from."""
    key = ["quantization", "prompt", "strategy", "budget_tokens"]
    once = matched.drop_duplicates(key, keep="first")
    # Strategies in the order of their registry, as matching has them.
    order = {name: place for place, name in enumerate(strategies())}
    return (
        once.assign(place=once["strategy"].map(order))
        .sort_values(["quantization", "prompt", "place", "budget_tokens"], na_position="last")
        .drop(columns="place")
    )


def _token_figures(matched: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    rows = _one_source(matched)
    for prompt in sorted(set(rows["prompt"].to_list())):
        data = rows[rows["prompt"] == prompt].drop(columns=["seconds", "latency_source"])
        # "No limit" is the last budget's accuracy over again.
        limited = data[data["budget_tokens"].notna()]
        svg = _accuracy_svg(
            limited.assign(x=limited["budget_tokens"]),
            styles,
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
            data=data,
        )


def _second_figures(
    matched: pd.DataFrame, crossovers: pd.DataFrame, styles: Mapping[str, SeriesStyle]
) -> Iterator[Figure]:
    for source in matched["latency_source"].unique():
        of_source = matched[matched["latency_source"] == source]
        marks = crossovers[(crossovers["latency_source"] == source) & crossovers["confident"]]
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
                crossovers_at_the_top(marks[marks["prompt"] == ANY_PROMPT], of_source),
                styles,
                axis,
            ),
            data=envelope,
        )
        for prompt in sorted(set(of_source["prompt"].to_list())):
            data = of_source[of_source["prompt"] == prompt]
            yield Figure(
                name=f"accuracy-seconds-{_slug(source)}-{_slug(prompt)}",
                group=f"seconds-{source}",
                title=f"Prompt “{prompt}”: accuracy against seconds",
                description=f"Accuracy against the seconds of an answer for the prompt {prompt}, "
                f"one line for each quantization, with 95 % intervals, {label}.",
                svg=_accuracy_svg(
                    data.assign(x=data["seconds"]),
                    styles,
                    label=axis,
                    seconds=True,
                    marks=crossovers_at_the_top(
                        marks[(marks["prompt"] == prompt) & (marks["strategy"] == TRUNCATE)],
                        data[data["strategy"] == TRUNCATE],
                    ),
                ),
                data=data,
            )


def best_within_time(matched: pd.DataFrame) -> pd.DataFrame:
    """For each quantization the choices that beat every quicker one, by seconds."""
    ordered = matched.sort_values(
        ["quantization", "seconds", "accuracy"], ascending=[True, True, False], na_position="last"
    )
    so_far = ordered.groupby("quantization")["accuracy"].cummax()
    earlier = so_far.groupby(ordered["quantization"]).shift(1).fillna(0.0)
    return ordered[ordered["accuracy"] > earlier]


def _accuracy_svg(
    data: pd.DataFrame,
    styles: Mapping[str, SeriesStyle],
    *,
    label: str,
    seconds: bool,
    marks: pd.DataFrame | None = None,
) -> str:
    present = [q for q in styles if q in set(data["quantization"].to_list())]
    told = data[data["strategy"] != TRUNCATE]
    figure, axes = _axes(legend_rows=_legend_rows(len(present) + (len(told) > 0)))
    for name in present:
        style = styles[name]
        line = data[(data["quantization"] == name) & (data["strategy"] == TRUNCATE)]
        line = line.sort_values("x", kind="stable")
        _band(axes, line, style)
        axes.plot(
            _floats(line["x"]), _floats(line["accuracy"]), color=style.colour,
            linestyle=style.dash, linewidth=1.8,
        )  # fmt: skip
        if len(line):
            axes.plot(
                _floats(line["x"])[-1:], _floats(line["accuracy"])[-1:], color=style.colour,
                marker=style.marker, markersize=5,
            )  # fmt: skip
        points = told[told["quantization"] == name]
        _points(axes, points, _floats(points["x"]), style, hollow=True)
    answering = data[data["accuracy"] > 0]["x"]
    low = float(_smallest(answering, data["x"]))
    high = float(data["x"].max())
    if seconds:
        _seconds_axis(axes, low / 1.25, high * 1.12)
    else:
        _log_axis(axes, low / 1.25, high * 1.12, [2.0**k for k in range(16)], lambda t: f"{t:.0f}")
    _percent_axis(axes, float(data["accuracy_high"].max()))
    axes.set_xlabel(label)
    if marks is not None:
        _mark_crossovers(axes, marks)
    handles = [_handle(q, styles[q]) for q in present]
    _legend(figure, [*handles, _stated_handle()] if len(told) else handles)
    return _svg(figure)


def _smallest(values: pd.Series[Any], otherwise: pd.Series[Any]) -> float:
    chosen = values if len(values) else otherwise
    chosen = chosen[chosen > 0]
    return float(chosen.min()) if len(chosen) else 1.0


def _floats(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    return column.to_numpy(dtype=np.float64)


def _band(axes: Any, line: pd.DataFrame, style: SeriesStyle, step: str | None = None) -> None:
    axes.fill_between(
        _floats(line["x"]), _floats(line["accuracy_low"]), _floats(line["accuracy_high"]),
        color=style.colour, alpha=0.13, linewidth=0, step=step,
    )  # fmt: skip


def _points(axes: Any, rows: pd.DataFrame, x: Any, style: SeriesStyle, *, hollow: bool) -> None:
    if not len(rows):
        return
    accuracy = _floats(rows["accuracy"])
    errors = np.stack(
        [accuracy - _floats(rows["accuracy_low"]), _floats(rows["accuracy_high"]) - accuracy]
    )
    axes.errorbar(
        x, accuracy, yerr=np.maximum(errors, 0), fmt=style.marker, color=style.colour, markersize=5,
        markerfacecolor=PAPER if hollow else style.colour, markeredgewidth=1.3, elinewidth=0.9,
        zorder=3,
    )  # fmt: skip


def _envelope_svg(
    envelope: pd.DataFrame, marks: pd.DataFrame, styles: Mapping[str, SeriesStyle], label: str
) -> str:
    import pandas as pd

    present = [q for q in styles if q in set(envelope["quantization"].to_list())]
    figure, axes = _axes(legend_rows=_legend_rows(len(present)))
    if not present:
        axes.text(0.5, 0.5, "no right answer", transform=axes.transAxes, ha="center")
        return _svg(figure)
    low = float(envelope["seconds"].min()) / 1.25
    high = float(envelope["seconds"].max()) * 1.5
    low = low if low > 0 else high / 1000
    for name in present:
        rows = envelope[envelope["quantization"] == name].sort_values("seconds", kind="stable")
        rows = rows.assign(x=rows["seconds"])
        # What the last choice reaches, it also reaches with more time.
        line = pd.concat([rows, rows.tail(1).assign(x=high)])
        style = styles[name]
        _band(axes, line, style, step="post")
        axes.step(
            _floats(line["x"]), _floats(line["accuracy"]), where="post", color=style.colour,
            linestyle=style.dash, linewidth=2,
        )  # fmt: skip
    _seconds_axis(axes, low, high)
    _percent_axis(axes, float(envelope["accuracy_high"].max()))
    axes.set_xlabel(label)
    _mark_crossovers(axes, marks)
    _legend(figure, [_handle(q, styles[q], marker=False) for q in present])
    return _svg(figure)


def _mark_crossovers(axes: Any, marks: pd.DataFrame) -> None:
    """A line where a lead changes hands beyond chance, its 95 % interval in grey."""
    shown = records(marks.sort_values("seconds", kind="stable").head(4))
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


def _stated_figures(matched: pd.DataFrame, styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """The same budget, told to the model or only cut."""
    rows = _one_source(matched)
    rows = rows[rows["budget_tokens"].notna() & rows["strategy"].isin([TRUNCATE, STATED])]
    for prompt in sorted(set(rows[rows["strategy"] == STATED]["prompt"])):
        of_prompt = rows[rows["prompt"] == prompt].drop(columns=["seconds", "latency_source"])
        budgets = sorted(set(of_prompt[of_prompt["strategy"] == STATED]["budget_tokens"]))
        data = of_prompt[of_prompt["budget_tokens"].isin(budgets)]
        present = [q for q in styles if q in set(data["quantization"].to_list())]
        figure, axes = _axes(legend_rows=_legend_rows(len(present) + 1))
        for index, name in enumerate(present):
            style = styles[name]
            offset = (index - (len(present) - 1) / 2) * 0.75 / max(len(present), 2)
            both = {
                strategy: data[
                    (data["quantization"] == name) & (data["strategy"] == strategy)
                ].sort_values("budget_tokens")
                for strategy in (TRUNCATE, STATED)
            }
            for place, budget in enumerate(budgets):
                pair = [
                    list(frame[frame["budget_tokens"] == budget]["accuracy"])
                    for frame in both.values()
                ]
                if all(pair):
                    axes.plot(
                        [place + offset - 0.04, place + offset + 0.04],
                        [pair[0][0], pair[1][0]],
                        color=style.colour, linewidth=1.4, alpha=0.6,
                    )  # fmt: skip
            for strategy, shift in ((TRUNCATE, -0.04), (STATED, 0.04)):
                points = both[strategy]
                x = [budgets.index(b) + offset + shift for b in points["budget_tokens"]]
                _points(axes, points, x, style, hollow=strategy == STATED)
        axes.set_xticks(range(len(budgets)), [str(b) for b in budgets])
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("Token budget")
        _percent_axis(axes, float(data["accuracy_high"].max()))
        _legend(figure, [*(_handle(q, styles[q]) for q in present), _stated_handle()])
        yield Figure(
            name=f"stated-{_slug(prompt)}",
            group="stated",
            title=f"Prompt “{prompt}”: the budget only cut (filled) or also told (hollow)",
            description=f"Accuracy at a budget with and without telling the model: {prompt}.",
            svg=_svg(figure),
            data=data,
        )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
