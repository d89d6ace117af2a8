"""Accuracy and length in tokens: cut answers, told budgets, how long answers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.schemas import BUDGETS, SCORES
from edgequant.report.figures.canvas import (
    CHARACTER,
    TICKS,
    Canvas,
    handle,
    of,
    plain_handle,
    present,
)
from edgequant.report.figures.figure import Figure, Row, slug
from edgequant.report.style import PAPER, SeriesStyle, percent, significant
from edgequant.report.words import family_words

_CUT_COLUMNS = [
    name
    for name in BUDGETS.columns
    if name not in ("latency_source", "mean_seconds", "longest_seconds")
]
_CONFIGURATION = ("quantization", "prompt", "strategy", "budget_tokens")
_MARK = 0.05
"""Half the distance between a pair's marks, where neighbouring budgets are 1 apart."""


def token_figures(
    budgets: Sequence[Row], scores: Sequence[Row], styles: Mapping[str, SeriesStyle]
) -> Iterator[Figure]:
    """Answers that were told no budget, cut after numbers of tokens and, at last, whole."""
    longest = {tuple(r[name] for name in _CONFIGURATION): r["longest_tokens"] for r in scores}
    plain = [
        {**r, "cut_tokens": longest[tuple(r[name] for name in _CONFIGURATION)]}
        if r["cut_tokens"] is None
        else r
        for r in _one_source(budgets)
        if r["budget_tokens"] is None
    ]
    for prompt, strategy in dict.fromkeys((r["prompt"], r["strategy"]) for r in plain):
        data = [r for r in plain if (r["prompt"], r["strategy"]) == (prompt, strategy)]
        yield Figure(
            name=f"accuracy-tokens-{slug(prompt)}-{slug(strategy)}",
            group="tokens",
            title=f"Prompt “{prompt}”, {family_words(strategy)}: share right if cut after so many "
            "tokens",
            description=_told(
                data, styles, lambda r: f"{percent(r['accuracy'])} at {r['cut_tokens']}"
            ),
            svg=_paint_cuts(data, styles),
            columns=_CUT_COLUMNS,
            rows=data,
        )


def told_figures(budgets: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """The same budget kept in another way than by cutting: told to the model, closed early."""
    rows = _one_source(budgets)
    kept = [r for r in rows if r["budget_tokens"] is not None and r["cut_tokens"] is None]
    for prompt, strategy in dict.fromkeys((r["prompt"], r["strategy"]) for r in kept):
        own = [r for r in kept if (r["prompt"], r["strategy"]) == (prompt, strategy)]
        at = sorted({r["budget_tokens"] for r in own})
        cut = [
            r
            for r in rows
            if r["strategy"] == "truncate" and r["prompt"] == prompt and r["cut_tokens"] in at
        ]
        pairs = _Pairs(cut, own, at, family_words(strategy))
        yield Figure(
            name=f"told-{slug(prompt)}-{slug(strategy)}",
            group="told",
            title=f"Prompt “{prompt}”: {family_words(strategy)} (hollow), or only cut (filled)",
            description=_told(
                own, styles, lambda r: f"{percent(r['accuracy'])} with {r['budget_tokens']} tokens"
            ),
            svg=pairs.paint(styles),
            columns=_CUT_COLUMNS,
            rows=[*cut, *own],
        )


def length_figures(scores: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> Iterator[Figure]:
    """How long whole answers are that were told no budget."""
    plain = [row for row in scores if row["budget_tokens"] is None]
    for prompt, strategy in dict.fromkeys((r["prompt"], r["strategy"]) for r in plain):
        data = [r for r in plain if (r["prompt"], r["strategy"]) == (prompt, strategy)]
        yield Figure(
            name=f"lengths-{slug(prompt)}-{slug(strategy)}",
            group="lengths",
            title=f"Prompt “{prompt}”, {family_words(strategy)}: tokens of an answer (mark: "
            "median; bar: 10 to 90 %; line: to the longest)",
            description="; ".join(
                f"{r['quantization']}: median {significant(r['median_tokens'])}, a tenth within "
                f"{significant(r['p10_tokens'])}, nine tenths within "
                f"{significant(r['p90_tokens'])}, longest {r['longest_tokens']}"
                for r in data
            )
            + ".",
            svg=_paint_lengths(data, styles),
            columns=list(SCORES.columns),
            rows=data,
        )


def _one_source(budgets: Sequence[Row]) -> list[Row]:
    """Rows of each cut once: accuracy at a token does not depend on where seconds come from."""
    once: dict[tuple[object, ...], Row] = {}
    for row in budgets:
        once.setdefault(tuple(row[name] for name in (*_CONFIGURATION, "cut_tokens")), row)
    return list(once.values())


def _told(
    rows: Sequence[Row], styles: Mapping[str, SeriesStyle], value: Callable[[Row], str]
) -> str:
    return "; ".join(
        f"{name} {', '.join(value(row) for row in of(rows, name))}"
        for name in present(rows, styles)
    )


def _floats(rows: Sequence[Row], column: str) -> npt.NDArray[np.float64]:
    return np.array([row[column] for row in rows], dtype=np.float64)


def _paint_cuts(data: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> str:
    names = present(data, styles)
    canvas = Canvas(names)
    for name in names:
        style = styles[name]
        line = sorted(of(data, name), key=lambda row: int(row["cut_tokens"]))
        x = _floats(line, "cut_tokens")
        canvas.axes.fill_between(
            x, _floats(line, "accuracy_low"), _floats(line, "accuracy_high"),
            color=style.colour, alpha=0.11, linewidth=0,
        )  # fmt: skip
        canvas.axes.plot(
            x, _floats(line, "accuracy"), color=style.colour, linestyle=style.dash, linewidth=1.8,
            marker=style.marker, markersize=4.5, markeredgecolor=PAPER, markeredgewidth=0.6,
        )  # fmt: skip
    right = [row["cut_tokens"] for row in data if row["accuracy"] > 0]
    every = [row["cut_tokens"] for row in data]
    low, high = min(right, default=min(every)), max(every)
    canvas.log_axis(
        low / 1.25, high * 1.12, [2.0**k for k in range(20)], lambda tokens: f"{tokens:.0f}"
    )
    canvas.percent_axis(max(row["accuracy_high"] for row in data))
    canvas.axes.set_xlabel("Cut after so many tokens")
    canvas.legend([handle(name, styles[name]) for name in names])
    return canvas.svg()


class _Pairs:
    """Marks side by side: cut at a budget, and the same budget kept in another way."""

    def __init__(
        self, cut: Sequence[Row], other: Sequence[Row], budgets: Sequence[int], words: str
    ) -> None:
        self.cut, self.other, self.budgets, self.words = cut, other, budgets, words

    def paint(self, styles: Mapping[str, SeriesStyle]) -> str:
        names = present(self.other, styles)
        handles = [
            *(handle(name, styles[name], line=False) for name in names),
            plain_handle("only cut", hollow=False),
            plain_handle(self.words, hollow=True),
        ]
        canvas = Canvas([h.get_label() for h in handles])
        for index, name in enumerate(names):
            shift = (index - (len(names) - 1) / 2) * 0.75 / max(len(names), 2)
            cut = {row["cut_tokens"]: row for row in of(self.cut, name)}
            other = {row["budget_tokens"]: row for row in of(self.other, name)}
            for place, budget in enumerate(self.budgets):
                x = place + shift
                if budget in cut:
                    _mark(canvas, x - _MARK, cut[budget], styles[name], hollow=False)
                if budget in other:
                    _mark(canvas, x + _MARK, other[budget], styles[name], hollow=True)
        canvas.axes.set_xticks(range(len(self.budgets)), [str(b) for b in self.budgets])
        canvas.axes.grid(axis="x", visible=False)
        canvas.axes.set_xlabel("Budget in tokens")
        canvas.percent_axis(max(row["accuracy_high"] for row in [*self.cut, *self.other]))
        canvas.legend(handles)
        return canvas.svg()


def _mark(canvas: Canvas, x: float, row: Row, style: SeriesStyle, *, hollow: bool) -> None:
    below, above = row["accuracy"] - row["accuracy_low"], row["accuracy_high"] - row["accuracy"]
    canvas.axes.errorbar(
        [x], [row["accuracy"]], yerr=[[max(below, 0)], [max(above, 0)]], fmt=style.marker,
        color=style.colour, markersize=4.8, markerfacecolor=PAPER if hollow else style.colour,
        markeredgewidth=1.2, elinewidth=0.9, zorder=3,
    )  # fmt: skip


def _paint_lengths(data: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> str:
    names = present(data, styles)
    canvas = Canvas(left=max(map(len, names), default=1) * CHARACTER + 12)
    axes = canvas.axes
    longest = max(row["longest_tokens"] for row in data)
    for place, name in enumerate(names):
        (row,), style = of(data, name)[:1], styles[name]
        axes.plot([row["p10_tokens"], row["p90_tokens"]], [place] * 2, color=style.colour, lw=7,
                  alpha=0.35, solid_capstyle="butt")  # fmt: skip
        axes.plot([row["p90_tokens"], row["longest_tokens"]], [place] * 2, color=style.colour, lw=1)
        axes.plot(row["longest_tokens"], place, color=style.colour, marker="|", markersize=9)
        axes.plot(row["median_tokens"], place, color=style.colour, marker=style.marker,
                  markersize=6, markeredgecolor=PAPER)  # fmt: skip
        axes.annotate(
            significant(row["median_tokens"]), (row["median_tokens"], place), (0, 8),
            textcoords="offset points", ha="center",
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.set_xlim(0, longest * 1.04)
    axes.xaxis.set_major_locator(_ticks())
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Tokens")
    return canvas.svg()


def _ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(TICKS, integer=True)
