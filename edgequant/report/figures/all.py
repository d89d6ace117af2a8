"""All figures of a report."""

from __future__ import annotations

from collections.abc import Mapping

from edgequant.core.tables import records
from edgequant.report.figures.canvas import drawing_settings
from edgequant.report.figures.figure import Figure
from edgequant.report.figures.latency import latency_figures
from edgequant.report.figures.pareto import pareto_figures
from edgequant.report.figures.quality import quality_figures
from edgequant.report.figures.seconds import second_figures
from edgequant.report.figures.tokens import length_figures, token_figures, told_figures
from edgequant.report.run import ReportInputs
from edgequant.report.style import SeriesStyle


def draw_figures(inputs: ReportInputs, styles: Mapping[str, SeriesStyle]) -> list[Figure]:
    """Draw all figures of a report.

    Args:
        inputs: the run.
        styles: one for each quantization, in the order of the legends.

    Raises:
        ToolMissingError: matplotlib is not installed.
    """
    matched = inputs.matched
    steps, budgets = records(matched.matched), records(matched.budgets)
    scores = records(matched.scores)
    quality = [] if inputs.quality is None else records(inputs.quality)
    sizes = {model.quantization: model.bytes for model in inputs.manifest.models}
    with drawing_settings():
        return [
            *second_figures(steps, records(matched.best), records(matched.crossovers), styles),
            *token_figures(budgets, scores, styles),
            *told_figures(budgets, styles),
            *length_figures(scores, styles),
            *pareto_figures(budgets, sizes, styles),
            *latency_figures(inputs.latency, styles, inputs.manifest.board.latency_source),
            *quality_figures(quality, styles),
        ]
