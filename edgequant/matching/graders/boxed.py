r"""The headline grader: exact integer equality on the last closed ``\boxed{}``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgequant.matching.graders.boxes import has_box, last_boxes
from edgequant.matching.graders.grader import Reading, last_value, readings_by_token
from edgequant.matching.graders.numbers import holds_number, read_integer


class Boxed:
    """The integer in the last closed box that holds a number; boxes without one are passed over."""

    name = "boxed"

    def readings(self, text: str) -> list[Reading]:
        """As :meth:`.grader.Grader.readings`: one for each box that counts."""
        return [Reading(b.end, read_integer(b.content)) for b in last_boxes(text, holds_number)]

    def agrees(self, value: str, expected: str) -> bool:
        """The same integer; both are in canonical form."""
        return value == canonical(expected)

    def basis(self, text: str) -> str:
        """As :meth:`.grader.Grader.basis`."""
        boxes = last_boxes(text, holds_number)
        if not boxes:
            return "no closed box with a number" if has_box(text) else "no closed box"
        if read_integer(boxes[-1].content) is None:
            return "the last box, which holds no integer"
        return "the last box"


def canonical(expected: str) -> str:
    """An expected integer without what may stand in a data set: ``1,234`` is ``1234``."""
    return read_integer(expected) or expected.strip()


# ---- What cuts use until they take graders by name ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Grade:
    r"""What an answer's text says.

    Attributes:
        boxed: the integer in the last whole ``\boxed{}``; None where there is none.
        fallback: the lenient grade.
        has_box: there is a whole box, whatever it holds.
    """

    boxed: int | None
    fallback: int | None
    has_box: bool

    @property
    def lenient(self) -> int | None:
        """The box's integer where there is one, else the fallback's: a score apart."""
        return self.boxed if self.boxed is not None else self.fallback


@dataclass(frozen=True, slots=True)
class BoxEvent:
    """From ``end`` characters on, the last whole box says ``value``."""

    end: int
    value: int | None


def grade(text: str, events: Sequence[BoxEvent] | None = None) -> Grade:
    """Read the answer out of a whole text; ``events`` are its :func:`box_events`, if known."""
    from edgequant.matching.graders.lenient import Lenient

    if events is None:
        events = box_events(text)
    return Grade(
        boxed=events[-1].value if events else None,
        fallback=_integer(last_value(Lenient().readings(text))),
        has_box=has_box(text),
    )


def box_events(text: str) -> list[BoxEvent]:
    """:meth:`Boxed.readings` with numbers for values."""
    return [BoxEvent(reading.end, _integer(reading.value)) for reading in Boxed().readings(text)]


def box_events_by_token(
    pieces: Sequence[str], events: Sequence[BoxEvent] | None = None
) -> list[BoxEvent]:
    """The same as :func:`box_events`, with ``end`` counted in tokens."""
    known = box_events("".join(pieces)) if events is None else events
    readings = [Reading(e.end, None if e.value is None else str(e.value)) for e in known]
    return [BoxEvent(r.end, _integer(r.value)) for r in readings_by_token(readings, pieces)]


def parse_integer(content: str) -> int | None:
    """:func:`.numbers.read_integer` as a number."""
    return _integer(read_integer(content))


def _integer(value: str | None) -> int | None:
    return None if value is None else int(value)
