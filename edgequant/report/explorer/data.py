"""What the explorer needs, as plain values: questions, answers, grades and clocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from edgequant.core.tables import records
from edgequant.latency.pace import Pace
from edgequant.matching.curves import TimeMapping
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.groups import TASKS_JOINED, group_answers
from edgequant.report.explorer.clock import clock_tables, closing_seconds
from edgequant.report.words import way_words

if TYPE_CHECKING:
    import pandas as pd

MOST_CHARACTERS = 60_000_000
"""Of all different answers together; a page with more of them takes long to open."""
_CONFIGURATION = ("quantization", "prompt", "strategy", "budget_tokens")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Exploration:
    """What goes into the page.

    Attributes:
        data: plain values for JSON, as ``templates/explorer.js`` reads them.
        questions: how many there are.
        configurations: how many answered each of them.
        with_texts: questions whose answers' texts are in it.
    """

    data: dict[str, object]
    questions: int
    configurations: int
    with_texts: int


def explore(
    answers: pd.DataFrame,
    questions: pd.DataFrame,
    paces: Sequence[Pace],
    *,
    mapping: TimeMapping,
    clocks: Sequence[Mapping[str, str]],
    order: Sequence[str],
    most_characters: int = MOST_CHARACTERS,
) -> Exploration:
    """Grade all answers and gather what a reader may want to see of them.

    Args:
        answers: as ``generate`` writes them.
        questions: with the right answers.
        paces: of every latency source.
        mapping: how tokens become seconds.
        clocks: ``name`` and ``label`` of each latency source, in the page's order.
        order: quantizations from few bits to many.
        most_characters: of answers' texts; beyond, the page has those of fewer questions, evenly
            taken from all.

    Raises:
        DataFrameError: the answers cannot be graded.
    """
    groups = sorted(
        group_answers(answers, questions), key=lambda group: order.index(group.quantization)
    )
    ids = groups[0].question_ids
    frames = _by_configuration(answers)
    pool = _Pool()
    kept = _kept(answers, ids, most_characters)
    asked = {row["question_id"]: row for row in records(questions)}
    graders = list(dict.fromkeys(chain.from_iterable(group.changes for group in groups)))
    data: dict[str, object] = {
        "questions": [_question(asked[name]) for name in ids],
        "graders": graders,
        "configurations": [
            _configuration(group, _rows_of(group, frames), graders, kept, pool) for group in groups
        ],
        "clocks": [_clock(clock, groups, paces, mapping) for clock in clocks],
    }
    data["texts"] = pool.texts
    data["ends"] = pool.ends
    return Exploration(data, len(ids), len(groups), len(kept))


class _Pool:
    """Every different answer once: quantizations often write the very same one."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.ends: list[str] = []
        self._places: dict[tuple[str, str], int] = {}

    def place(self, text: str, pieces: Sequence[str]) -> int:
        """The answer's place among all."""
        ends = _lengths(pieces)
        found = self._places.setdefault((text, ends), len(self.texts))
        if found == len(self.texts):
            self.texts.append(text)
            self.ends.append(ends)
        return found


def _lengths(pieces: Iterable[str]) -> str:
    """Each token's length as one character: code 48 + UTF-16 units, as JavaScript counts."""
    units = (sum(2 if ord(character) > 0xFFFF else 1 for character in piece) for piece in pieces)
    # Far below the surrogates, which are no characters by themselves.
    return "".join(chr(48 + min(count, 40_000)) for count in units)


def _kept(answers: pd.DataFrame, ids: Sequence[str], most_characters: int) -> set[str]:
    """The questions whose answers' texts go into the page, evenly taken from all."""
    different = answers[["question_id", "text"]].drop_duplicates()
    characters = int(different["text"].str.len().sum())
    share = min(1.0, most_characters / max(characters, 1))
    count = max(1, int(len(ids) * share))
    return {ids[place * len(ids) // count] for place in range(count)}


def _question(row: Row) -> dict[str, object]:
    return {
        "id": row["question_id"],
        "text": row["question"] or "",
        "expected": row["expected_answer"],
        "family": ": ".join(filter(None, (row["task"], row["family"]))),
    }


def _configuration(
    group: AnswerGroup,
    rows: Sequence[Row],
    graders: Sequence[str],
    kept: set[str],
    pool: _Pool,
) -> dict[str, object]:
    return {
        "quantization": group.quantization,
        "prompt": group.prompt,
        "strategy": group.strategy,
        "budget": group.budget_tokens,
        "way": way_words(group.strategy, group.budget_tokens),
        "text": [
            pool.place(row["text"], row["token_texts"]) if row["question_id"] in kept else -1
            for row in rows
        ],
        "tokens": group.tokens.tolist(),
        "prompt_tokens": group.prompt_tokens.tolist(),
        "closing_start": _sparse(group.closing_start.tolist(), -1),
        "closing_tokens": _sparse(group.closing_tokens.tolist(), 0),
        "stop": _sparse([row["stop_reason"] for row in rows], "eos"),
        "looped": _sparse([int(flag) for flag in group.looped], 0),
        "readable": _sparse([int(flag) for flag in group.boxed], 1),
        "turns": {name: _turns(group, name) for name in graders if name in group.changes},
    }


def _turns(group: AnswerGroup, grader: str) -> dict[str, list[int]]:
    """Question to the tokens at which its grade changes, wrong at first."""
    changes = group.changes[grader]
    turns: dict[str, list[int]] = {}
    for question, token in zip(changes.question.tolist(), changes.when.tolist(), strict=True):
        turns.setdefault(str(question), []).append(token)
    return turns


def _sparse(values: Sequence[Any], usual: object) -> dict[str, Any]:
    """Place to value, where it is not the usual one."""
    return {str(place): value for place, value in enumerate(values) if value != usual}


def _clock(
    clock: Mapping[str, str],
    groups: Sequence[AnswerGroup],
    paces: Sequence[Pace],
    mapping: TimeMapping,
) -> dict[str, object]:
    prompts = sorted({int(p) for group in groups for p in group.prompt_tokens})
    deepest = max(int((group.prompt_tokens + group.tokens).max()) for group in groups)
    own = {pace.quantization: pace for pace in paces if pace.source == clock["name"]}
    return {
        **clock,
        "quantizations": {
            name: clock_tables(pace, mapping, prompts, deepest) for name, pace in own.items()
        },
        "closed": {
            str(place): closing_seconds(group, own[group.quantization], mapping)
            for place, group in enumerate(groups)
            if group.quantization in own and (group.closing_start >= 0).any()
        },
    }


_Key = tuple[object, ...]


def _by_configuration(answers: pd.DataFrame) -> dict[_Key, pd.DataFrame]:
    grouped = answers.groupby(list(_CONFIGURATION), dropna=False)
    return {_key(frame): frame for _, frame in grouped}


def _key(frame: pd.DataFrame) -> _Key:
    (row,) = records(frame.head(1)[list(_CONFIGURATION)])
    return tuple(row[name] for name in _CONFIGURATION)


def _rows_of(group: AnswerGroup, frames: Mapping[_Key, pd.DataFrame]) -> list[dict[str, Any]]:
    """The group's answers in its order; where tasks have prompts of their own, from all of them."""
    way = group.strategy, group.budget_tokens
    whole = frames.get((group.quantization, group.prompt, *way))
    prompts = group.prompt.split(TASKS_JOINED)
    parts = (
        [whole]
        if whole is not None
        else [frames[group.quantization, prompt, *way] for prompt in prompts]
    )
    columns = ["question_id", "text", "token_texts", "stop_reason"]
    rows = [row for part in parts for row in records(part[columns])]
    return sorted(rows, key=lambda row: str(row["question_id"]))
