"""Strategies: what they ask, what their answers give, and one that a package brings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgequant.answers.prompts import load_prompt
from edgequant.answers.strategies import registry
from edgequant.answers.strategies.early_stop import EarlyStop
from edgequant.answers.strategies.loop_stop import LoopStop
from edgequant.answers.strategies.registry import (
    default_strategies,
    make_strategy,
    strategies,
    strategy_named,
)
from edgequant.answers.strategies.stated import Stated
from edgequant.answers.strategies.truncate import Truncate
from edgequant.core.errors import ExperimentError, PromptError
from edgequant.experiment.file import EvaluationSection
from edgequant.latency.pace import Pace
from edgequant.matching.match import match
from tests.matching.synthetic_answers import answer_row, box, frame
from tests.page_package import block, install

PAGE = "adding-a-strategy.md"
EVALUATION = {"questions": "q.jsonl", "prompts": ["cot"]}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with the page's strategy, and its entry point as the page names it."""
    install(PAGE, "capped", tmp_path, monkeypatch)
    registry.strategies.cache_clear()
    yield
    registry.strategies.cache_clear()


def test_truncate_asks_once() -> None:
    (request,) = Truncate().requests(load_prompt("cot"), "1 + 1?", 100)
    assert (request.max_tokens, request.budget_tokens) == (100, None)


def test_stated_asks_for_each_budget() -> None:
    strategy = Stated(budgets=(64, 16, 64))
    requests = strategy.requests(load_prompt("cot"), "1 + 1?", 100)
    assert [(r.max_tokens, r.budget_tokens) for r in requests] == [(16, 16), (64, 64)]
    assert "UNDER 8 tokens" in requests[0].messages[0]["content"]
    with pytest.raises(PromptError, match="less than one"):
        Stated(budgets=(1,)).requests(load_prompt("cot"), "1 + 1?", 100)


def test_stated_tells_each_of_its_factors_under_a_label_of_its_own() -> None:
    prompt = load_prompt("cot")
    strategy = Stated(budgets=(64, 100), factors=(1.0, 0.75))
    requests = strategy.requests(prompt, "1 + 1?", 100)
    assert [(strategy.label(r), r.budget_tokens, r.max_tokens) for r in requests] == [
        ("stated:0.75", 64, 64),
        ("stated:0.75", 100, 100),
        ("stated:1", 64, 64),
        ("stated:1", 100, 100),
    ]
    told = [r.messages[0]["content"].rpartition("UNDER ")[2] for r in requests]
    assert told == ["48 tokens**", "75 tokens**", "64 tokens**", "100 tokens**"]
    (plain,) = Stated(budgets=(64,)).requests(prompt, "1 + 1?", 100)
    (half,) = Stated(budgets=(64,), factors=(0.5,)).requests(prompt, "1 + 1?", 100)
    assert half.messages == plain.messages, "the prompt's own factor is the study's"
    assert strategy_named("stated:0.75") is Stated


@pytest.mark.parametrize("prompt", ["cot", "aav"])
def test_what_builds_on_uncapped_answers_asks_for_those_of_truncate(prompt: str) -> None:
    (plain,) = Truncate().requests(load_prompt(prompt), "1 + 1?", 100)
    for strategy in (EarlyStop(budgets=(8, 100)), LoopStop()):
        for request in strategy.requests(load_prompt(prompt), "1 + 1?", 100):
            assert (request.messages, request.max_tokens) == (plain.messages, plain.max_tokens)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"name": "guess"}, "'guess'; there are truncate, stated, early_stop, loop_stop"),
        ({}, "no strategy ''"),
        ({"name": "stated"}, "budgets: Field required"),
        ({"name": "stated", "budgets": []}, "budgets"),
        ({"name": "stated", "budgets": [0]}, "budgets.0"),
        ({"name": "stated", "budgets": [8], "factors": []}, "factors"),
        ({"name": "stated", "budgets": [8], "factors": [0]}, "factors.0"),
        ({"name": "early_stop"}, "budgets: Field required"),
        ({"name": "early_stop", "budgets": [8], "closing": ""}, "closing"),
        ({"name": "loop_stop", "more_tokens": 0}, "more_tokens"),
        ({"name": "truncate", "budgets": [8]}, "budgets: Extra inputs"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], cause: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        make_strategy(settings)
    assert cause in caught.value.cause


def test_an_experiment_has_a_short_form_and_a_long_one() -> None:
    short = EvaluationSection.model_validate({**EVALUATION, "stated_budgets": [64]})
    long = EvaluationSection.model_validate(
        {**EVALUATION, "strategy": [{"name": "truncate"}, {"name": "stated", "budgets": [64]}]}
    )
    assert short.strategies == long.strategies == default_strategies([64])
    assert EvaluationSection.model_validate(EVALUATION).strategies == (Truncate(),)
    # What a manifest keeps says all of it.
    assert long.model_dump(mode="json")["strategy"][1] == {
        "name": "stated",
        "budgets": [64],
        "factors": None,
    }


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"strategy": [{"name": "truncate"}], "stated_budgets": [8]}, "not both"),
        ({"strategy": [{"name": "truncate"}] * 2}, "truncate is there more than once"),
        ({"strategy": [{"name": "guess"}]}, "no strategy 'guess'"),
    ],
)
def test_a_wrong_experiment_is_refused(changes: dict[str, object], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        EvaluationSection.model_validate({**EVALUATION, **changes})


def test_a_strategy_of_another_package(package: None) -> None:
    assert list(strategies()) == ["truncate", "stated", "early_stop", "loop_stop", "capped"]
    section = EvaluationSection.model_validate(
        {**EVALUATION, **tomllib.loads(block(PAGE, "toml", 1))["evaluation"]}
    )
    assert [s.name for s in section.strategies] == ["truncate", "capped"]
    (request,) = section.strategies[1].requests(load_prompt("cot"), "1 + 1?", 100)
    assert (request.max_tokens, request.budget_tokens) == (48, 48)
    assert "UNDER" not in request.messages[0]["content"]
    rows = [
        answer_row("Q8_0", "cot", None, 1, 7, [*["x"] * 9, *box(7)]),
        {**answer_row("Q8_0", "cot", 48, 1, 7, ["x", *box(7)]), "strategy": "capped"},
    ]
    result = match(*frame(rows), [Pace("Q8_0", "measured", 1.0, 0.0)])
    capped = result.matched[result.matched["strategy"] == "capped"]
    assert capped["budget_tokens"].to_list() == [48]
    assert capped["seconds"].to_list() == [5.0]  # six tokens, the first of them from the prompt
    assert capped["accuracy"].to_list() == [1.0]


def test_what_is_no_strategy_is_refused(package: None, tmp_path: Path) -> None:
    points = tmp_path / "my_package-1.dist-info" / "entry_points.txt"
    points.write_text("[edgequant.strategies]\ncapped = pathlib:Path\n")
    with pytest.raises(ExperimentError, match="is no strategy"):
        strategy_named("truncate")
