"""Accuracy within a time, one line for each quantization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgequant.core.schemas import MATCHED
from edgequant.report.clocks import label
from edgequant.report.crossings import at_the_top, overall
from edgequant.report.figures.canvas import FONT, HEIGHT, Canvas, handle, of, present
from edgequant.report.figures.figure import Figure, Row, slug
from edgequant.report.figures.steps import accuracy_at, envelope, telling_times, thinned
from edgequant.report.style import INK, MUTED, PAPER, SeriesStyle, duration, percent
from edgequant.report.words import family_words

MOST_MARKS = 4


def second_figures(
    matched: Sequence[Row],
    best: Sequence[Row],
    crossovers: Sequence[Row],
    styles: Mapping[str, SeriesStyle],
) -> Iterator[Figure]:
    """Of each latency source: the best of all configurations, and each prompt and strategy."""
    for source in dict.fromkeys(row["latency_source"] for row in matched):
        steps = [row for row in matched if row["latency_source"] == source]
        marks = [r for r in crossovers if r["latency_source"] == source and r["confident"]]
        choices = [row for row in best if row["latency_source"] == source]
        yield _figure(
            f"best-seconds-{slug(source)}",
            f"best-{source}",
            "Share right within a time, by the best of each quantization’s configurations",
            source,
            steps,
            at_the_top(overall(marks), choices),
            styles,
        )
        for prompt, strategy in dict.fromkeys((r["prompt"], r["strategy"]) for r in steps):
            own = {"prompt": prompt, "strategy": strategy}
            yield _figure(
                f"accuracy-seconds-{slug(source)}-{slug(prompt)}-{slug(strategy)}",
                f"seconds-{source}",
                f"Prompt “{prompt}”, {family_words(strategy)}",
                source,
                [row for row in steps if own.items() <= row.items()],
                [row for row in marks if own.items() <= row.items()],
                styles,
            )


def _figure(
    name: str,
    group: str,
    title: str,
    source: str,
    steps: Sequence[Row],
    marks: Sequence[Row],
    styles: Mapping[str, SeriesStyle],
) -> Figure:
    lines = {q: envelope(of(steps, q)) for q in present(steps, styles)}
    axis = f"Seconds since the question ({label(source).lower()})"
    shown = sorted(marks, key=lambda mark: float(mark["seconds"]))[:MOST_MARKS]
    rows = [row for line in lines.values() for row in line]
    return Figure(
        name=name,
        group=group,
        title=title,
        description=_description(lines, shown, source),
        svg=_paint(lines, shown, styles, axis),
        columns=list(MATCHED.columns),
        rows=rows or list(steps),
    )


def _description(lines: Mapping[str, Sequence[Row]], marks: Sequence[Row], source: str) -> str:
    if not any(lines.values()):
        return f"{label(source)}: no right answer."
    times = list(dict.fromkeys(telling_times(lines.values())))
    parts = [
        f"{name} "
        + ", ".join(f"{percent(accuracy_at(line, t))} within {duration(t)}" for t in times)
        for name, line in lines.items()
    ]
    changes = [
        f"{mark['first_quantization']} to {mark['second_quantization']} at "
        f"{duration(mark['seconds'])}"
        for mark in marks
    ]
    told = f". The lead changes from {'; '.join(changes)}" if changes else ""
    return f"{label(source)}: {'; '.join(parts)}{told}."


def _paint(
    lines: Mapping[str, Sequence[Row]],
    marks: Sequence[Row],
    styles: Mapping[str, SeriesStyle],
    label: str,
) -> str:
    names = [name for name in lines if lines[name]]
    canvas = Canvas(names)
    axes = canvas.axes
    if not names:
        axes.text(0.5, 0.5, "no right answer", transform=axes.transAxes, ha="center")
        return canvas.svg()
    every = [row["seconds"] for name in names for row in lines[name]]
    high = max(every) * 1.15
    low = min((s for s in every if s > 0), default=high / 1000) / 1.15
    for place, name in enumerate(names):
        _line(canvas, lines[name], styles[name], (low, high), (place + 0.5) / len(names))
    canvas.seconds_axis(low, high)
    canvas.percent_axis(max(row["accuracy_high"] for name in names for row in lines[name]))
    axes.set_xlabel(label)
    _mark_crossovers(canvas, marks)
    canvas.legend([handle(name, styles[name]) for name in names])
    return canvas.svg()


def _line(
    canvas: Canvas,
    steps: Sequence[Row],
    style: SeriesStyle,
    span: tuple[float, float],
    shift: float,
) -> None:
    """Steps with their band; marks stand where those of other lines do not."""
    low, high = span
    rows = thinned(steps, low, high)
    x = np.array([*(row["seconds"] for row in rows), high])

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([row[name] for row in [*rows, rows[-1]]], dtype=np.float64)

    axes = canvas.axes
    axes.fill_between(
        x, column("accuracy_low"), column("accuracy_high"), step="post",
        color=style.colour, alpha=0.11, linewidth=0,
    )  # fmt: skip
    axes.step(
        np.concatenate([[x[0]], x]), np.concatenate([[0.0], column("accuracy")]), where="post",
        color=style.colour, linestyle=style.dash, linewidth=1.8,
    )  # fmt: skip
    places = [low * (high / low) ** ((k + shift) / 5) for k in range(5)]
    places = [t for t in places if t >= x[0]]
    axes.plot(
        places, [accuracy_at(steps, t) for t in places], linestyle="",
        color=style.colour, marker=style.marker, markersize=5,
        markeredgecolor=PAPER, markeredgewidth=0.6,
    )  # fmt: skip


def _mark_crossovers(canvas: Canvas, marks: Sequence[Row]) -> None:
    """A line where a lead changes hands beyond chance, its 95 % interval in grey."""
    if not marks:
        return
    axes = canvas.axes
    # Room above the data for the labels.
    line = FONT * 1.45 / HEIGHT / axes.get_position().height
    axes.set_ylim(0, axes.get_ylim()[1] * (1 + 1.2 * line * len(marks)))
    for index, mark in enumerate(marks):
        axes.axvspan(mark["seconds_low"], mark["seconds_high"], color=MUTED, alpha=0.13, lw=0)
        height = 0.99 - line * index
        axes.axvline(mark["seconds"], ymax=height, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        on_right = canvas.position(mark["seconds"]) < 0.45
        axes.annotate(
            f"{mark['first_quantization']} → {mark['second_quantization']}, "
            f"{duration(mark['seconds'])}",
            xy=(mark["seconds"], height),
            xycoords=("data", "axes fraction"),
            xytext=(4 if on_right else -4, 0),
            textcoords="offset points",
            ha="left" if on_right else "right",
            va="top",
            fontsize=FONT,
            color=INK,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
        )
