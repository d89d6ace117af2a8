"""Divergence from the 16-bit file against bytes, and which variants no other beats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgequant.core.schemas import QUALITY
from edgequant.report.figures.canvas import CHARACTER, FONT, Canvas, handle, plain_handle, present
from edgequant.report.figures.figure import Figure, Row, slug
from edgequant.report.style import MUTED, PAPER, SeriesStyle, byte_size, series_styles, significant

_TICKS = [m * 10.0**e for e in range(-9, 3) for m in (1, 2, 5)]


def quality_figures(
    rows: Sequence[Row], styles: Mapping[str, SeriesStyle] | None = None
) -> Iterator[Figure]:
    """One for each text; a variant that is the reference itself has no place on the axis.

    Args:
        rows: of the table of quality.
        styles: of a page's quantizations; where a variant is none of these, all have their own.
    """
    named = list(dict.fromkeys(row["quantization"] for row in rows))
    if styles is None or not set(named) <= set(styles):
        styles = series_styles(named)
    texts = list(dict.fromkeys(row["text"] for row in rows))
    for number, text in enumerate(texts):
        own = [row for row in rows if row["text"] == text and row["divergence"] > 0]
        if not own:
            continue
        own.sort(key=lambda row: row["bytes"])
        yield Figure(
            # Texts of two folders may have one name.
            name=f"quality-{number + 1}-{slug(text.rpartition('/')[2])}",
            group="quality",
            title=f"Divergence from the 16-bit model against bytes: {text}",
            description="Not beaten in bytes and divergence at once: "
            + "; ".join(
                f"{row['quantization']}: {significant(row['divergence'])} nats at "
                f"{byte_size(row['bytes'])}"
                for row in own
                if row["on_front"]
            )
            + ".",
            svg=_paint(own, styles),
            columns=list(QUALITY.columns),
            rows=own,
        )


def _paint(rows: Sequence[Row], styles: Mapping[str, SeriesStyle]) -> str:
    handles = [
        *(handle(name, styles[name], line=False) for name in present(rows, styles)),
        plain_handle("not beaten", hollow=False),
        plain_handle("beaten", hollow=True),
    ]
    # Seven characters of a tick, and the label beside them.
    canvas = Canvas([h.get_label() for h in handles], left=CHARACTER * 7 + FONT * 1.8)
    axes = canvas.axes
    front = [row for row in rows if row["on_front"]]
    axes.plot(
        [row["bytes"] / 1e6 for row in front], [row["divergence"] for row in front],
        color=MUTED, linewidth=1, drawstyle="steps-post", zorder=1,
    )  # fmt: skip
    for row in rows:
        style = styles[row["quantization"]]
        axes.errorbar(
            row["bytes"] / 1e6, row["divergence"],
            yerr=None if row["divergence_error"] is None else 1.96 * row["divergence_error"],
            linestyle="", marker=style.marker, markersize=6.5 if row["on_front"] else 5,
            color=style.colour, markerfacecolor=style.colour if row["on_front"] else PAPER,
            capsize=2, elinewidth=0.9, zorder=3,
        )  # fmt: skip
    axes.set_yscale("log")
    low, high = (end(row["divergence"] for row in rows) for end in (min, max))
    axes.set_ylim(low / 1.6, high * 1.6)
    shown = [tick for tick in _TICKS if low / 1.6 <= tick <= high * 1.6]
    shown = [t for t in shown if f"{t:e}".startswith("1")] if len(shown) > 8 else shown
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
    axes.set_xlabel("File in MB")
    axes.set_ylabel("Mean divergence (nats)")
    canvas.legend(handles)
    return canvas.svg()
