"""Matching worked out by hand: four questions to the last digit, and the study's board to the s."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.core.tables import records
from edgequant.latency.pace import Pace, study_paces
from edgequant.matching.graders.boxed import grade
from edgequant.matching.match import MatchedResult, match
from tests.matching.synthetic_answers import Table, answer_row, box, frame

# Wilson's interval of k of 4, with z = 1.959964, on paper:
# centre (k/4 + z^2/8) / (1 + z^2/4), half z / (1 + z^2/4) * sqrt(k/4 (1 - k/4) / 4 + z^2/64).
OF_FOUR = {1: (0.045587, 0.699358), 2: (0.150039, 0.849961), 3: (0.300642, 0.954413)}

EXPECTED = (7, 8, 9, 10)
PROMPT_TOKENS = (10, 20, 30, 40)  # mean 25
# One token a piece. "From 2" means: right under budgets of 2 tokens and more.
Q2_K = (
    ["so ", r"\boxed{7}", ""],  # from 2
    [r"\boxed{8}", " no ", r"\boxed{9}"],  # from 1, wrong again from 3
    ["one ", "two ", "three ", "so ", r"\boxed{9}"],  # from 5
    ["it ", "is ", "10"],  # never in a box; the last number is right
)
Q8_0 = (
    [r"\boxed{7}"],  # from 1
    ["hm ", r"\boxed{8}"],  # from 2
    [r"\boxed{1}"],  # never
    ["a ", "b ", r"\boxed{10}"],  # from 3
)
Q8_0_STATED_2 = (  # 4 prompt tokens more: mean 29
    [r"\boxed{7}"],
    [r"\boxed{8}", ""],
    ["well ", r"\boxed{9}"],
    ["well ", "then "],  # cut off
)
LATENCIES = [
    Pace("Q2_K", "measured", decode_seconds=1.0, prefill_seconds_per_token=0.1),
    Pace("Q8_0", "measured", decode_seconds=3.0, prefill_seconds_per_token=0.2),
]


def four_questions() -> Table:
    rows = []
    for quantization, stated, texts, extra in (
        ("Q2_K", None, Q2_K, 0),
        ("Q8_0", None, Q8_0, 0),
        ("Q8_0", 2, Q8_0_STATED_2, 4),
    ):
        for n, pieces in enumerate(texts):
            rows.append(
                answer_row(
                    quantization,
                    "cot",
                    stated,
                    n,
                    EXPECTED[n],
                    pieces,
                    prompt_tokens=PROMPT_TOKENS[n] + extra,
                )
            )
    return frame(rows)


def rows_of(table: pd.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in records(table[list(columns)])]


@pytest.fixture(scope="module")
def by_hand() -> MatchedResult:
    return match(
        *four_questions(), LATENCIES, [3, 5], time_limits_seconds=[2.4, 3, 4, 7, 8.7, 9, 1000]
    )


def test_every_number_of_matched(by_hand: MatchedResult) -> None:
    # Q2_K: 25 * 0.1 + (b - 1) * 1.0; Q8_0: 25 * 0.2 + (b - 1) * 3.0; stated 29 * 0.2 + 3.0.
    expected = {
        ("Q2_K", "truncate", 1): (2.5, 1),
        ("Q2_K", "truncate", 2): (3.5, 2),
        ("Q2_K", "truncate", 3): (4.5, 1),
        ("Q2_K", "truncate", 4): (5.5, 1),
        ("Q2_K", "truncate", 5): (6.5, 2),
        ("Q2_K", "truncate", None): (6.5, 2),
        ("Q8_0", "truncate", 1): (5.0, 1),
        ("Q8_0", "truncate", 2): (8.0, 2),
        ("Q8_0", "truncate", 3): (11.0, 3),
        ("Q8_0", "truncate", 5): (17.0, 3),
        ("Q8_0", "truncate", None): (11.0, 3),
        ("Q8_0", "stated", 2): (8.8, 3),
    }
    found = {
        (row["quantization"], row["strategy"], row["budget_tokens"]): row
        for row in records(by_hand.matched)
    }
    assert set(found) == set(expected)
    assert len(found) == len(by_hand.matched)
    for key, (seconds, right) in expected.items():
        row = found[key]
        assert row["seconds"] == pytest.approx(seconds), key
        assert row["accuracy"] == right / 4, key
        assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(
            OF_FOUR[right], abs=2e-6
        ), key
        assert (row["n"], row["latency_source"], row["prompt"]) == (4, "measured", "cot")


def test_every_row_of_best(by_hand: MatchedResult) -> None:
    columns = [
        "time_limit_seconds", "quantization", "strategy", "budget_tokens", "seconds", "accuracy",
        "not_distinguishable_from",
    ]  # fmt: skip
    rows = rows_of(by_hand.best.assign(seconds=by_hand.best["seconds"].round(9)), *columns)
    assert rows == [
        # The quickest choice takes 2.5 s.
        (2.4, None, None, None, None, None, None),
        # Q8_0 needs 5 s for anything.
        (3.0, "Q2_K", "truncate", 1, 2.5, 0.25, ""),
        (4.0, "Q2_K", "truncate", 2, 3.5, 0.5, ""),
        # Of two equally accurate ones the quicker: not 5 tokens at 6.5 s. Q8_0 has 1 of 4.
        (7.0, "Q2_K", "truncate", 2, 3.5, 0.5, "Q8_0"),
        # Q8_0 has 2 of 4 as well, at 8 s.
        (8.7, "Q2_K", "truncate", 2, 3.5, 0.5, "Q8_0"),
        (9.0, "Q8_0", "stated", 2, 8.8, 0.75, "Q2_K"),
        # No limit is no better, and takes 11 s.
        (1000.0, "Q8_0", "stated", 2, 8.8, 0.75, "Q2_K"),
    ]


def test_every_score_of_whole_answers(by_hand: MatchedResult) -> None:
    columns = [
        "quantization", "budget_tokens", "accuracy", "lenient_accuracy", "mean_tokens",
        "median_tokens", "longest_tokens", "mean_prompt_tokens",
    ]  # fmt: skip
    assert sorted(rows_of(by_hand.scores, *columns), key=str) == sorted(
        [
            ("Q2_K", None, 0.5, 0.75, 3.5, 3.0, 5, 25.0),
            ("Q8_0", None, 0.75, 0.75, 1.75, 1.5, 3, 25.0),
            ("Q8_0", 2, 0.75, 0.75, 1.75, 2.0, 2, 29.0),
        ],
        key=str,
    )


def test_four_questions_make_no_crossover(by_hand: MatchedResult) -> None:
    assert not by_hand.crossovers["confident"].any()
    assert by_hand.crossovers["seconds"].isna().all()
    # At 11 s Q8_0 gets ahead without a stated budget, and at 8.8 s with any.
    assert rows_of(by_hand.crossovers, "prompt", "strategy", "sign_changes") == [
        ("any", None, 1),
        ("cot", "truncate", 1),
    ]


def test_the_ratio_mapping_by_hand() -> None:
    matched = match(*four_questions(), LATENCIES, [3, 5], mapping="ratio").matched
    seconds = dict(
        zip(
            rows_of(matched, "quantization", "strategy", "budget_tokens"),
            matched["seconds"],
            strict=True,
        )
    )
    # Budget times seconds of a token; prompts cost nothing.
    assert seconds["Q2_K", "truncate", 5] == pytest.approx(5.0)
    assert seconds["Q2_K", "truncate", None] == pytest.approx(5.0)
    assert seconds["Q8_0", "truncate", 5] == pytest.approx(15.0)
    assert seconds["Q8_0", "stated", 2] == pytest.approx(6.0)


def test_a_source_without_a_quantization_leaves_it_out_alone(by_hand: MatchedResult) -> None:
    lone = Pace("Q8_0", "predicted", 0.5, 0.0)
    result = match(*four_questions(), [*LATENCIES, lone], [3, 5])
    assert result.notes == ("No predicted latency for Q2_K: left out there.",)
    predicted = result.matched[result.matched["latency_source"] == "predicted"]
    assert set(predicted["quantization"]) == {"Q8_0"}
    assert set(result.crossovers["latency_source"]) <= {"measured"}
    measured = result.matched[result.matched["latency_source"] == "measured"]
    assert records(measured) == records(by_hand.matched)
    # Nothing of the other kind slipped in where the two are compared.
    limits = result.best[result.best["latency_source"] == "predicted"]
    assert set(limits["not_distinguishable_from"].dropna()) == {""}


PIECE = st.sampled_from([r"\boxed{7}", r"\boxed{8}", r"\boxed{", "7", "}", "x", ""])
ANSWERS = st.lists(
    st.tuples(st.lists(PIECE, max_size=12), st.lists(PIECE, max_size=12), st.integers(1, 99)),
    min_size=1,
    max_size=6,
)


def drawn_frame(drawn: list[tuple[list[str], list[str], int]]) -> Table:
    return frame(
        [
            answer_row(q, "aav", None, n, 7, pieces, prompt_tokens=prompt)
            for n, (two, eight, prompt) in enumerate(drawn)
            for q, pieces in (("Q2_K", two), ("Q8_0", eight))
        ]
    )


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.lists(st.integers(1, 20), max_size=4))
def test_more_tokens_never_take_less_time_and_no_limit_grades_whole_answers(
    drawn: list[tuple[list[str], list[str], int]], budgets: list[int]
) -> None:
    matched = match(*drawn_frame(drawn), LATENCIES, budgets, resamples=20).matched
    for place, quantization in enumerate(("Q2_K", "Q8_0")):
        rows = matched[matched["quantization"] == quantization]
        hard = rows.dropna(subset="budget_tokens").sort_values("budget_tokens")
        assert (hard["seconds"].diff().dropna() > 0).all()
        (whole,) = records(rows[rows["budget_tokens"].isna()])
        right = sum(grade("".join(answers[place])).boxed == 7 for answers in drawn)
        assert whole["accuracy"] == right / len(drawn)
        longest = max(1, *(len(answers[place]) for answers in drawn))
        assert whole["seconds"] >= hard[hard["budget_tokens"] <= longest]["seconds"].max()


@settings(max_examples=25, deadline=None)
@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_and_the_names_of_questions_change_nothing(
    drawn: list[tuple[list[str], list[str], int]], random: object
) -> None:
    answers, questions = drawn_frame(drawn)
    before = match(answers, questions, LATENCIES, resamples=50)
    order = list(range(len(answers)))
    random.shuffle(order)  # type: ignore[attr-defined]
    after = match(answers.iloc[order], questions, LATENCIES, resamples=50)
    for table in ("matched", "best", "crossovers"):
        assert getattr(after, table).equals(getattr(before, table))
    # Other names, in another order than before.
    names = {f"{n:04d}": f"{97 * (n + 1) % 101}-name" for n in range(len(drawn))}
    renamed = [t.assign(question_id=t["question_id"].map(names)) for t in (answers, questions)]
    after = match(*renamed, LATENCIES, resamples=50)
    assert after.matched.equals(before.matched)
    assert after.best.equals(before.best)


def study_answers(questions: int = 100) -> Table:
    """Every box closes with a known token.

    =====  ==========  ====  ======
    .      .           Q2_K  Q8_0
    =====  ==========  ====  ======
    plain  at token    20    40
    .      share       60 %  90 %
    told   at token    10    24
    .      share       40 %  80 %
    =====  ==========  ====  ======
    """
    rows = []
    for quantization, stated, closes_at, right in (
        ("Q2_K", None, 20, 60),
        ("Q8_0", None, 40, 90),
        ("Q2_K", 24, 10, 40),
        ("Q8_0", 24, 24, 80),
    ):
        for n in range(questions):
            value = 7 if n * 37 % 100 < right else 8
            pieces = [*[" step"] * (closes_at - 5), *box(value)]
            rows.append(answer_row(quantization, "cot", stated, n, 7, pieces))
    return frame(rows)


def crossings(result: MatchedResult) -> dict[tuple[str, str | None], tuple[float, ...]]:
    assert (result.crossovers["first_quantization"] == "Q2_K").all()
    assert (result.crossovers["second_quantization"] == "Q8_0").all()
    assert result.crossovers["confident"].all()
    columns = ["seconds_low", "seconds", "seconds_high", "lead_before", "lead_after"]
    rows = records(result.crossovers)
    found = {(row["prompt"], row["strategy"]): tuple(row[c] for c in columns) for row in rows}
    assert len(found) == len(result.crossovers)
    return found


def test_the_studys_crossover_to_the_second() -> None:
    """From the recorded seconds: Q2_K first, Q8_0 later, and earlier where the budget is told."""
    result = match(*study_answers(), study_paces(), [20, 40], time_limits_seconds=[
        18.18 * 20 - 1, 18.18 * 20 + 1, 49.73 * 24 - 1, 49.73 * 24 + 1,
        49.73 * 40 - 1, 49.73 * 40 + 1,
    ])  # fmt: skip
    plain, told = 40 * 49.73, 24 * 49.73
    assert crossings(result) == {
        ("cot", "truncate"): pytest.approx((plain, plain, plain, 0.6, 0.3)),
        ("cot", "stated"): pytest.approx((told, told, told, 0.4, 0.4)),
        ("any", None): pytest.approx((told, told, told, 0.6, 0.3), abs=1e-9),
    }
    assert rows_of(result.best, "quantization", "strategy", "budget_tokens") == [
        (None, None, None),
        ("Q2_K", "truncate", 20),
        ("Q2_K", "truncate", 20),
        ("Q8_0", "stated", 24),
        ("Q8_0", "stated", 24),
        ("Q8_0", "truncate", 40),
    ]


def test_the_studys_crossover_by_its_ratio() -> None:
    result = match(*study_answers(), study_paces(), [20, 40], mapping="ratio")
    found = crossings(result)
    assert found["cot", "truncate"][1] == pytest.approx(40 * 49.73)
    assert found["cot", "stated"][1] == pytest.approx(24 * 49.73)
    # In tokens of the 2-bit model: 40 of the 8-bit model take as long as 109.4.
    assert found["cot", "truncate"][1] / 18.18 == pytest.approx(40 * 2.735, abs=0.05)


def test_100_tokens_of_two_bits_take_as_long_as_36_point_6_of_eight() -> None:
    matched = match(*study_answers(), study_paces(), [36, 37, 100], mapping="ratio").matched
    seconds = {
        (row["quantization"], row["budget_tokens"]): row["seconds"]
        for row in records(matched[matched["strategy"] == "truncate"])
    }
    two_bits = seconds["Q2_K", 100]
    assert two_bits == pytest.approx(1818.0)
    assert seconds["Q8_0", 36] < two_bits < seconds["Q8_0", 37]
    step = seconds["Q8_0", 37] - seconds["Q8_0", 36]
    assert 36 + (two_bits - seconds["Q8_0", 36]) / step == pytest.approx(36.6, abs=0.05)


def test_a_faster_board_moves_the_crossover_in_proportion() -> None:
    answers = study_answers()
    slow = crossings(match(*answers, study_paces(), [20, 40]))
    faster = [
        Pace(m.quantization, "measured", step, 0.0, pass_seconds=step)
        for m in study_paces()
        for step in [m.decode_seconds / 1000]
    ]
    quick = crossings(match(*answers, faster, [20, 40]))
    for family in slow:
        assert quick[family][1] * 1000 == pytest.approx(slow[family][1])


def test_the_quantization_that_leads_first_is_named_first() -> None:
    """The same curves under each other's names: Q8_0 leads, then Q2_K."""
    swap = {"Q2_K": "Q8_0", "Q8_0": "Q2_K"}
    answers, questions = study_answers()
    answers = answers.assign(quantization=answers["quantization"].map(swap))
    latencies = [Pace(swap[m.quantization], "study", m.decode_seconds, 0.0) for m in study_paces()]
    crossovers = match(answers, questions, latencies, [20, 40]).crossovers
    assert set(crossovers["first_quantization"]) == {"Q8_0"}
    assert set(crossovers["second_quantization"]) == {"Q2_K"}
    assert crossovers[crossovers["strategy"] == "truncate"]["seconds"].item() == pytest.approx(
        39 * 49.73
    )


def test_prompt_time_moves_the_crossover_by_the_prompt() -> None:
    """120 prompt tokens at 2 s each delay every Q8_0 point by 240 s."""
    latencies = [
        Pace(m.quantization, "measured", m.decode_seconds, 2.0 * (m.quantization == "Q8_0"))
        for m in study_paces()
    ]
    found = crossings(match(*study_answers(), latencies, [20, 40]))
    assert found["cot", "truncate"][1] == pytest.approx(39 * 49.73 + 240)
    assert found["cot", "stated"][1] == pytest.approx(23 * 49.73 + 240)


def test_where_eight_bits_are_as_fast_two_bits_never_lead() -> None:
    latencies = [Pace(q, "emulated", 0.02, 0.01) for q in ("Q2_K", "Q8_0")]
    answers, questions = study_answers()
    answers = answers[answers["budget_tokens"].isna()]
    # The same tokens for both: the better one is better at every time.
    eight = answers[answers["quantization"] == "Q8_0"]
    two = eight.assign(
        quantization="Q2_K",
        text="none",
        token_texts=[["none"]] * len(eight),
        token_ids=[[1]] * len(eight),
    )
    result = match(pd.concat([two, eight]), questions, latencies, [40])
    assert result.crossovers.empty
    assert set(result.best["quantization"]) == {"Q8_0"}
