r"""The grader ``qwen``: what Qwen2.5-Math's evaluation reads, on whole and on cut answers.

Written from what that parser does, for integers as expected answers. It takes whatever the text
has: an open box counts with what is in it so far, and a text without any marker says its last
number. So a cut answer is often right here by a number on the way.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from edgequant.matching.graders.grader import Reading, changes_only
from edgequant.matching.graders.prose import last_match, runs_of_interest

LONGEST = 100
"""What is longer than this, in characters, is no number."""

_FINAL = "final answer is $"
_HOPE = "$. I hope"
_TAILS = ("he answer is", "final answer is")
_CHINESE = "答案是"


class Qwen:
    """The last box (open or closed), else what follows "he answer is", else the last number."""

    name = "qwen"

    def readings(self, text: str, wanted: str | None = None) -> list[Reading]:
        """As :meth:`.grader.Grader.readings`; values are numbers, not only integers."""
        numbers: Callable[[str], _Rule] = functools.partial(_numbers, wanted=wanted)
        rules = (_final_hope, _boxes, *map(_tails, _TAILS), _chinese, numbers)
        readings: list[Reading] = []
        until = len(text) + 1
        # The rules that win begin somewhere and then hold to the end: from the strongest down.
        for find in rules:
            begin, of_rule = find(text)
            if begin < until:
                readings = [Reading(max(r.end, begin), r.value) for r in of_rule(until)] + readings
                until = begin
        return changes_only(readings)

    def agrees(self, value: str, expected: str) -> bool:
        """Equal to one part in ten thousand; a hundredth and a hundredfold (per cent) count too."""
        return _agrees(value, expected)

    def basis(self, text: str) -> str:
        """As :meth:`.grader.Grader.basis`."""
        if _final_hope(text)[0] <= len(text):
            return "between “final answer is $” and “$. I hope”"
        if "boxed" in text:
            _, _, content = text.rpartition("boxed")
            closed = not content.startswith("{") or _closing(content, len(content)) is not None
            return "the last box" if closed else "the last box, which is still open"
        for words in (*_TAILS, _CHINESE):
            if words in text:
                return f"what follows “{words}”"
        return "the last number of the text"


@functools.lru_cache(maxsize=65_536)
def _agrees(value: str, expected: str) -> bool:
    try:
        read, wanted = float(value), float(expected.replace(",", ""))
    except (ValueError, OverflowError):
        return value.strip().lower() == expected.strip().lower()
    return any(
        math.isclose(candidate, read, rel_tol=1e-4)
        for candidate in (wanted, wanted / 100, wanted * 100)
    )


_Rule = tuple[int, Callable[[int], Iterator[Reading]]]
"""From how many characters on a rule holds, and its readings below another number of them."""


def _final_hope(text: str) -> _Rule:
    first, hope = text.find(_FINAL), text.find(_HOPE)
    never = len(text) + 1
    if first < 0 or hope < 0:
        return never, lambda until: iter(())
    start = first + len(_FINAL)
    begin = max(start, hope + len(_HOPE))

    def readings(until: int) -> Iterator[Reading]:
        end = text.find(_HOPE, start)
        yield from _growing(text, start, begin, until, end if end >= 0 else None, len(_HOPE))

    return begin, readings


def _boxes(text: str) -> _Rule:
    def readings(until: int) -> Iterator[Reading]:
        for start, stop in _spans(text, "boxed", until):
            if text[start : start + 1] == "{":
                yield Reading(start, None)
                close = _closing(text[start:stop], stop - start)
                end = None if close is None else start + close
                yield from _growing(text, start + 1, start + 1, stop, end, 1)
            else:
                end = text.find("$", start, stop)
                yield from _growing(text, start, start, stop, end if end >= 0 else None, 1)

    return _begin(text, "boxed"), readings


def _tails(words: str) -> Callable[[str], _Rule]:
    def rule(text: str) -> _Rule:
        def readings(until: int) -> Iterator[Reading]:
            for start, stop in _spans(text, words, until):
                yield from _growing(text, start, start, stop, None, 0)

        return _begin(text, words), readings

    return rule


def _chinese(text: str) -> _Rule:
    begin = _begin(text, _CHINESE)

    def readings(until: int) -> Iterator[Reading]:
        following = text.find(_CHINESE, begin, until)
        end = following if following >= 0 else None
        yield from _growing(text, begin, begin, until, end, len(_CHINESE), paragraph=True)

    return begin, readings


def _numbers(text: str, wanted: str | None) -> _Rule:
    return 0, lambda until: _last_numbers(text, until, wanted)


def _begin(text: str, words: str) -> int:
    first = text.find(words)
    return len(text) + 1 if first < 0 else first + len(words)


def _spans(text: str, words: str, until: int) -> Iterator[tuple[int, int]]:
    """For each occurrence, where it ends and where the next one does; lengths below ``until``."""
    start = text.find(words) + len(words)
    while start < until:
        following = text.find(words, start)
        stop = until if following < 0 else min(until, following + len(words))
        yield start, stop
        if following < 0:
            return
        start = following + len(words)


def _closing(text: str, stop: int) -> int | None:
    """Where the brace that opens the text closes."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, 0, stop):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.start()
    return None


def _growing(
    text: str,
    start: int,
    first: int,
    until: int,
    end: int | None,
    closer: int,
    *,
    paragraph: bool = False,
) -> Iterator[Reading]:
    """What the text from ``start`` on says at lengths from ``first`` to below ``until``.

    Args:
        text: of an answer.
        start: where what is read begins.
        first: the first length to give a reading for.
        until: the first length not to give one for.
        end: where a closing text begins, if it comes; it counts once it is whole.
        closer: its characters.
        paragraph: only what stands before an empty line is read.
    """
    closed = until if end is None else min(until, end + closer)
    for length in range(first, min(closed, start + LONGEST + 1)):
        yield Reading(length, _number(_paragraph(text[start:length], paragraph)))
    if closed > start + LONGEST + 1:
        yield Reading(
            max(first, start + LONGEST + 1),
            _number(_paragraph(text[start : start + LONGEST + 1], paragraph)),
        )
    if end is not None and end + closer < until:
        yield Reading(end + closer, _number(_paragraph(text[start:end], paragraph)))


def _paragraph(text: str, paragraph: bool) -> str:
    return text.strip().split("\n\n")[0] if paragraph else text


# ---- The last number ---------------------------------------------------------------------------

_RUN = re.compile(r"-?,*[\d.][\d.,]*", re.ASCII)
_NUMBER = re.compile(r"-?\d*\.?\d+", re.ASCII)


def _last_numbers(text: str, until: int, wanted: str | None) -> Iterator[Reading]:
    runs = _RUN.finditer(text, 0, max(until - 1, 0))
    if wanted is not None:
        runs = runs_of_interest(runs, functools.partial(_may_agree, wanted))
    for run in runs:
        for length, value in _of_run(run.group()):
            yield Reading(run.start() + length, value)


@functools.lru_cache(maxsize=65_536)
def _of_run(run: str) -> tuple[tuple[int, str | None], ...]:
    """What a run of digits says from each of its lengths on."""
    found: list[tuple[int, str | None]] = []
    for length in range(1, min(len(run), LONGEST) + 1):
        # Commas fall out first: "1, 2" and "1,2" are 2 and 12 there.
        sofar = run[:length].replace(",", "")
        number = None if sofar.isdigit() else last_match(_NUMBER, sofar)
        if number is not None or sofar.isdigit():
            found.append((length, _canonical(number.group() if number else sofar)))
    if len(run) > LONGEST:
        found.append((LONGEST + 1, None))
    return tuple(found)


@functools.lru_cache(maxsize=65_536)
def _may_agree(wanted: str, run: str) -> bool:
    return any(value is not None and _agrees(value, wanted) for _, value in _of_run(run))


# ---- The number that a text stands for ---------------------------------------------------------

_DROPPED = re.compile(
    r"\\[!,;: ]|\\left|\\right|\^\s*\{?\\circ\}?|\\[$]|\$|\\[()]|\\%|%|\\mathbf|\\mbox\{[^}]*\}"
    r"|['\"]|\\(?=[{}])"
)
_TRAILING_TEXT = re.compile(r"\\text\{.*\}$")
_TEXT = re.compile(r"\\text\{(.*?)\}")
_UNITS = re.compile(
    r"(?<![A-Za-z])(?:degrees?|miles?|mph|kmph|feet|ft|inch(?:es)?|in|yards?|kg|gm?|lbs?|km|cm|mm"
    r"|met(?:re|er)s?|m|lit(?:re|er)s?|gallons?|gal|hours?|hrs?|h|minutes?|min|seconds?|secs?|s"
    r"|days?|months?|years?|yrs?|am|pm|percent|dollars?|cents?|rupees?|rs|units?|women|men|man"
    r"|apples?|tiles?|coins?|toys?|sq|square|cubic|acres?)(?![A-Za-z])"
)
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}|\\[dt]?frac(\d)(\d)")
_INTEGER = re.compile(r"-?[1-9]\d*|0", re.ASCII)
_ARITHMETIC = re.compile(r"[\d.+*/()^-]+", re.ASCII)


@functools.lru_cache(maxsize=65_536)
def _number(text: str) -> str | None:
    """The number in canonical form ("72", "72.5"), or None."""
    if len(text) > LONGEST or not re.search(r"\d", text, re.ASCII):
        return None
    text = re.sub(r"\n\s*", "", text.strip()).removeprefix(":").removesuffix(".").removesuffix("/")
    text = text.strip().rstrip(".")
    text = _TRAILING_TEXT.sub("", text).strip() or text
    text = _DROPPED.sub("", _TEXT.sub(r"\1", text))
    text = _UNITS.sub("", text)
    text = re.sub(r"\s+", "", text)
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = _FRACTION.sub(_as_division, text)
    text = re.sub(r"\\(?:times|cdot)", "*", text).replace("\\div", "/")
    bare = text[1:-1] if re.fullmatch(r"[({\[][\w.,-]*[)}\]]", text, re.ASCII) else text
    return _canonical(bare.replace(",", ""))


def _as_division(match: re.Match[str]) -> str:
    above, below = match.group(1) or match.group(3), match.group(2) or match.group(4)
    return f"(({above})/({below}))"


def _canonical(text: str) -> str | None:
    if _INTEGER.fullmatch(text):
        return text
    if not _ARITHMETIC.fullmatch(text):
        return None
    try:
        value = _evaluate(ast.parse(text.replace("^", "**"), mode="eval").body)
        return str(value.numerator) if value.denominator == 1 else repr(float(value))
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        # Python reads no leading zeros.
        return text.lstrip("0") or "0" if text.isdigit() and len(text) <= LONGEST else None


_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _evaluate(node: ast.expr) -> Fraction:
    """Arithmetic on numbers, exactly.

    Raises:
        ValueError: anything else, or a power that is no small one.
        ArithmeticError: a division by zero.
    """
    match node:
        case ast.Constant(value=int() | float() as value):
            return Fraction(str(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _evaluate(left), _evaluate(right)
            if power.denominator != 1 or abs(power) > 16 or abs(base) > 10**6:
                raise ValueError("no small power")
            return base ** int(power)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left), _evaluate(right))
    raise ValueError("no arithmetic")
