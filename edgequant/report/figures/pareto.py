"""Accuracy against the mean seconds of a whole answer, and which configurations no other beats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgequant.core.schemas import BUDGETS
from edgequant.report.clocks import label
from edgequant.report.figures.canvas import Canvas, handle, plain_handle
from edgequant.report.figures.figure import Figure, Row, slug
from edgequant.report.pareto import Point, pareto
from edgequant.report.style import PAPER, SeriesStyle, duration, percent
from edgequant.report.words import choice_words


def pareto_figures(
    budgets: Sequence[Row], sizes: Mapping[str, int], styles: Mapping[str, SeriesStyle]
) -> Iterator[Figure]:
    """One for each latency source."""
    for source in dict.fromkeys(row["latency_source"] for row in budgets):
        points = [p for p in pareto(budgets, source, sizes) if p.row["quantization"] in styles]
        if not points:
            continue
        axis = f"Mean seconds ({label(source).lower()})"
        kept = [point.row for point in points if point.kept]
        yield Figure(
            name=f"pareto-{slug(source)}",
            group=f"pareto-{source}",
            title="Whole answers: share right against mean seconds",
            description="Not beaten in accuracy, seconds and bytes at once: "
            + "; ".join(
                f"{r['quantization']}, {choice_words(r)}: {percent(r['accuracy'])} in "
                f"{duration(r['mean_seconds'])}"
                for r in kept
            )
            + ".",
            svg=_paint(points, styles, axis),
            columns=list(BUDGETS.columns),
            rows=[point.row for point in points],
        )


def _paint(points: Sequence[Point], styles: Mapping[str, SeriesStyle], axis: str) -> str:
    found = {point.row["quantization"] for point in points}
    names = [name for name in styles if name in found]
    handles = [
        *(handle(name, styles[name], line=False) for name in names),
        plain_handle("not beaten", hollow=False),
        plain_handle("beaten", hollow=True),
    ]
    canvas = Canvas([h.get_label() for h in handles])
    for point in points:
        row, style = point.row, styles[point.row["quantization"]]
        canvas.axes.plot(
            row["mean_seconds"], row["accuracy"], linestyle="", marker=style.marker,
            markersize=6.5 if point.kept else 5, color=style.colour,
            markerfacecolor=style.colour if point.kept else PAPER,
            alpha=1.0 if point.kept else 0.65, zorder=3 if point.kept else 2,
        )  # fmt: skip
    every = [row["mean_seconds"] for row in (point.row for point in points)]
    low, high = min((s for s in every if s > 0), default=1.0), max(every) or 1.0
    canvas.seconds_axis(low / 1.15, high * 1.15)
    canvas.percent_axis(max(point.row["accuracy"] for point in points))
    canvas.axes.set_xlabel(axis)
    canvas.legend(handles)
    return canvas.svg()
