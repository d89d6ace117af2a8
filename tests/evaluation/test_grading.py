r"""Grading: what counts as the integer in the last ``\boxed{}``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.evaluation.grading import (
    MAX_DIGITS,
    box_events,
    box_events_by_token,
    grade,
    parse_integer,
)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("42", 42),
        (" 42 ", 42),
        ("-7", -7),
        ("−7", -7),
        ("+7", 7),
        ("-0", 0),
        ("007", 7),
        ("42.", 42),
        ("42.0", 42),
        ("42.000", 42),
        ("1,234", 1234),
        ("1{,}234", 1234),
        (r"1\,234", 1234),
        (r"1,\!234", 1234),
        ("1,234,567.00", 1234567),
        (r"\$42", 42),
        ("$42$", 42),
        (r"\$1,000", 1000),
        ("€ 5", 5),
        (r"50\%", 50),
        ("50%", 50),
        (r"42\text{ apples}", 42),
        (r"\text{42}", 42),
        (r"42\,\text{kg}", 42),
        ("42 apples", 42),
        ("42 dollars.", 42),
        ("x = 42", 42),
        ("total = 42", 42),
        ("the number of apples = 42", 42),
        (r"\(42\)", 42),
        ("{42}", 42),
        # No integers.
        ("", None),
        ("x", None),
        ("42.5", None),
        ("1,45", None),
        ("1, 2", None),
        ("1 2", None),
        ("3x", None),
        ("3 x", None),
        ("5 dozen", None),
        ("5 million", None),
        (r"5\text{ thousand}", None),
        (r"\frac{84}{2}", None),
        ("2/3", None),
        ("3+4", None),
        ("10:30", None),
        ("1e3", None),
        ("٤٢", None),
        ("42 = x", None),
        ("9" * (MAX_DIGITS + 1), None),
    ],
)
def test_contents_that_are_and_are_not_integers(content: str, value: int | None) -> None:
    assert parse_integer(content) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"so \boxed{12}.", 12),
        (r"\boxed{12} no, \boxed{13}", 13),
        (r"\boxed{12} no, \boxed{13", 12),
        (r"\boxed{12} no, \boxed{}", None),
        (r"\boxed{12} no, \boxed{many}", None),
        (r"\boxed {5}", 5),
        (r"\boxed{\boxed{5}}", 5),
        (r"\boxed{\text{the \boxed{5}", 5),
        (r"\boxed{\text{5 }}", 5),
        (r"} } \boxed{5}", 5),
        (r"\boxed{5", None),
        (r"\boxed 5", None),
        (r"boxed{5}", None),
        (r"\{ \boxed{5} \}", 5),
        (r"\\boxed{5}", None),
        ("the answer is 5", None),
    ],
)
def test_the_last_whole_box_counts(text: str, value: int | None) -> None:
    assert grade(text).boxed == value


@pytest.mark.parametrize(
    ("text", "fallback"),
    [
        ("steps\n#### 1,234", 1234),
        ("#### 3\n#### 4", 4),
        ("The answer is: $18.", 18),
        ("the answer is 3. No, the Answer is 4", 4),
        ("3 apples and 4 pears make 7", 7),
        ("it costs $1,200, in all", 1200),
        ("#### 5 but the answer is 6 and 7", 5),
        ("2.5", None),
        ("#### none", None),
        ("no number", None),
        ("", None),
    ],
)
def test_fallbacks_are_tried_in_turn(text: str, fallback: int | None) -> None:
    assert grade(text).fallback == fallback


def test_the_lenient_score_prefers_the_box() -> None:
    assert grade(r"\boxed{4} and 9").lenient == 4
    assert grade(r"\boxed{} and 9").lenient == 9
    assert grade(r"\boxed{} and 9").boxed is None


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 100_000,
        r"\boxed{" * 20_000 + "7" + "}" * 20_000,
        "{" * 300_000,
        "}" * 300_000,
        r"\boxed{" + "9" * 300_000 + "}",
        "9" * 300_000,
        "9," * 200_000,
        "#" * 300_000,
        r"\boxed" + " " * 300_000,
        "answer is " * 50_000,
        "answer" + " " * 300_000,
        "\x00\\boxed{\ud800}",
        r"\boxed{" + "x " * 150 + "+ 3}",
        r"\boxed{" + r"\text{" * 60 + "}" * 60 + "}",
    ],
)
def test_hostile_texts_give_no_answer_and_no_trouble(text: str) -> None:
    assert grade(text).boxed in (None, 7)


@given(st.text(alphabet="\\boxed{} 123,.$\n-x#"))
def test_any_text_is_graded(text: str) -> None:
    result = grade(text)
    assert result.lenient == (result.boxed if result.boxed is not None else result.fallback)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", r"\${:,}.00", "{} kg"]))
def test_numbers_come_back_from_their_notations(value: int, notation: str) -> None:
    text = notation.format(value)
    assert grade(rf"so it is \boxed{{{text}}}.").boxed == value


@given(
    st.lists(st.sampled_from(["\\boxed{", "1", "2", "}", "{", " ", "\\", "x}", "boxed{"])),
)
def test_every_prefix_is_graded_as_the_prefix_alone_would_be(pieces: list[str]) -> None:
    events = box_events_by_token(pieces)
    assert [e.end for e in events] == sorted({e.end for e in events})
    for count in range(len(pieces) + 1):
        value = next((e.value for e in reversed(events) if e.end <= count), None)
        alone = box_events("".join(pieces[:count]))
        assert value == (alone[-1].value if alone else None)
