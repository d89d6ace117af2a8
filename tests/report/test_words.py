"""Sentences and numbers as the page writes them."""

from __future__ import annotations

import pandas as pd
import pytest

from edgequant.latency.pace import Pace
from edgequant.report.style import (
    byte_size,
    duration,
    percent,
    points,
    rounded,
    series_styles,
    significant,
    span,
    tick_duration,
)
from edgequant.report.words import (
    choice_words,
    explain_speed,
    explain_way,
    family_words,
    nothing_right,
    way_words,
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


def test_halves_are_rounded_away_from_zero() -> None:
    # 48.5 to an even digit is 48, 0.145 * 100 is 14.499999999999998.
    assert rounded(48.5, 0) == "49"
    assert rounded(0.145 * 100, 0) == "15"
    assert percent(0.4845) == "48.5 %"
    assert percent(0.0625) == "6.3 %"
    assert percent(None) == "–"
    assert points(-0.055) == "-5.5"


def test_two_times_share_their_unit_where_they_have_one() -> None:
    assert span(0.0339, 0.0541) == "33.9 to 54.1 ms"
    assert span(0.09, 0.12) == "90.0 ms to 0.120 s"


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
    assert "leniently" not in said
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
    assert said.startswith("None of the 180 answers is right. Read leniently")


def test_one_right_answer_is_not_nothing() -> None:
    assert nothing_right(scores(0.0125, 0.25, 0.05, 0.0), cut(0.0)) is None
    # Right at some budget, overwritten by a wrong box before the end.
    assert nothing_right(scores(0.0, 1.0, 0.0, 0.0), cut(0.5)) is None


def test_ways_of_keeping_a_budget_are_said_in_words() -> None:
    assert way_words("truncate", None) == "no budget"
    assert way_words("stated", 64) == "budget of 64 tokens stated"
    assert way_words("stated:0.75", 64) == "budget of 64 tokens stated (stated 0.75)"
    assert way_words("early_stop", 32) == "stopped after 32 tokens"
    # A strategy of another package says its own name.
    assert way_words("terse", 8) == "terse at 8 tokens"
    assert family_words("stated:0.75") == "budget stated (stated:0.75)"
    assert family_words("terse") == "terse"
    assert explain_way("stated:0.75") == explain_way("stated")
    assert explain_way("terse") is None
    row = {"prompt": "cot", "strategy": "stated", "budget_tokens": 64}
    assert choice_words(row) == "prompt “cot”, budget of 64 tokens stated"
