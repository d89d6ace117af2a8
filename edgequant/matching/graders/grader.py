"""What every grader is: a text's answer as the text grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """From ``end`` characters on, the text says ``value``; None: nothing that can be read."""

    end: int
    value: str | None


class Grader(Protocol):
    """Reads an answer out of a text, pure."""

    name: str

    def readings(self, text: str) -> list[Reading]:
        """What every beginning of the text says, by rising ends."""
        ...

    def agrees(self, value: str, expected: str) -> bool:
        """Whether a value that was read is the right answer."""
        ...
