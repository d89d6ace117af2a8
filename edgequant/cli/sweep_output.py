"""What ``sweep`` and ``demo`` print at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgequant.cli.matched_output import print_matched
from edgequant.cli.output import echo

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgequant.experiment.estimate import Estimate
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


def print_estimate(known: Estimate) -> None:
    """What a sweep comes to, and what of it is not there."""
    from edgequant.report.style import byte_size, duration

    def count(number: int | None) -> str:
        return "an unknown number of" if number is None else f"{number:,}"

    echo(
        f"Answers: {count(known.generations)} generations, {count(known.tokens)} tokens at most, "
        f"for {count(known.questions)} questions; nothing kept is taken off"
    )
    if known.mirror_seconds:
        rates = (f"{duration(s)} at {r:,} tokens/s" for r, s in known.mirror_seconds.items())
        echo(f"Time of the mirror, at most: {', '.join(rates)}")
    echo(f"Time of the board, measuring: {_at_least(duration, known.board_seconds)}")
    echo(
        f"Disk: {byte_size(known.host_bytes)} here, {byte_size(known.board_bytes)} on the board "
        f"({_model(known)})"
    )
    for what in known.missing:
        echo(f"Missing: {what}; the sweep needs it")


def _model(known: Estimate) -> str:
    count = known.parameters
    if count is None:
        return "the model's size is not known"
    size = f"{count / 1e9:.3g} B" if count >= 1e9 else f"{count / 1e6:.3g} M"
    return f"{size} parameters" + (", says the folder's name" if known.parameters_from_name else "")


def _at_least(words: Callable[[float | None], str], value: float | None) -> str:
    return "not known" if value is None else f"at least {words(value)}"


def source_label(result: SweepResult, source: str) -> str:
    """What the seconds of one latency source are, in words."""
    board = result.manifest.board.name
    return {
        "measured": f"seconds MEASURED on {board}",
        "emulated": f"seconds EMULATED on the board {board}",
        "predicted": "seconds PREDICTED, no board was measured",
        "study": "seconds of the STUDY's board (8 B model), these answers",
    }.get(source, source)
