"""Closed answers: what is kept, what is put behind it, and what is asked for no second time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgequant.answers.cache import Answer
from edgequant.answers.closing import close, kept_tokens
from edgequant.answers.generate import generate
from edgequant.answers.loops import MIN_TOKENS
from edgequant.answers.mirrors.llama_server.pool import LlamaServers
from edgequant.answers.mirrors.llama_server.process import ServerPolicy
from edgequant.answers.prompts import Prompt
from edgequant.answers.questions import Question
from edgequant.answers.strategies.early_stop import CLOSING, EarlyStop
from edgequant.answers.strategies.loop_stop import LoopStop
from edgequant.answers.strategies.strategy import Closing, Strategy
from edgequant.answers.strategies.truncate import Truncate
from edgequant.core.artefact import Store
from edgequant.core.errors import ExperimentError
from edgequant.core.tables import records
from edgequant.matching.groups import group_answers
from edgequant.models.model_file import ModelFile
from tests.answers.mirrors.llama_server.fake_tokenizer import fake_tokenizer

PROMPT = Prompt(name="bare")
ENDLESS = Question("0001-aaaaaaaa", "forever?", "7", "")
SHORT = Question("0002-aaaaaaaa", "What is 1 + 1?", "2", "")
LOOP = b"and so on, "
BOS = 1
Ask = Callable[..., list[dict[str, Any]]]


def answer(text: str, stop_reason: Any = "eos") -> Answer:
    """One token for each letter, and one without text that ended it."""
    texts = [*text, *([""] if stop_reason == "eos" else [])]
    return Answer([*range(len(texts))], texts, text, stop_reason, 5, 0.1, 0.2)


@pytest.mark.parametrize(
    ("said", "crop", "kept"),
    [
        (answer("abc"), 1, 1),
        (answer("abc"), 2, 2),
        (answer("abc"), 3, None),  # all is said: only the mark of its end is missing
        (answer("abc"), 9, None),
        (answer("abc"), None, None),
        (answer("abc", "limit"), 2, 2),
        (answer("abc", "limit"), 3, 3),
        (answer("abc", "limit"), 9, 3),
        (Answer([], [], "", "failed", 0, None, None), 1, None),
    ],
)
def test_what_has_ended_is_left_as_it_is(said: Answer, crop: int | None, kept: int | None) -> None:
    assert kept_tokens(said, Closing(lambda ids: crop, "!", 9)) == kept


def test_a_closed_answer_is_one_sequence() -> None:
    closing = Closing(lambda ids: 2, " So: ", 9)
    whole = close(answer("abcdef"), 2, closing, [70, 71, 72], answer("7}"))
    assert whole.token_ids == [0, 1, 70, 71, 72, 0, 1, 2]
    assert whole.token_texts == ["a", "b", "", "", " So: ", "7", "}", ""]
    assert whole.text == "".join(whole.token_texts)
    assert (whole.closing_start, whole.closing_tokens) == (2, 3)
    assert (whole.stop_reason, whole.prompt_tokens) == ("eos", 5)


def test_an_answer_whose_closing_failed_is_failed() -> None:
    failed = Answer([], [], "", "failed", 0, None, None)
    assert close(answer("abc"), 1, Closing(lambda ids: 1, "!", 9), [], failed) is failed


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "requests"
    path.touch()
    monkeypatch.setenv("FAKE_REQUESTS", str(path))
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    return path


@pytest.fixture
def ask(tmp_path: Path, fake_server: Path, model: Path, requests: Path) -> Ask:
    def call(
        *strategies: Strategy, questions: Sequence[Question] = (ENDLESS, SHORT), **more: Any
    ) -> list[dict[str, Any]]:
        answers = generate(
            [ModelFile.of_path("Q8_0", model)],
            mirrors=LlamaServers(fake_server, "0c1e57098", fake_tokenizer, ServerPolicy(), 2),
            prompts=[PROMPT],
            questions=questions,
            strategies=strategies,
            store=Store(tmp_path / "store"),
            **{"max_tokens": 320, **more},
        )
        return records(answers.frame())

    return call


def asked(requests: Path) -> list[tuple[int, list[int]]]:
    return [tuple(json.loads(line)) for line in requests.read_text().splitlines()]


def ids(text: str) -> list[int]:
    return [byte + 3 for byte in text.encode()]


def test_early_stop_closes_what_has_not_ended(ask: Ask, requests: Path) -> None:
    first, later, short, again = ask(EarlyStop(budgets=(100, 40)))
    assert [row["budget_tokens"] for row in (first, later, short, again)] == [40, 100, 40, 100]
    assert first["closing_start"] == 40
    assert first["closing_tokens"] == len(CLOSING)
    assert first["text"] == (LOOP * 9).decode()[:40] + CLOSING + "7}"
    assert "".join(first["token_texts"]) == first["text"]
    assert len(first["token_texts"]) == len(first["token_ids"])
    assert first["max_tokens"] == 40 + len(CLOSING) + 25
    assert first["strategy"] == "early_stop"
    # What had ended is there for both budgets, as it was said.
    assert short["closing_start"] is None
    assert short["token_ids"] == again["token_ids"]
    assert short["stop_reason"] == "eos"
    assert len(asked(requests)) == 2 + 2


def test_what_is_gone_on_from_is_put_together_by_ids(ask: Ask, requests: Path) -> None:
    (row,) = ask(
        EarlyStop(budgets=(40,), closing=" So \\boxed{", more_tokens=2), questions=[ENDLESS]
    )
    (_, prompt), (limit, continued) = asked(requests)
    assert limit == 2
    assert continued == [*prompt, *row["token_ids"][:40], *ids(" So \\boxed{")]
    assert continued.count(BOS) == 1
    assert row["stop_reason"] == "limit"
    assert row["prompt_tokens"] == len(prompt)


def test_loop_stop_closes_a_loop_where_it_is_sure(ask: Ask, requests: Path) -> None:
    endless, short = ask(LoopStop())
    assert endless["closing_start"] == MIN_TOKENS
    assert endless["text"].endswith(CLOSING + "7}")
    assert (endless["budget_tokens"], short["closing_start"]) == (None, None)
    assert len(asked(requests)) == 2 + 1


def test_strategies_share_what_they_need(ask: Ask, requests: Path) -> None:
    every = (Truncate(), EarlyStop(budgets=(40, MIN_TOKENS)), LoopStop())
    rows = ask(*every)
    assert len(rows) == 2 * 4
    # Two uncapped answers; the endless one is closed twice, since two close it at the same place.
    assert len(asked(requests)) == 2 + 2
    ask(*every, questions=[ENDLESS])
    ask(LoopStop())
    assert len(asked(requests)) == 4, "closed answers are kept like the others"
    ask(LoopStop(more_tokens=24))
    assert len(asked(requests)) == 5
    ask(EarlyStop(budgets=(40,), closing="Now: \\boxed{"))
    assert len(asked(requests)) == 6


def test_a_closed_answer_is_graded_as_a_whole(ask: Ask) -> None:
    questions = [ENDLESS]
    rows = ask(Truncate(), EarlyStop(budgets=(40,)), questions=questions)
    from edgequant.answers.table import questions_table
    from edgequant.core.schemas import ANSWERS
    from edgequant.core.tables import make_table

    groups = group_answers(make_table(rows, ANSWERS), questions_table(questions))
    right = {group.strategy: group.correct([320])[0, 0] for group in groups}
    assert right == {"truncate": False, "early_stop": True}


def test_a_closing_that_is_given_up_on_is_failed_and_asked_for_again(
    ask: Ask, requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(Truncate())
    monkeypatch.setenv("FAKE_MODE", "nonsense")
    endless, short = ask(LoopStop())
    assert (endless["stop_reason"], short["stop_reason"]) == ("failed", "eos")
    assert (endless["token_ids"], endless["text"], endless["closing_start"]) == ([], "", None)
    monkeypatch.setenv("FAKE_MODE", "")
    assert ask(LoopStop())[0]["stop_reason"] == "eos"


def test_early_stop_needs_an_answer_as_long_as_what_it_keeps(ask: Ask) -> None:
    with pytest.raises(ExperimentError, match="early_stop crops at 400 tokens"):
        ask(EarlyStop(budgets=(400,)))
