r"""Grade an answer's text: the integer in the last ``\boxed{}``, and fallbacks as a score apart.

The rules are written down in ``docs/verbs/match.md``; all of it is pure and linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

MAX_CONTENT_CHARACTERS = 400
"""A box with more in it than this is no integer."""

MAX_DIGITS = 40
"""A number with more digits than this is no answer."""

_BRACE_OR_BOX = re.compile(r"\\boxed[ \t\n]*\{|\\[{}\\]|[{}]")
# {,} is LaTeX's comma without a space; \, \! \; \: and ~ are spaces.
_SPACING = re.compile(r"\\[,!;: ]|~|\\q?quad(?![A-Za-z])")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
# Between two digits a sign is no currency and no percent: "4%2" is not 42.
_CURRENCY = re.compile(r"(?<!\d)\\?[$%€£¥]|\\?[$%€£¥](?!\d)")
_LEFT_HAND_SIDE = re.compile(r"\s*[A-Za-z_][A-Za-z_ ]*=\s*")
_INTEGER = re.compile(r"([-+]?)\s*((?:\d{1,3}(?:,\d{3})+|\d+))(?:\.0*)?", re.ASCII)
_UNIT = re.compile(r"[A-Za-z]{2,}(?:[ /][A-Za-z]+)*\.?")
# "5 dozen" is not 5, and neither is "5 or six"; "5 feet squared" is.
_MULTIPLIER = re.compile(
    r"\b(?:dozens?|hundreds?|thousands?|millions?|billions?|trillions?|pairs?|scores?|halves|half"
    r"|third|mod|plus|minus|or)\b|^\s*(?:squared|cubed)\b",
    re.IGNORECASE,
)
_HASH_ANSWER = re.compile(r"####")
_ANSWER_IS = re.compile(r"answer\s{1,10}is", re.IGNORECASE)
# How far behind such words their number is looked for, on the same line.
_REACH_CHARACTERS = 80
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Grade:
    r"""What an answer's text says.

    Attributes:
        boxed: the integer in the last whole ``\boxed{}``; None without a box, or where the box
            holds something else. The main score compares this one.
        fallback: what the fallbacks find ("#### N", then "answer is N", then the last number).
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
    if events is None:
        events = box_events(text)
    return Grade(
        boxed=events[-1].value if events else None,
        fallback=find_fallback(text),
        has_box=bool(events),
    )


def box_events(text: str) -> list[BoxEvent]:
    r"""How the last whole ``\boxed{}`` changes as the text grows.

    A box counts from its closing brace on. Of several whole boxes, the one that opened last
    counts; one that has not closed yet does not. Escaped braces (``\{``) are plain characters.
    """
    events: list[BoxEvent] = []
    open_braces: list[int | None] = []
    last_opening = -1
    for match in _BRACE_OR_BOX.finditer(text):
        token = match.group()
        if token.startswith("\\boxed"):
            open_braces.append(match.end())
        elif token == "{":
            open_braces.append(None)
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and start > last_opening:
                last_opening = start
                content = text[start : min(match.start(), start + MAX_CONTENT_CHARACTERS + 1)]
                events.append(BoxEvent(match.end(), parse_integer(content)))
    return events


def box_events_by_token(
    pieces: Sequence[str], events: Sequence[BoxEvent] | None = None
) -> list[BoxEvent]:
    """The same as :func:`box_events`, with ``end`` counted in tokens.

    Args:
        pieces: the text of each token, in order.
        events: those of the tokens' joined text, if known.

    Returns:
        Events with strictly rising ``end``: the first ``end`` tokens are enough for ``value``.
    """
    ends = list(accumulate(len(piece) for piece in pieces))
    by_token: list[BoxEvent] = []
    token = 0
    for event in box_events("".join(pieces)) if events is None else events:
        while ends[token] < event.end:
            token += 1
        if by_token and by_token[-1].end == token + 1:
            by_token.pop()
        by_token.append(BoxEvent(token + 1, event.value))
    return by_token


def parse_integer(content: str) -> int | None:
    r"""The integer that a box's content stands for, or None.

    ``1,234`` ``\$1{,}234.00`` ``42.`` ``x = 42`` ``42\text{ apples}`` ``42 apples`` ``-7`` ``50\%``
    are integers; ``1,45`` ``42.5`` ``3x`` ``5 dozen`` ``\frac{84}{2}`` ``1, 2`` are not.
    """
    if len(content) > MAX_CONTENT_CHARACTERS:
        return None
    text = content.replace("−", "-").replace("{,}", ",")
    text = _SPACING.sub(" ", text)
    text = re.sub(r"(?<=\d) +(?=\d{3}(?!\d))", ",", text) if "\\," in content else text
    text = re.sub(r"(?<=,) +(?=\d{3}(?!\d))", "", text) if "\\!" in content else text
    text = _TEXT_COMMAND.sub(_unwrap_text, text)
    text = _CURRENCY.sub("", text).replace("\\(", "").replace("\\)", "")
    left = _LEFT_HAND_SIDE.match(text)
    if left:
        text = text[left.end() :]
    text = text.strip().strip("{}").strip()
    match = _INTEGER.match(text)
    if match is None:
        return None
    rest = text[match.end() :]
    if rest.strip() and not (rest[0].isspace() and _UNIT.fullmatch(rest.strip())):
        return None
    if _MULTIPLIER.search(rest):
        return None
    digits = match.group(2).replace(",", "")
    if len(digits) > MAX_DIGITS:
        return None
    return -int(digits) if match.group(1) == "-" else int(digits)


def _unwrap_text(match: re.Match[str]) -> str:
    """Keep the text of ``\\text{}``, set apart so that ``42\\text{kg}`` reads "42 kg"."""
    return f" {match.group(1)} "


def find_fallback(text: str) -> int | None:
    """The answer of a text by the fallbacks alone: each is tried in turn, its last hit counts.

    "#### N", then "answer is N", then the last number; what is no integer gives None.
    """
    for pattern in (_HASH_ANSWER, _ANSWER_IS):
        found = _last(pattern, text)
        if found is not None:
            line, _, _ = text[found.end() : found.end() + _REACH_CHARACTERS].partition("\n")
            number = _NUMBER.search(line)
            return _number_value(number.group()) if number else None
    found = _last(_NUMBER, text)
    return _number_value(found.group()) if found else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for match in pattern.finditer(text):
        last = match
    return last


def _number_value(number: str) -> int | None:
    return parse_integer(number.rstrip(",")) if len(number) <= MAX_CONTENT_CHARACTERS else None
