"""The figure of divergence against bytes."""

from __future__ import annotations

from typing import Any

from edgequant.report.figures.canvas import drawing_settings
from edgequant.report.figures.quality import quality_figures


def row(name: str, size: int, divergence: float, *, front: bool, text: str = "t") -> dict[str, Any]:
    return {
        "text": text, "quantization": name, "bytes": size, "divergence": divergence,
        "divergence_error": None, "on_front": front,
    }  # fmt: skip


def test_one_figure_for_each_text_without_the_reference_itself() -> None:
    rows = [
        row("Q8_0", 7_000_000, 1e-3, front=True),
        row("Q2_K", 2_500_000, 0.5, front=True),
        row("odd", 8_000_000, 0.6, front=False),
        row("F16", 13_000_000, 0.0, front=True),
        row("Q8_0", 7_000_000, 2e-3, front=True, text="b/t"),
        row("F16", 13_000_000, 0.0, front=True, text="c"),
    ]
    with drawing_settings():
        figures = list(quality_figures(rows))
    assert [figure.name for figure in figures] == ["quality-1-t", "quality-2-t"]
    assert [r["quantization"] for r in figures[0].rows] == ["Q2_K", "Q8_0", "odd"]
    assert figures[0].description.endswith(
        "at once: Q2_K: 0.500 nats at 2.50 MB; Q8_0: 0.00100 nats at 7.00 MB."
    )
    for word in ("Mean divergence (nats)", "File in MB", "Q2_K", "not beaten"):
        assert word in figures[0].svg
