"""TEMPORARY: replaced by the graders' own registry."""

from __future__ import annotations

from collections.abc import Mapping

from edgequant.matching.graders.boxed import box_events, find_fallback
from edgequant.matching.graders.grader import Grader, Reading


class Boxed:
    name = "boxed"

    def readings(self, text: str) -> list[Reading]:
        return [Reading(e.end, None if e.value is None else str(e.value)) for e in box_events(text)]

    def agrees(self, value: str, expected: str) -> bool:
        return value == expected


class Lenient(Boxed):
    name = "lenient"

    def readings(self, text: str) -> list[Reading]:
        found = super().readings(text)
        if not found and (value := find_fallback(text)) is not None:
            return [Reading(len(text), str(value))]
        return found


_ALL: Mapping[str, Grader] = {"exact": Boxed(), "lenient": Lenient(), "qwen": Lenient()}


def graders_for(answer_kind: str) -> Mapping[str, Grader]:
    return _ALL
