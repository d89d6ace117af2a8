r"""Find ``\boxed{}`` (and ``\fbox{}``) in a text that grows."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgequant.matching.graders.numbers import MAX_CONTENT_CHARACTERS

_BOX = r"\\(?:boxed|fbox|framebox)(?![A-Za-z])"
_TOKEN = re.compile(rf"{_BOX}[ \t\n]*\{{|{_BOX}|\\[{{}}\\]|[{{}}]")
BARE_CHARACTERS = 40
"""How far the content of a box without braces is looked for."""
# A box without braces holds what follows, if that begins with a number.
_BARE = re.compile(rf"[ \t]{{0,8}}(?:\\?\$)?[^$\n{{}}\\]{{0,{BARE_CHARACTERS}}}")
_BARE_START = re.compile(r"[ \t]{0,8}(?:\\?\$ ?)?[-+−]?(?:\\?[$€£¥])? ?\d")
_BARE_OPERATION = re.compile(r"\\(?:[dt]?frac|cdot|times|div|pi|pm|sqrt|over)")
_BARE_END = re.compile(r"[.,;:](?=\s)")


@dataclass(frozen=True, slots=True)
class Box:
    """From ``end`` characters on, and until the next one, this is the last box.

    Attributes:
        end: where its closing brace ends; of a box without braces, where this content ends.
        content: what it holds, at most :data:`.numbers.MAX_CONTENT_CHARACTERS` + 1 characters.
    """

    end: int
    content: str


@functools.lru_cache(maxsize=4)
def last_boxes(text: str, counts: Callable[[str], bool]) -> tuple[Box, ...]:
    r"""How the last box changes as the text grows, with strictly rising ends.

    A box counts from its closing brace on; ``\boxed 72``, which has none, from its first digit on,
    and grows with the text. Of several boxes the one that opened last counts. Escaped braces
    (``\{``) are plain characters.

    Args:
        text: of an answer.
        counts: whether a content is one to speak of; a box where it is not never hides another.
    """
    boxes: list[Box] = []
    last_opening = -1
    for opening, box in _closing_boxes(text):
        if opening < last_opening or not counts(box.content):
            continue
        last_opening = opening
        if boxes and boxes[-1].end == box.end:
            boxes.pop()
        boxes.append(box)
    return tuple(boxes)


def has_box(text: str) -> bool:
    """There is a whole box, whatever it holds."""
    return next(_closing_boxes(text), None) is not None


def _closing_boxes(text: str) -> Iterator[tuple[int, Box]]:
    """Where each box opened, and the box, in the order in which they become readable."""
    open_braces: list[int | None] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token.endswith("{") and len(token) > 2:
            open_braces.append(match.end())
        elif token == "{":
            open_braces.append(None)
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start is not None:
                end = min(match.start(), start + MAX_CONTENT_CHARACTERS + 1)
                yield start, Box(match.end(), text[start:end])
        elif len(token) > 2:
            for box in _bare_boxes(text, match.end()):
                yield match.end(), box


def _bare_boxes(text: str, start: int) -> Iterator[Box]:
    """The contents of a box without braces, character by character."""
    first = _BARE_START.match(text, start)
    span = _BARE.match(text, start)
    if first is None or span is None:
        return
    stop = _BARE_END.search(text, first.end(), span.end())
    end = max(first.end(), min(span.end(), stop.start() if stop else span.end()))
    for position in range(first.end(), end + 1):
        yield Box(position, text[start:position].rstrip(" .,;:"))
    operation = _BARE_OPERATION.match(text, end)
    if operation is not None:
        yield Box(operation.end(), text[start : operation.end()])
