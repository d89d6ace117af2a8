"""What ``sweep`` and ``demo`` print at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgequant.cli.matched_output import print_matched
from edgequant.cli.output import echo

if TYPE_CHECKING:
    from edgequant.experiment.sweep import SweepResult


def print_result(result: SweepResult) -> None:
    """The best choice for each time limit, the crossovers, and where the report lies."""
    from edgequant.models.contents import marked

    names = {
        m.quantization: marked(m.quantization, m.holds_named_type, m.same_as)
        for m in result.manifest.models
    }
    print_matched(result.matched, lambda source: source_label(result, source), names)
    for note in result.manifest.model_notes:
        echo(f"Note: {note}")
    echo(f"Report: {result.report}")


def source_label(result: SweepResult, source: str) -> str:
    """What the seconds of one latency source are, in words."""
    board = result.manifest.board.name
    return {
        "measured": f"seconds MEASURED on {board}",
        "emulated": f"seconds EMULATED on the board {board}",
        "predicted": "seconds PREDICTED, no board was measured",
        "study": "seconds of the STUDY's board (8 B model), these answers",
    }.get(source, source)
