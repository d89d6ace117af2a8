"""What a model is calibrated on, as token ids: texts and chats in turns, within limits."""

from __future__ import annotations

from typing import Any, cast

import pytest

from edgequant.core.errors import DataSetError
from edgequant.models.calibration import Calibration, Chat, Passage
from edgequant.models.vocabulary import Vocabulary

BOS, END = 1, 2


class Letters:
    """A vocabulary whose tokens are letters."""

    end_token = END
    front = (BOS,)

    def tokenize(self, text: str, *, add_special: bool) -> tuple[int, ...]:
        return (*((BOS,) if add_special else ()), *map(ord, text))

    def apply_template(self, messages: list[dict[str, Any]]) -> str:
        return "".join(f"[{m['role'][0]}]{m['content']}" for m in messages) + "[a]"


VOCABULARY = cast(Vocabulary, Letters())
CHAT = Chat((("system", "S"), ("user", "Q")), "yes")
RENDERED = (BOS, *map(ord, "[s]S[u]Q[a]"))


def test_the_answer_counts_with_the_token_that_ends_it() -> None:
    (passage,) = Calibration(chats=(CHAT,)).counted_passages(VOCABULARY)
    assert passage.tokens == (*RENDERED, *map(ord, "yes"), END)
    assert passage.counted == range(len(RENDERED), len(passage))


def test_of_a_question_alone_all_but_the_first_count() -> None:
    chat = Chat(CHAT.turns)
    assert Calibration(chats=(chat,)).counted_passages(VOCABULARY) == [Passage(RENDERED, 1)]


def test_a_text_is_cut_into_windows_behind_a_bos() -> None:
    found = Calibration(texts=("abcdefg",)).passages(VOCABULARY, context=4)
    assert found == [(BOS, *map(ord, part)) for part in ("abc", "def", "g")]


def test_texts_and_chats_take_turns_within_the_limit() -> None:
    calibration = Calibration(texts=("abcdef",), chats=(CHAT, CHAT))
    found = calibration.passages(VOCABULARY, context=4, limit_tokens=11)
    assert found == [(BOS, *map(ord, "abc")), RENDERED[:4], (BOS, *map(ord, "de"))]
    assert sum(map(len, found)) == 11


def test_the_hash_is_of_all_that_is_read() -> None:
    same = [Calibration(("a",), (CHAT,)), Calibration(("a",), (CHAT,))]
    others = [Calibration(("b",), (CHAT,)), Calibration(("a",)), Calibration(("a",), (CHAT,), 9)]
    assert same[0].sha256 == same[1].sha256
    assert len({same[0].sha256, *(c.sha256 for c in others)}) == 4


def test_nothing_is_refused() -> None:
    with pytest.raises(DataSetError, match="nothing to calibrate on"):
        Calibration()
