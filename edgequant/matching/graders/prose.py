"""Numbers in running text, read at every length of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest

from edgequant.matching.graders import words as w
from edgequant.matching.graders.grader import Reading, changes_only
from edgequant.matching.graders.numbers import MAX_DIGITS

OTHER = ""
"""A number that is no integer, or an expression without a result: an answer, and a wrong one."""

_RUN = re.compile(r"\d(?:[\d.,]|\{,\}(?=\d))*", re.ASCII)
_LONGEST_RUN = 64
_NUMBER = re.compile(r"(?:[1-9]\d{0,2}(?:(?:,|\{,\})\d{3})+(?!\d)|\d+)(?:\.\d+)?", re.ASCII)
_POINT = "."
"""The digits are those behind a decimal point."""
# A minus before the digits, or before their currency; no dash between two.
_MINUS = re.compile(r"(?<![\w)\]}\-−–－])[-−–－](?:\\?[$€£¥₹])?$")
# ".5", but not the 5 of "so...5".
_DECIMAL_PART = re.compile(r"(?<![\w.])\.$")
# One character for one: places in the text stay what they are.
_DIGITS = {code: chr(code - 0xFEE0) for code in range(0xFF10, 0xFF1A)} | {0xFF0C: ",", 0xFF0E: "."}


def with_ascii_digits(text: str) -> str:
    """The text with full-width digits as plain ones, character for character."""
    return text if text.isascii() else text.translate(_DIGITS)


def last_numbers(text: str, wanted: str | None = None) -> list[Reading]:
    """The last number of the growing text: an integer, or :data:`OTHER`.

    Args:
        text: of an answer.
        wanted: as :meth:`.grader.Grader.readings` takes it, in canonical form.
    """
    runs = _RUN.finditer(text)
    if wanted is not None:
        runs = runs_of_interest(runs, functools.partial(_may_say, wanted.lstrip("-")))
    return changes_only(reading for run in runs for reading in _run(text, run))


def runs_of_interest(
    runs: Iterable[re.Match[str]], may_say: Callable[[str], bool]
) -> Iterator[re.Match[str]]:
    """Runs that may say what is wanted, and the first one behind each, which says something else.

    Args:
        runs: of digits, in order.
        may_say: whether a run does at one of its lengths.
    """
    said = True
    for run in runs:
        before, said = said, may_say(run.group())
        if said or before:
            yield run


@functools.lru_cache(maxsize=65_536)
def _may_say(digits: str, run: str) -> bool:
    """Whether a run says a number at one of its lengths, whatever its sign."""
    return any(_value(run[:n], "") == digits for n in range(1, len(run[:_LONGEST_RUN]) + 1))


def _run(text: str, run: re.Match[str]) -> Iterator[Reading]:
    start, longest = run.start(), run.start() + _LONGEST_RUN
    sign = _sign(text, start)
    for end in range(start + 1, min(run.end(), longest) + 1):
        yield Reading(end, _value(text[start:end], sign))
    if run.end() > longest:
        yield Reading(longest + 1, OTHER)


def _run_value(text: str, run: re.Match[str]) -> str:
    return _value(run.group()[: _LONGEST_RUN + 1], _sign(text, run.start()))


def _value(run: str, sign: str) -> str:
    """The last number of a run of digits, commas and dots; the sign is the first number's."""
    if len(run) > _LONGEST_RUN:
        return OTHER
    whole, fraction = run, ""
    if not run.isdigit():
        number = last_match(_NUMBER, run)
        if number is None:
            return OTHER
        sign = sign if number.start() == 0 else ""
        whole, _, fraction = number.group().partition(".")
        whole = re.sub(r"[{},]", "", whole)
    if sign == _POINT or fraction.strip("0") or len(whole) > MAX_DIGITS:
        return OTHER
    return f"{sign if whole.strip('0') else ''}{whole.lstrip('0') or '0'}"


def _sign(text: str, start: int) -> str:
    """What stands before the digits that begin at ``start``."""
    before = text[max(start - 4, 0) : start]
    if not before or before[-1] in " \n{(":
        return ""
    if _DECIMAL_PART.search(before):
        return _POINT
    return "-" if _MINUS.search(before) else ""


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of a pattern's matches."""
    last = None
    for match in pattern.finditer(text):
        last = match
    return last


# ---- The number behind a marker ----------------------------------------------------------------

REACH_CHARACTERS = 80
"""How far behind a marker ("####", "answer is") its number is looked for."""


def after_markers(
    text: str,
    marker: re.Pattern[str],
    read: Callable[[str], str | None],
    reach: int = REACH_CHARACTERS,
) -> list[Reading]:
    """What stands behind the last marker that has something behind it, in the growing text.

    Args:
        text: of an answer.
        marker: whose matches end at the same place however the text goes on.
        read: what the characters behind a marker say; None: nothing.
        reach: of these at most so many are read, and none beyond the next marker.
    """
    readings: list[Reading] = []
    matches = list(marker.finditer(text))
    base: str | None = None
    for match, following in zip_longest(matches, matches[1:]):
        start = match.end()
        last = min(start + reach, following.end() - 1 if following else len(text))
        for end in range(start, last + 1):
            value = read(text[start:end])
            readings.append(Reading(end, base if value is None else value))
        if following:
            value = read(text[start : min(start + reach, following.start())])
            base = base if value is None else value
    return changes_only(readings)


_ANY_DIGIT = re.compile(r"\d", re.ASCII)
_DENIED = re.compile(r"n't|\s+not\b")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_STEP = re.compile(
    r"[ )\]}$%]*(?:[A-Za-z]{1,12} ?){0,2}[ )\]}$]*"
    r"(=|≈|→|\\approx|[-+*/×÷·−–x]|\\(?:times|cdot|div))[ ({\[]*[-−–]?\\?[$€£¥]?(?=\d)"
)
_MULTIPLIER = re.compile(r"[ ~]*([A-Za-z]+)")


def number_after(window: str) -> str | None:
    """The number of a marker's line, or of the next one that is not empty.

    An equation counts its last side; an expression without a result is :data:`OTHER`.
    """
    if not _ANY_DIGIT.search(window) or _DENIED.match(window):
        return None
    for line in window.split("\n"):
        first = _RUN.search(line)
        if first is not None:
            return _chain(line, first)
        words = _COMMAND.sub("", line).strip()
        if words.endswith((".", "!", "?")) and any(c.isalpha() for c in words):
            return None
    return None


def _chain(line: str, first: re.Match[str]) -> str:
    run, value, is_result = first, _run_value(line, first), True
    while True:
        step = _STEP.match(line, run.end())
        following = _RUN.match(line, step.end()) if step else None
        if step is None or following is None:
            break
        is_result = step.group(1) in ("=", "≈", "→", "\\approx")
        run, value = following, _run_value(line, following)
    word = _MULTIPLIER.match(line, run.end())
    if word and (word.group(1).lower() in w.MULTIPLIERS | w.DENOMINATORS):
        return OTHER
    return value if is_result else OTHER


def first_of(*rungs: list[Reading]) -> list[Reading]:
    """At every length, what the first rung that says anything says."""
    events = sorted(
        ((r.end, index, r.value) for index, rung in enumerate(rungs) for r in rung),
        key=lambda event: event[:2],
    )
    current: list[str | None] = [None] * len(rungs)
    merged: list[Reading] = []
    for end, index, value in events:
        current[index] = value
        said = next((v for v in current if v is not None), None)
        merged.append(Reading(end, said))
    return changes_only(merged)
