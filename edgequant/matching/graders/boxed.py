r"""The headline grader: exact integer equality on the last closed ``\boxed{}``."""

from __future__ import annotations

from edgequant.matching.graders.boxes import has_box, last_boxes
from edgequant.matching.graders.grader import Reading
from edgequant.matching.graders.numbers import holds_number, read_integer


class Boxed:
    """The integer in the last closed box that holds a number; boxes without one are passed over."""

    name = "boxed"

    def readings(self, text: str, wanted: str | None = None) -> list[Reading]:
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
