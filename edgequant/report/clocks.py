"""Where seconds come from, in words: each latency source is a clock that answers run against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgequant.report.run import RunManifest

Row = Mapping[str, Any]

LABELS = {
    "measured": "MEASURED",
    "emulated": "EMULATED",
    "predicted": "PREDICTED",
    "study": "STUDY LATENCIES",
}
TITLES = {
    "measured": "On the board",
    "emulated": "On an emulated board",
    "predicted": "On a real board, as computed",
    "study": "On the study's board",
}
MEANINGS = {
    "measured": "seconds read on the board itself",
    "emulated": "seconds read on a virtual board: an emulator's, not a real chip's",
    "predicted": "a what-if: seconds computed for a real board that nobody timed here, from the "
    "bytes and instructions of a token",
    "study": "a what-if: the same answers under the per-token seconds that the study recorded for "
    "an 8 B model on its storage-bound board",
}
INSTRUCTIONS_TITLE = "In counted instructions"
INSTRUCTIONS_MEANING = (
    "no real chip's seconds but instruction counts: the virtual board's clock goes on by 1 ns for "
    "each instruction that its one core executes"
)
WHAT_IFS = ("predicted", "study")


def label(source: str) -> str:
    """The label that a source's figures carry everywhere."""
    return LABELS.get(source, source.upper())


def seconds_words(source: str) -> str:
    """``PREDICTED seconds``, ``STUDY LATENCIES``: the label as a name of seconds."""
    return label(source) if source == "study" else f"{label(source)} seconds"


def clocks_of(rows: Iterable[Row], manifest: RunManifest) -> list[str]:
    """The latency sources of some rows: the board's own first, then the what-ifs."""
    names = list(dict.fromkeys(row["latency_source"] for row in rows))
    return sorted(names, key=lambda name: (name != manifest.board.latency_source, name in WHAT_IFS))


def counts_instructions(source: str, manifest: RunManifest) -> bool:
    """Whether a source's seconds are counted instructions and no time at all."""
    measure = manifest.experiment.parameters.get("measure")
    clock = measure.get("clock") if isinstance(measure, Mapping) else None
    return source == "emulated" and manifest.board.kind == "virtual" and clock == "instructions"


def title(source: str, manifest: RunManifest) -> str:
    """What a source's clock is called in a heading."""
    if counts_instructions(source, manifest):
        return INSTRUCTIONS_TITLE
    if source == "measured":
        return f"On {manifest.board.name}"
    if source == "predicted" and (board := _predicted_board(manifest)):
        return f"On {board}, as computed"
    return TITLES.get(source, source)


def meaning(source: str, manifest: RunManifest) -> str:
    """What the seconds of a source are, one sentence without its capital and full stop."""
    if counts_instructions(source, manifest):
        return INSTRUCTIONS_MEANING
    return MEANINGS.get(source, "")


def caution(clocks: Sequence[str], manifest: RunManifest) -> str | None:
    """What to say where the board's own clock is an emulator's and real ones stand beside it."""
    own = manifest.board.latency_source
    if own != "emulated" or own not in clocks:
        return None
    what = (
        "instruction counts are no seconds"
        if counts_instructions(own, manifest)
        else ("an emulator's seconds are not a chip's")
    )
    if "predicted" not in clocks:
        return f"The board is virtual, and {what}: no choice for a real board follows from them."
    board = _predicted_board(manifest)
    real = f"A real {board}" if board else "A real board"
    return (
        f"The board is virtual, and {what}. {real} is better described by the seconds computed for "
        "it; where the two disagree, take neither for measured."
    )


def _predicted_board(manifest: RunManifest) -> str | None:
    what_ifs = manifest.experiment.parameters.get("what_if")
    for what_if in what_ifs if isinstance(what_ifs, list) else []:
        if isinstance(what_if, Mapping) and what_if.get("kind") == "predicted":
            board = what_if.get("board")
            return board if isinstance(board, str) else None
    return None
