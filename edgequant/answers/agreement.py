"""How far the answers of two modes agree, token by token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from edgequant.answers.questions import Question


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to the same request.

    Attributes:
        group: what they are answers of: quantization, prompt, strategy and told budget.
        question_id: and to what.
        first: token ids.
        second: token ids.
    """

    group: tuple[str, str, str, int | None]
    question_id: str
    first: Sequence[int]
    second: Sequence[int]

    @property
    def same(self) -> bool:
        return list(self.first) == list(self.second)

    @property
    def common_tokens(self) -> int:
        """Tokens before the first that differs."""
        both = zip(self.first, self.second, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


def sample(questions: Sequence[Question], count: int) -> list[Question]:
    """So many of the questions, the same in every run, in their order.

    They are chosen by their hashes: questions added later take few of them out.
    """
    by_hash = sorted(questions, key=lambda q: hashlib.sha256(q.id.encode()).digest())
    chosen = {question.id for question in by_hash[:count]}
    return [question for question in questions if question.id in chosen]


def agreement(pairs: Iterable[Pair]) -> dict[str, object]:
    """Counts in plain values, for a manifest.

    Keys: ``answers``, ``same`` (all tokens), ``share_of_tokens`` (tokens before the first that
    differs, of those of the first mode), ``different`` (where they do), and ``groups`` with the
    first two for each quantization, prompt, strategy and told budget.
    """
    known = list(pairs)
    groups: dict[tuple[str, str, str, int | None], list[Pair]] = {}
    for pair in known:
        groups.setdefault(pair.group, []).append(pair)
    tokens = sum(len(pair.first) for pair in known)
    keys = ("quantization", "prompt", "strategy", "budget_tokens")
    return {
        "answers": len(known),
        "same": sum(pair.same for pair in known),
        "share_of_tokens": sum(p.common_tokens for p in known) / tokens if tokens else None,
        "different": [
            {
                **dict(zip(keys, pair.group, strict=True)),
                "question_id": pair.question_id,
                "common_tokens": pair.common_tokens,
            }
            for pair in known
            if not pair.same
        ],
        "groups": [
            {
                **dict(zip(keys, group, strict=True)),
                "answers": len(some),
                "same": sum(pair.same for pair in some),
            }
            for group, some in groups.items()
        ],
    }
