"""How far answers agree with those that were given in another way: what a run's manifest counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgequant.report.clocks import label

Row = Mapping[str, Any]
_REFERENCE, _MIRROR_CHECK = "reference", "mirror_check"


@dataclass(frozen=True)
class AgreementView:
    """One comparison, token by token.

    Attributes:
        title: with what the answers were compared.
        answers: how many were.
        same: how many have the very same tokens.
        share_of_tokens: tokens before the first that differs, of all.
        groups: rows with ``quantization``, ``prompt``, ``strategy``, ``budget_tokens``,
            ``answers`` and ``same``.
    """

    title: str
    answers: int
    same: int
    share_of_tokens: float | None
    groups: Sequence[Row]


def agreements(generation: Mapping[str, object]) -> dict[str, AgreementView]:
    """The comparisons in a manifest's record of generation, by their keys there.

    Args:
        generation: of a run's manifest; what :func:`edgequant.answers.agreement.agreement`
            counts is told by its keys, wherever it stands.
    """
    return {
        key: AgreementView(
            title=_title(key, value),
            answers=value["answers"],
            same=value["same"],
            share_of_tokens=value.get("share_of_tokens"),
            groups=value.get("groups") or [],
        )
        for key, value in generation.items()
        if isinstance(value, Mapping)
        and isinstance(value.get("answers"), int)
        and isinstance(value.get("same"), int)
    }


def _title(key: str, value: Row) -> str:
    if key == _REFERENCE:
        return "Reference mode: one answer at a time, no prompt kept"
    if key == _MIRROR_CHECK:
        board, source = value.get("board"), value.get("source")
        name = "The board" if board is None else f"The board {board}"
        return name if source is None else f"{name} ({label(str(source))})"
    return key.replace("_", " ")
