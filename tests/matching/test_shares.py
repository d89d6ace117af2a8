"""Grading on several cores: the same verdicts in the same order, and the same errors."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from edgequant.core.errors import DataFrameError
from edgequant.matching import shares
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.groups import group_answers
from tests.matching.synthetic_answers import Table, answer_row, box, frame


def answers() -> Table:
    said = [[*box(n % 3), " so ", str(n)] for n in range(6)]
    return frame(
        [
            answer_row(f"Q{bits}_0", "cot", None, n, n, pieces)
            for bits in (2, 4, 8)
            for n, pieces in enumerate(said)
        ]
    )


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a few answers are shared among two processes."""
    monkeypatch.setattr(shares, "SHARED_ANSWERS", 1)
    monkeypatch.setattr(shares.os, "sched_getaffinity", lambda _: {0, 1})


def test_shares_give_what_one_process_gives(request: pytest.FixtureRequest) -> None:
    alone = group_answers(*answers())
    request.getfixturevalue("shared")
    assert [plain(group) for group in group_answers(*answers())] == [plain(g) for g in alone]


@pytest.mark.usefixtures("shared")
def test_an_error_of_a_share_is_the_one_that_grading_alone_would_raise() -> None:
    rows, questions = answers()
    rows.loc[7, "text"] = "something else"
    with pytest.raises(DataFrameError, match="the token_texts joined are not the text"):
        group_answers(rows, questions)


def plain(value: Any) -> Any:
    """Something that can be compared."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, AnswerGroup):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {name: [plain(v) for v in vars(changes).values()] for name, changes in value.items()}
    return value
