r"""Graders for multiple choice: the letter of the chosen option, A to J.

``letter`` is the headline and reads the last closed box; ``letter-lenient`` also takes what else
reads like a choice, since many models answer these tasks without a box.
"""

from __future__ import annotations

import functools
import re

from edgequant.matching.graders.boxes import has_box, last_boxes
from edgequant.matching.graders.grader import Reading, changes_only, last_value
from edgequant.matching.graders.numbers import plain
from edgequant.matching.graders.prose import after_markers, first_of

LETTERS = "ABCDEFGHIJ"
_LONGEST_CONTENT = 400
_NAMED = (
    r"(?:(?:the\s+)?(?:correct\s+|final\s+|best\s+)?"
    r"(?:answer|option|choice|letter)\s*(?:is|:)?\s*:?\s*)"
)
_ALONE = re.compile(rf"{_NAMED}*\(?\s*([A-Ja-j])\s*[).:,]*", re.IGNORECASE)
# "B. Paris", "B) Paris", "(B) Paris", "B: Paris", "B - Paris"; but no "A cat".
_WITH_TEXT = re.compile(
    rf"{_NAMED}*(?:\(\s*([A-J])\s*\)|([A-J])\s*[).:]|([A-J])\s+-\s)(.*)",
    re.IGNORECASE | re.DOTALL,
)
_OTHER_LETTER = re.compile(r"(?<![A-Za-z'])(?:\([A-Ja-j]\)|[B-HJ](?![A-Za-z']))")


class Letter:
    """The letter in the last closed box that holds any; boxes without one are passed over."""

    name = "letter"

    def readings(self, text: str, wanted: str | None = None) -> list[Reading]:
        """As :meth:`.grader.Grader.readings`: one for each box that counts."""
        return changes_only(
            Reading(box.end, read_letter(box.content)) for box in last_boxes(text, _holds_letter)
        )

    def agrees(self, value: str, expected: str) -> bool:
        """The same letter."""
        return value == expected.strip().strip("().").upper()

    def basis(self, text: str) -> str:
        """As :meth:`.grader.Grader.basis`."""
        boxes = last_boxes(text, _holds_letter)
        if not boxes:
            return "no closed box with a letter" if has_box(text) else "no closed box"
        if read_letter(boxes[-1].content) is None:
            return "the last box, which holds no one letter"
        return "the last box"


class LenientLetter(Letter):
    """The box's letter, else the one behind "answer is" or "####", else the last in parentheses."""

    name = "letter-lenient"

    def readings(self, text: str, wanted: str | None = None) -> list[Reading]:
        """As :meth:`.grader.Grader.readings`."""
        return first_of(*self._rungs(text).values())

    def basis(self, text: str) -> str:
        """As :meth:`.grader.Grader.basis`."""
        for name, readings in self._rungs(text).items():
            if last_value(readings) is not None:
                return name
        return "no letter at all"

    def _rungs(self, text: str) -> dict[str, list[Reading]]:
        return {
            "the last box": super().readings(text),
            "the letter behind the last “answer is” or “####”": after_markers(
                text, _MARKER, letter_after, _REACH
            ),
            "the last letter that is called correct": [
                Reading(match.end(), match.group(1)) for match in _CALLED_CORRECT.finditer(text)
            ],
            "the last letter in parentheses": [
                Reading(match.end(), match.group(1).upper())
                for match in _PARENTHESES.finditer(text)
            ],
            "the letter that the text begins with": after_markers(
                text, _BEGINNING, first_letter, _REACH
            ),
        }


@functools.lru_cache(maxsize=65_536)
def read_letter(content: str) -> str | None:
    r"""The one letter that a box's content chooses: ``B``, ``(B)``, ``\text{B. Paris}``."""
    if len(content) > _LONGEST_CONTENT:
        return None
    text = plain(content).strip(" *_`\"'[]{}$").strip()
    alone = _ALONE.fullmatch(text)
    if alone is not None:
        return alone.group(1).upper()
    match = _WITH_TEXT.fullmatch(text)
    if match is None or _OTHER_LETTER.search(match.group(4)):
        return None
    return (match.group(1) or match.group(2) or match.group(3)).upper()


@functools.lru_cache(maxsize=65_536)
def _holds_letter(content: str) -> bool:
    if len(content) > _LONGEST_CONTENT:
        return True
    return bool(re.search(r"(?<![A-Za-z])[A-Ja-j](?![A-Za-z])", plain(content)))


# ---- Without a box -----------------------------------------------------------------------------

_REACH = 40
_MARKER = re.compile(
    r"####|(?:answer|option|choice)(?:\s{1,4}(?:is|(?:would|must|should) be)|\s{0,4}\*{0,2}:| -)"
    r"|\bI (?:would )?(?:choose|pick|select)",
    re.IGNORECASE,
)
_CALLED_CORRECT = re.compile(
    rf"(?<![\w'’])\(?([{LETTERS}])\)?\*{{0,2}} is (?:the )?(?:most )?(?:correct|right|best|true)"
)
_BEGINNING = re.compile(r"\A")
_PARENTHESES = re.compile(rf"(?<![\w)])\(([{LETTERS}])\)")
_DRESS = r"[\s:*_`\"'$\\\[{]*"
_AFTER = re.compile(
    rf"{_DRESS}(?:(?:most likely|probably|clearly|simply|thus|therefore|indeed|option|choice|letter"
    rf"|answer|text|textbf|mathrm|mathbf|boxed|fbox)(?![a-z]){_DRESS}){{0,3}}"
    # "A" and "I" are words too.
    r"(?:\(\s*([A-Ja-j])\s*(?:\)|$)|([A-J])(?![\w'’])(?:(?<![AI])|(?!\s+[a-z])))"
)
_FIRST = re.compile(rf"{_DRESS}\(?([A-J])(?:[).:*](?!\w)|\s*$|\s*\n)")


def letter_after(window: str) -> str | None:
    """The letter that a marker's next words choose."""
    match = _AFTER.match(window)
    return (match.group(1) or match.group(2)).upper() if match else None


def first_letter(window: str) -> str | None:
    """The letter that a text begins with, or is: ``B``, ``B. Paris``."""
    match = _FIRST.match(window)
    return match.group(1) if match else None
