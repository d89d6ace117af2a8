"""The lenient grader: the box, else what else reads like a final answer."""

from __future__ import annotations

import re

from edgequant.matching.graders.boxed import Boxed, canonical
from edgequant.matching.graders.grader import Reading, changes_only, last_value
from edgequant.matching.graders.prose import (
    OTHER,
    after_markers,
    first_of,
    last_numbers,
    number_after,
    with_ascii_digits,
)

_HASHES = re.compile(r"####")
_ANSWER_IS = re.compile(r"answer\s{1,10}is", re.IGNORECASE)


class Lenient:
    """The box's integer, else the number behind "####", else behind "answer is", else the last."""

    name = "lenient"

    def readings(self, text: str, wanted: str | None = None) -> list[Reading]:
        """As :meth:`.grader.Grader.readings`."""
        integer = None if wanted is None else canonical(wanted)
        merged = first_of(*_rungs(text, integer).values())
        return changes_only(Reading(r.end, None if r.value == OTHER else r.value) for r in merged)

    def agrees(self, value: str, expected: str) -> bool:
        """The same integer; both are in canonical form."""
        return value == canonical(expected)

    def basis(self, text: str) -> str:
        """As :meth:`.grader.Grader.basis`."""
        for name, readings in _rungs(text).items():
            if last_value(readings) is not None:
                return name
        return "no number at all"


def _rungs(text: str, wanted: str | None = None) -> dict[str, list[Reading]]:
    """What each rule alone reads, the first rule first."""
    prose = with_ascii_digits(text)
    return {
        "the last box": Boxed().readings(text),
        "the number behind the last “####”": after_markers(prose, _HASHES, number_after),
        "the number behind the last “answer is”": after_markers(prose, _ANSWER_IS, number_after),
        "the last number of the text": last_numbers(prose, wanted),
    }
