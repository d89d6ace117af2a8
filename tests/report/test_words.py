"""Sentences and numbers as the page writes them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from edgequant.core.schemas import BEST, CROSSOVERS, MATCHED
from edgequant.latency.pace import Pace
from edgequant.report.style import byte_size, duration, series_styles, significant, tick_duration
from edgequant.report.words import (
    Row,
    crossovers_at_the_top,
    describe_crossovers,
    describe_prompt_crossovers,
    explain_speed,
    headline,
    nothing_right,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (4.2e-6, "4.20 µs"),
        (0.0461, "46.1 ms"),
        (0.0999, "99.9 ms"),
        (0.138, "0.138 s"),
        (49.73, "49.7 s"),
        (119.9, "120 s"),
        (600.0, "10.0 min"),
        (11718.66, "3.26 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_round_durations_have_no_zeros_behind_the_point() -> None:
    assert [tick_duration(s) for s in (0.05, 0.1, 2.5, 60, 1800, 7200)] == [
        "50 ms", "0.1 s", "2.5 s", "1 min", "30 min", "2 h",
    ]  # fmt: skip


def test_sizes_and_digits() -> None:
    assert byte_size(None) == "–"
    assert byte_size(0) == "0 B"
    assert byte_size(13_107_200) == "13.1 MB"
    assert significant(1234567) == "1,230,000"
    assert significant(0.99999) == "1.00"


def test_every_quantization_has_its_own_look() -> None:
    for count in range(1, 15):
        looks = series_styles([f"Q{i}" for i in range(count)])
        assert len({(s.colour, s.marker, str(s.dash)) for s in looks.values()}) == count


def best(*rows: tuple[float, str, float], equals: Sequence[str] | None = None) -> list[Row]:
    """Choices of (limit, quantization, accuracy); ``equals``: from what each is not told apart."""
    return [
        dict.fromkeys(BEST.columns)
        | {
            "latency_source": "measured",
            "time_limit_seconds": limit,
            "quantization": quantization,
            "prompt": "cot",
            "strategy": "truncate",
            "budget_tokens": 64,
            "seconds": limit,
            "accuracy": accuracy,
            "not_distinguishable_from": equal,
        }
        for (limit, quantization, accuracy), equal in zip(
            rows, equals or [None] * len(rows), strict=True
        )
    ]


def points(*rows: tuple[float, str, float], source: str = "measured") -> list[Row]:
    """What could be chosen: each of the rows takes just its limit."""
    return [
        {name: row[name] for name in MATCHED.columns if name in row} | {"latency_source": source}
        for row in best(*rows)
    ]


def test_the_headline_has_one_sentence_for_each_leader() -> None:
    rows = [(1, "Q2_K", 0.2), (2, "Q2_K", 0.4), (5, "Q8_0", 0.6), (10, "Q8_0", 0.6)]
    assert headline(best(*rows), points(*rows), "measured") == [
        "Within 1 s, take Q2_K: 20 % right (prompt “cot”, hard budget of 64 tokens), rising to "
        "40 % within 2 s (prompt “cot”, hard budget of 64 tokens).",
        "Within 5 s, take Q8_0: 60 % right (prompt “cot”, hard budget of 64 tokens), up to 10 s.",
    ]


def test_a_lead_by_chance_is_no_advice() -> None:
    table = best(
        (1, "Q8_0", 0.5), (2, "Q4_0", 0.6), (5, "Q8_0", 0.7), equals=["", "Q2_K; Q8_0", "Q4_0"]
    )
    choices = points((1, "Q8_0", 0.5), (2, "Q4_0", 0.6), (5, "Q8_0", 0.7))
    (sentence,) = headline(table, choices, "measured")
    assert sentence.startswith("Take Q8_0 whatever the time: no other is better beyond chance.")
    assert "Within 1 s: 50 % right" in sentence
    assert "rising to 70 % within 5 s" in sentence


def test_a_shared_second_place_is_named_only_where_it_holds() -> None:
    table = best((1, "Q8_0", 0.5), (2, "Q4_0", 0.6), (5, "Q4_0", 0.7), equals=["", "Q8_0", ""])
    choices = points((1, "Q8_0", 0.5), (2, "Q4_0", 0.6), (5, "Q4_0", 0.7))
    first, second = headline(table, choices, "measured")
    assert first.startswith("Within 1 s, take Q8_0: 50 % right")
    assert second.startswith("Within 5 s, take Q4_0: 70 % right")


def test_the_headline_says_when_nothing_answers() -> None:
    nothing = dict.fromkeys(BEST.columns) | {
        "latency_source": "measured",
        "time_limit_seconds": 1.0,
    }
    assert "nothing answers" in headline([nothing], points(), "measured")[0]


def crossing(first: str, second: str, seconds: float) -> Row:
    return dict.fromkeys(CROSSOVERS.columns) | {
        "latency_source": "study",
        "prompt": "any",
        "first_quantization": first,
        "second_quantization": second,
        "seconds": seconds,
        "seconds_low": seconds,
        "seconds_high": seconds * 2,
        "confident": True,
    }


def test_the_last_crossover_is_told_first() -> None:
    table = [
        crossing("Q2_K", "Q8_0", 3000),
        crossing("Q8_0", "Q2_K", 300),
        crossing("Q2_K", "Q8_0", 10),
    ]
    assert describe_crossovers(table, "study") == [
        "From 50.0 min (95 % interval: 50.0 min to 100 min) on, Q8_0 stays ahead of Q2_K. Before "
        "that Q2_K starts ahead, and the lead goes to Q8_0 at 10.0 s and to Q2_K at 5.00 min."
    ]
    assert describe_crossovers(table, "emulated") == []


def test_a_single_crossover_is_told_plainly_and_chance_is_not_told() -> None:
    doubtful = {**crossing("Q4_0", "Q8_0", 5), "confident": False}
    table = [crossing("Q2_K", "Q8_0", 10), doubtful]
    assert describe_crossovers(table, "study") == [
        "Q2_K is ahead of Q8_0 until 10.0 s (95 % interval: 10.0 s to 20.0 s), Q8_0 from there on."
    ]


def test_the_choice_behind_an_early_lead_is_named() -> None:
    table = [crossing("Q8_0", "Q2_K", 2), crossing("Q2_K", "Q8_0", 4)]
    matched = points((1, "Q8_0", 0.2), (2, "Q2_K", 0.4), (4, "Q8_0", 0.8), source="study")
    (sentence,) = describe_crossovers(table, "study", matched)
    assert "to Q2_K at 2.00 s (prompt “cot”, hard budget of 64 tokens)." in sentence


def test_each_prompt_alone_is_told_for_hard_budgets_of_the_pair() -> None:
    rows = [
        {**crossing("Q2_K", "Q8_0", 10), "prompt": "cot", "strategy": "truncate"},
        {**crossing("Q2_K", "Q8_0", 20), "prompt": "cot", "strategy": "stated"},
        {**crossing("Q2_K", "Q4_0", 30), "prompt": "cot", "strategy": "truncate"},
        crossing("Q2_K", "Q8_0", 40),
    ]
    (sentence,) = describe_prompt_crossovers(rows, "study", ("Q2_K", "Q8_0"))
    assert sentence.startswith("With “cot” alone, answers cut at the budget: Q2_K is ahead of Q8_0")
    assert "10.0 s" in sentence


def test_only_changes_at_the_top_are_told_first() -> None:
    matched = points((1, "Q2_K", 0.2), (2, "Q4_0", 0.9), (4, "Q8_0", 0.5))
    table = [crossing("Q2_K", "Q4_0", 2), crossing("Q2_K", "Q8_0", 4)]
    (told,) = crossovers_at_the_top(table, matched)
    assert told["second_quantization"] == "Q4_0"


def test_the_page_explains_why_more_bits_are_faster_only_where_they_are() -> None:
    models = [
        Pace("Q2_K", "emulated", 0.04, 0.01),
        Pace("Q8_0", "emulated", 0.02, 0.01),
        Pace("Q2_K", "study", 18.18, 0.0),
        Pace("Q8_0", "study", 49.73, 0.0),
    ]
    why = explain_speed(models, "emulated", ["Q2_K", "Q8_0"])
    assert why is not None
    assert "20.0 ms for a token against 40.0 ms" in why
    study = explain_speed(models, "study", ["Q2_K", "Q8_0"])
    assert study is not None
    assert study.startswith("Here bytes are the limit")
    assert "18.2 s with Q2_K and 49.7 s with Q8_0" in study
    assert explain_speed(models[:1], "emulated", ["Q2_K", "Q8_0"]) is None


def test_the_page_explains_why_a_faster_decode_can_lose_short_answers() -> None:
    models = [
        Pace("Q2_K", "predicted", 0.001, 0.0007),
        Pace("Q8_0", "predicted", 0.002, 0.0002),
    ]
    why = explain_speed(models, "predicted", ["Q2_K", "Q8_0"])
    assert why is not None
    assert "short answers favour Q8_0" in why
    assert (
        explain_speed(
            [models[0], Pace("Q8_0", "predicted", 0.002, 0.001)],
            "predicted",
            ["Q2_K", "Q8_0"],
        )
        is None
    )


def scores(accuracy: float, boxed: float | None, lenient: float, cut_off: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": [100, 80],
            "accuracy": [0.0, accuracy],
            "boxed": [0.0, boxed],
            "lenient_accuracy": [0.0, lenient],
            "cut_off": [cut_off, cut_off],
        }
    )


def cut(accuracy: float) -> pd.DataFrame:
    return pd.DataFrame({"accuracy": [0.0, accuracy]})


def test_nothing_right_for_want_of_a_box() -> None:
    said = nothing_right(scores(0.0, 0.0, 0.0, 0.0), cut(0.0))
    assert said is not None
    assert said.startswith("None of the 180 answers is right, and none of them holds a \\boxed{}")
    assert "failure of format" in said
    assert "fallbacks" not in said
    assert "cut off" not in said


def test_nothing_right_though_there_are_boxes() -> None:
    said = nothing_right(scores(0.0, 0.25, 0.05, 0.5), cut(0.0))
    assert said is not None
    assert "20 of them hold a \\boxed{}" in said
    assert "4 would be right" in said
    assert "failure of format" not in said


def test_answers_that_were_all_cut_off_do_not_tell_their_form() -> None:
    said = nothing_right(scores(0.0, 0.0, 0.0, 1.0), cut(0.0))
    assert said is not None
    assert "all were cut off" in said
    assert "failure of format" not in said
    some = nothing_right(scores(0.0, 0.0, 0.0, 0.5), cut(0.0))
    assert some is not None
    assert "failure of format" in some
    assert "(90 were cut off" in some


def test_boxes_that_nobody_counted_are_not_spoken_of() -> None:
    said = nothing_right(scores(0.0, None, 0.05, 0.0), cut(0.0))
    assert said is not None
    assert said.startswith("None of the 180 answers is right. With fallbacks")


def test_one_right_answer_is_not_nothing() -> None:
    assert nothing_right(scores(0.0125, 0.25, 0.05, 0.0), cut(0.0)) is None
    # Right at some budget, overwritten by a wrong box before the end.
    assert nothing_right(scores(0.0, 1.0, 0.0, 0.0), cut(0.5)) is None
