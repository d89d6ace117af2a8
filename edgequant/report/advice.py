"""Which quantization to take within which time: the table of best choices, put into few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgequant.report.style import percent, tick_duration
from edgequant.report.words import choice_words

Row = Mapping[str, Any]
"""A row of a table as plain values, see :func:`edgequant.core.tables.records`."""


@dataclass(frozen=True)
class Advice:
    """Take one quantization within some neighbouring time limits.

    Attributes:
        quantization: the one to take: no other is better beyond chance at any of these limits.
        first: the first row of the table of best choices in which it is the best one.
        last: the last such row.
        from_seconds: the first of the limits.
        until_seconds: the last of them; None where it holds for every later one, too.
        end_seconds: the last of them in any case.
        rivals: other quantizations that cannot be told apart from it, each with the limits at
            which that is so, in words.
    """

    quantization: str
    first: Row
    last: Row
    from_seconds: float
    until_seconds: float | None
    end_seconds: float
    rivals: str

    @property
    def within(self) -> str:
        """``28 ms to 49 ms``, ``63 ms and later``."""
        start = tick_duration(self.from_seconds)
        if self.until_seconds is None:
            return f"{start} and later"
        end = tick_duration(self.until_seconds)
        return start if start == end else f"{start} to {end}"

    @property
    def right(self) -> str:
        """``28.0 to 84.0 %``; with their times where it is not the best one at both ends."""
        first, last = (percent(row["accuracy"]) for row in (self.first, self.last))
        start, end = (float(row["time_limit_seconds"]) for row in (self.first, self.last))
        if (start, end) != (self.from_seconds, self.end_seconds):
            opening = f"{first} within {tick_duration(start)}"
            return opening if start == end else f"{opening} to {last} within {tick_duration(end)}"
        return first if first == last else f"{first.removesuffix(' %')} to {last}"


def advise(best: Sequence[Row], source: str) -> list[Advice]:
    """The fewest runs of time limits so that in each one quantization is never surely worse.

    A leader stays for as long as no other one is better beyond chance: the lead of a few questions
    that changes with each time limit is no advice.

    Args:
        best: rows of the table of best choices.
        source: latency source to speak about.
    """
    rows = sorted(
        (r for r in best if r["latency_source"] == source and r["quantization"] is not None),
        key=lambda row: float(row["time_limit_seconds"]),
    )
    spans = list(_spans(rows))
    return [
        _advice(leader, members, last=place == len(spans) - 1)
        for place, (leader, members) in enumerate(spans)
    ]


def sentences(advice: Sequence[Advice]) -> list[str]:
    """The same as sentences, one for each leader."""
    if not advice:
        return ["Within the time limits asked for, nothing answers a question right."]
    return [_sentence(one, alone=len(advice) == 1) for one in advice]


def in_short(advice: Sequence[Advice]) -> str:
    """The same as part of a sentence: ``Q8_0 up to 49 ms (28.0 to 48.5 % right)``, and so on."""
    if not advice:
        return "nothing answers in time"
    if len(advice) == 1:
        return f"{advice[0].quantization} whatever the time ({advice[0].right} right)"
    parts = []
    for place, one in enumerate(advice):
        start = tick_duration(one.from_seconds)
        if one.until_seconds is None:
            time = f"from {start} on"
        elif place == 0:
            time = f"up to {tick_duration(one.until_seconds)}"
        else:
            time = f"within {one.within}"
        parts.append(f"{one.quantization} {time} ({one.right} right)")
    return ", ".join(parts)


def _sentence(one: Advice, *, alone: bool) -> str:
    opening = f"Within {one.within}, take {one.quantization}"
    if alone:
        opening = (
            f"Take {one.quantization} whatever the time: no other is better beyond chance. "
            f"Within {tick_duration(one.from_seconds)}"
        )
    text = f"{opening}: {percent(one.first['accuracy'])} right ({choice_words(one.first)})"
    if one.last is not one.first:
        text += (
            f", {percent(one.last['accuracy'])} within "
            f"{tick_duration(one.last['time_limit_seconds'])} ({choice_words(one.last)})"
        )
    return f"{text}. {one.rivals}".rstrip() if one.rivals else f"{text}."


def _advice(leader: str, members: Sequence[Row], *, last: bool) -> Advice:
    own = [row for row in members if row["quantization"] == leader] or list(members)
    return Advice(
        quantization=leader,
        first=own[0],
        last=own[-1],
        from_seconds=float(members[0]["time_limit_seconds"]),
        until_seconds=None if last else float(members[-1]["time_limit_seconds"]),
        end_seconds=float(members[-1]["time_limit_seconds"]),
        rivals=_rivals(leader, members),
    )


def _rivals(leader: str, members: Sequence[Row]) -> str:
    """Who cannot be told apart from the leader, and from which limit on, in a sentence."""
    since: dict[str, list[float]] = {}
    for row in members:
        for name in sorted(_equals(row) - {leader}):
            since.setdefault(name, []).append(float(row["time_limit_seconds"]))
    if not since:
        return ""
    parts = [
        name
        if len(limits) == len(members)
        else f"{name} ({tick_duration(limits[0])})"
        if len(limits) == 1
        else f"{name} (from {tick_duration(limits[0])})"
        for name, limits in since.items()
    ]
    text = f"Cannot be told apart from it: {', '.join(parts)}."
    named = [
        f"{name} at {_limits(limits)}"
        for name in since
        if (limits := [r["time_limit_seconds"] for r in members if r["quantization"] == name])
    ]
    return f"{text} Ahead of it, within chance: {', '.join(named)}." if named else text


def _limits(seconds: Sequence[float]) -> str:
    if len(seconds) == 1:
        return tick_duration(seconds[0])
    ends = f"{tick_duration(seconds[0])} to {tick_duration(seconds[-1])}"
    return f"{len(seconds)} limits ({ends})"


def _equals(row: Row) -> set[str]:
    """The best quantization of a row, and those that cannot be told apart from it."""
    return {row["quantization"], *names(row["not_distinguishable_from"])}


def names(cell: str | None) -> list[str]:
    """The quantizations in a cell that holds several."""
    return [name for name in (cell or "").split("; ") if name]


def _spans(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Runs of time limits, each with the quantization that is the best in it most often."""
    members: list[Row] = []
    able: set[str] = set()
    for row in rows:
        equal = _equals(row)
        if members and not able & equal:
            yield _leader(members, able), members
            members, able = [], set()
        able = able & equal if members else equal
        members.append(row)
    if members:
        yield _leader(members, able), members


def _leader(members: Sequence[Row], able: set[str]) -> str:
    best = [str(row["quantization"]) for row in members]
    return max(sorted(able), key=lambda name: (best.count(name), -_first(best, name)))


def _first(best: Sequence[str], name: str) -> int:
    return best.index(name) if name in best else len(best)
