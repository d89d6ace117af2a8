"""What a grader is: from an answer's text to what it says, at every length of the text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Reading(NamedTuple):
    """From ``end`` characters on, and until the next reading, the text says ``value``.

    Attributes:
        end: characters of the text that are enough for this reading.
        value: what it says ("72", "-3", "B"); None: nothing that counts.
    """

    end: int
    value: str | None


class Grader(Protocol):
    """One set of rules. It is pure and never raises, and its time is linear in the text."""

    name: str

    def readings(self, text: str, wanted: str | None = None) -> list[Reading]:
        """Every change of what the growing text says, with strictly rising ends.

        The last reading with ``end <= n`` is what ``text[:n]`` alone would be read as; before the
        first one, the text says nothing.

        Args:
            text: of an answer.
            wanted: an expected answer, where nothing but agreement with it is asked for: of values
                that do not agree one, or none, may stand for another then. It takes less time.
        """
        ...

    def agrees(self, value: str, expected: str) -> bool:
        """What was read is the expected answer."""
        ...

    def basis(self, text: str) -> str:
        """Where the whole text's reading comes from, in words: "the last box"."""
        ...


def last_value(readings: Sequence[Reading]) -> str | None:
    """What the whole text says."""
    return readings[-1].value if readings else None


def value_at(readings: Sequence[Reading], characters: int) -> str | None:
    """What the first ``characters`` of the text say."""
    index = bisect_right(readings, characters, key=lambda reading: reading.end)
    return readings[index - 1].value if index else None


def readings_by_token(readings: Iterable[Reading], ends: Sequence[int]) -> list[Reading]:
    """The same readings with ``end`` counted in tokens.

    Args:
        readings: those of a text.
        ends: how many characters there are with each token, in order; never falling.

    Returns:
        Readings with strictly rising ends: the first ``end`` tokens are enough for ``value``.
    """
    by_token: list[Reading] = []
    for reading in readings:
        tokens = bisect_left(ends, reading.end) + 1
        if by_token and by_token[-1].end == tokens:
            by_token.pop()  # The same token overwrites it.
        by_token.append(Reading(tokens, reading.value))
    return by_token


def changes_only(readings: Iterable[Reading]) -> list[Reading]:
    """Readings without those that say what the one before said, the latest at each end."""
    kept: list[Reading] = []
    for reading in readings:
        if kept and kept[-1].end == reading.end:
            kept.pop()
        if reading.value != (kept[-1].value if kept else None):
            kept.append(reading)
    return kept
