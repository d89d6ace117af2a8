"""What to take, and where the lead changes hands, as sentences."""

from __future__ import annotations

from collections.abc import Sequence

from edgequant.core.schemas import BEST, CROSSOVERS, MATCHED
from edgequant.report.advice import Row, advise, in_short, sentences
from edgequant.report.crossings import (
    at_the_top,
    describe_crossovers,
    overall,
    place_words,
    sure_crossovers,
)


def best(*rows: tuple[float, str, float], equals: Sequence[str] | None = None) -> list[Row]:
    """Choices of (limit, quantization, accuracy); ``equals``: from what each is not told apart."""
    return [
        dict.fromkeys(BEST.columns)
        | {
            "latency_source": "measured",
            "time_limit_seconds": limit,
            "quantization": quantization,
            "prompt": "cot",
            "strategy": "stated",
            "budget_tokens": 64,
            "accuracy": accuracy,
            "not_distinguishable_from": equal,
        }
        for (limit, quantization, accuracy), equal in zip(
            rows, equals or [None] * len(rows), strict=True
        )
    ]


def test_each_leader_has_one_piece_of_advice() -> None:
    table = best((1, "Q2_K", 0.2), (2, "Q2_K", 0.485), (5, "Q8_0", 0.6), (10, "Q8_0", 0.6))
    advice = advise(table, "measured")
    assert [(one.quantization, one.within, one.right) for one in advice] == [
        ("Q2_K", "1 s to 2 s", "20.0 to 48.5 %"),
        ("Q8_0", "5 s and later", "60.0 %"),
    ]
    assert in_short(advice) == (
        "Q2_K up to 2 s (20.0 to 48.5 % right), Q8_0 from 5 s on (60.0 % right)"
    )
    assert sentences(advice)[0] == (
        "Within 1 s to 2 s, take Q2_K: 20.0 % right (prompt “cot”, budget of 64 tokens stated), "
        "48.5 % within 2 s (prompt “cot”, budget of 64 tokens stated)."
    )


def test_a_lead_by_chance_is_no_advice() -> None:
    table = best(
        (1, "Q8_0", 0.5), (2, "Q4_0", 0.6), (5, "Q8_0", 0.7), equals=["", "Q2_K; Q8_0", "Q4_0"]
    )
    (one,) = advise(table, "measured")
    assert one.quantization == "Q8_0"
    assert one.until_seconds is None
    assert in_short([one]).startswith("Q8_0 whatever the time")
    # Never "as good": nobody knows.
    assert one.rivals == (
        "Cannot be told apart from it: Q2_K (2 s), Q4_0 (from 2 s). "
        "Ahead of it, within chance: Q4_0 at 2 s."
    )
    assert one.right == "50.0 to 70.0 %"


def test_no_accuracy_is_given_for_a_time_at_which_another_one_has_it() -> None:
    table = best(
        *((1, "Q2_K", 0.3), (2, "Q2_K", 0.3), (5, "Q8_0", 0.5), (6, "Q8_0", 0.8), (7, "Q8_0", 0.9)),
        equals=["Q8_0", "Q8_0", "Q2_K", "Q2_K", "Q2_K"],
    )
    (one,) = advise(table, "measured")
    assert (one.quantization, one.within) == ("Q8_0", "1 s and later")
    assert one.right == "50.0 % within 5 s to 90.0 % within 7 s"
    assert one.rivals.endswith("Ahead of it, within chance: Q2_K at 2 limits (1 s to 2 s).")
    last = best((1, "Q2_K", 0.3), (2, "Q8_0", 0.5), equals=["Q8_0", "Q2_K"])
    assert advise(last, "measured")[0].right == "30.0 % within 1 s"


def test_who_cannot_be_told_apart_at_one_time_does_not_lead_at_another() -> None:
    table = best((1, "Q8_0", 0.5), (2, "Q4_0", 0.6), (5, "Q4_0", 0.7), equals=["", "Q8_0", ""])
    first, second = advise(table, "measured")
    assert (first.quantization, first.within) == ("Q8_0", "1 s to 2 s")
    assert (second.quantization, second.within) == ("Q4_0", "5 s and later")


def test_that_nothing_answers_is_said() -> None:
    nothing = dict.fromkeys(BEST.columns) | {
        "latency_source": "measured",
        "time_limit_seconds": 1.0,
    }
    assert advise([nothing], "measured") == []
    assert "nothing answers" in sentences([])[0]


def crossing(first: str, second: str, seconds: float, **more: object) -> Row:
    return (
        dict.fromkeys(CROSSOVERS.columns)
        | {
            "latency_source": "study",
            "prompt": "any",
            "first_quantization": first,
            "second_quantization": second,
            "seconds": seconds,
            "seconds_low": seconds * 0.9,
            "seconds_high": seconds * 1.2,
            "first_ahead_seconds": seconds / 2,
            "second_ahead_seconds": seconds * 2,
            "confident": True,
        }
        | more
    )


def step(quantization: str, seconds: float) -> Row:
    return dict.fromkeys(MATCHED.columns) | {
        "quantization": quantization,
        "prompt": "cot",
        "strategy": "truncate",
        "seconds": seconds,
    }


def test_a_change_of_lead_is_told_with_both_sure_leads_and_its_place() -> None:
    change = crossing(
        "Q8_0", "Q4_K_M", 0.108, seconds_low=0.09, seconds_high=0.12,
        first_ahead_seconds=0.05, second_ahead_seconds=0.2,
    )  # fmt: skip
    steps = [step("Q8_0", 0.1)]
    assert describe_crossovers([change], steps) == [
        "Q8_0 is surely ahead of Q4_K_M at 50 ms, Q4_K_M from 0.2 s on; the change lies at "
        "0.108 s (90.0 ms to 0.120 s)."
    ]


def test_where_the_data_know_no_time_between_the_ends_none_is_named() -> None:
    change = crossing("Q8_0", "Q2_K", 1293.0, seconds_low=1293.0, seconds_high=1392.4)
    elsewhere = [step("Q4_0", 1300.0), step("Q8_0", 1293.0), step("Q2_K", 1392.4)]
    assert place_words(change, elsewhere) == "between 21.6 and 23.2 min"
    assert place_words(change, [step("Q2_K", 1300.0)]) == "at 21.6 min (21.6 to 23.2 min)"
    # A single step has no width, but what is known is no point in time either.
    point = {**change, "seconds_low": 1392.4, "seconds_high": 1392.4 + 1e-10}
    assert place_words(point, [*elsewhere, step("Q8_0", 1392.4)]) == "between 21.6 and 23.2 min"
    # Of a change within one prompt only that prompt's steps count.
    alone = {**change, "prompt": "aav", "strategy": "truncate"}
    assert place_words(alone, [step("Q2_K", 1300.0)]).startswith("between")


def test_several_changes_of_a_pair_are_told_in_their_order() -> None:
    changes = [crossing("Q2_K", "Q8_0", 3000.0), crossing("Q8_0", "Q2_K", 300.0)]
    (told,) = describe_crossovers(changes, [step("Q8_0", 290.0), step("Q8_0", 3100.0)])
    assert told.startswith("Q8_0 is surely ahead of Q2_K at 2.5 min, Q2_K at 10 min;")
    assert "Then Q8_0 is from 1.67 h on; that change lies at 50.0 min" in told


def test_chance_and_other_clocks_are_not_told() -> None:
    sure = crossing("Q2_K", "Q8_0", 10.0)
    doubtful = {**sure, "confident": False}
    assert sure_crossovers([sure, doubtful], "study") == [sure]
    assert sure_crossovers([sure], "emulated") == []
    assert overall([sure, {**sure, "prompt": "cot"}]) == [sure]


def test_a_change_counts_at_the_top_where_the_table_names_the_new_leader() -> None:
    table = best((2, "Q4_0", 0.9), (8, "Q4_0", 0.9), equals=["", "Q8_0"])
    won = crossing("Q2_K", "Q4_0", 1.0, second_ahead_seconds=2.0)
    shared = crossing("Q2_K", "Q8_0", 4.0, second_ahead_seconds=8.0)
    behind = crossing("Q3_K", "Q2_K", 4.0, second_ahead_seconds=8.0)
    assert at_the_top([won, shared, behind], table) == [won, shared]
