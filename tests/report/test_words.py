"""Sentences and numbers as the page writes them."""

from __future__ import annotations

import polars as pl
import pytest

from edgequant.evaluation.matching import BEST_SCHEMA, CROSSOVER_SCHEMA
from edgequant.latency.model import LatencyModel
from edgequant.report.style import byte_size, duration, series_styles, significant, tick_duration
from edgequant.report.words import (
    crossovers_at_the_top,
    describe_crossovers,
    explain_speed,
    headline,
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


def best(*rows: tuple[float, str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "latency_source": "measured",
                "time_limit_seconds": limit,
                "quantization": quantization,
                "prompt": "cot",
                "stated": False,
                "budget_tokens": 64,
                "seconds": limit,
                "accuracy": accuracy,
            }
            for limit, quantization, accuracy in rows
        ],
        schema=BEST_SCHEMA,
    )


def test_the_headline_has_one_sentence_for_each_leader() -> None:
    table = best((1, "Q2_K", 0.2), (2, "Q2_K", 0.4), (5, "Q8_0", 0.6), (10, "Q8_0", 0.6))
    assert headline(table, "measured") == [
        "Within 1 s, take Q2_K: 20 % right (prompt “cot”, hard budget of 64 tokens), rising to "
        "40 % within 2 s (prompt “cot”, hard budget of 64 tokens).",
        "Within 5 s, take Q8_0: 60 % right (prompt “cot”, hard budget of 64 tokens), up to 10 s.",
    ]


def test_the_headline_says_when_nothing_answers() -> None:
    nothing = pl.DataFrame(
        [{"latency_source": "measured", "time_limit_seconds": 1.0}], schema=BEST_SCHEMA
    )
    assert "nothing answers" in headline(nothing, "measured")[0]


def crossing(first: str, second: str, seconds: float) -> dict[str, object]:
    return {
        "latency_source": "study",
        "prompt": "any",
        "first_quantization": first,
        "second_quantization": second,
        "seconds": seconds,
        "seconds_low": seconds,
        "seconds_high": seconds * 2,
        "confident": True,
    }


def test_crossovers_are_told_in_their_order() -> None:
    table = pl.DataFrame(
        [crossing("Q8_0", "Q2_K", 300), crossing("Q2_K", "Q8_0", 10)], schema=CROSSOVER_SCHEMA
    )
    first, second = describe_crossovers(table, "study")
    assert first.startswith("Q2_K is ahead of Q8_0 until 10.0 s (95 % interval: 10.0 s to 20.0 s)")
    assert "5.00 min" in second
    assert describe_crossovers(table, "emulated") == []


def test_only_changes_at_the_top_are_told_first() -> None:
    matched = pl.DataFrame(
        {
            "quantization": ["Q2_K", "Q4_0", "Q8_0"],
            "seconds": [1.0, 2.0, 4.0],
            "accuracy": [0.2, 0.9, 0.5],
        }
    )
    table = pl.DataFrame(
        [crossing("Q2_K", "Q4_0", 2), crossing("Q2_K", "Q8_0", 4)], schema=CROSSOVER_SCHEMA
    )
    assert crossovers_at_the_top(table, matched)["second_quantization"].to_list() == ["Q4_0"]


def test_the_page_explains_why_more_bits_are_faster_only_where_they_are() -> None:
    models = [
        LatencyModel("Q2_K", "emulated", 0.04, 0.01),
        LatencyModel("Q8_0", "emulated", 0.02, 0.01),
        LatencyModel("Q2_K", "study", 18.18, 0.0),
        LatencyModel("Q8_0", "study", 49.73, 0.0),
    ]
    why = explain_speed(models, "emulated", ["Q2_K", "Q8_0"])
    assert why is not None
    assert "20.0 ms for a token against 40.0 ms" in why
    assert explain_speed(models, "study", ["Q2_K", "Q8_0"]) is None
    assert explain_speed(models[:1], "emulated", ["Q2_K", "Q8_0"]) is None
