r"""Grading: what counts as the integer in the last ``\boxed{}``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.matching.graders.boxed import (
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
        ("5 trillion", None),
        ("5 squared", None),
        ("5 feet squared", 5),
        ("5 plus tax", None),
        ("5 or six", None),
        ("5 orders", 5),
        ("3 times a week", 3),
        ("4%2", None),
        (r"4\%2", None),
        ("4$2", None),
        ("20$", 20),
        (r"-\$5", -5),
        ("$-5$", -5),
        (r"{\bf 5}", None),
        ("5 6", None),
        ("5\n6", None),
        (r"\mathbf{1{,}200}", 1200),
        (r"\text{Total} = \$1,200.00", 1200),
        (r"7\ \text{km/h}", 7),
        (r"7\quad\text{hours}", 7),
        (r"\dfrac{6}{1}", None),
        (r"12^2", None),
        ("a = 1, b = 2", None),
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


# As models write them: known answers of the box and, apart, of the fallbacks.
MODEL_TEXTS = [
    (
        "Natalia sold 48/2 = $\\frac{48}{2} = 24$ clips in May.\n"
        "Altogether $48 + 24 = 72$ clips.\n\nThe answer is $\\boxed{72}$.",
        72,
        72,
    ),
    (
        "**Quick Answer:** \\boxed{40}\n\n**Verification:** 12 eggs at \\$2 give \\$24, and "
        "\\$24 - \\$6 = \\$18.\n\nThe final answer is: $\\boxed{\\$18.00}$",
        18,
        18,
    ),
    ("\\[ \\boxed{\\text{Total: } \\frac{2}{3}} \\] of 90 is 60", None, 60),
    ("Sales were \\boxed{1{,}250{,}000\\text{ dollars}} in 2021.", 1_250_000, 2021),
    ("So $x = \\boxed{-15}$ degrees.", -15, -15),
    ("First \\boxed{\\left\\{ 3 \\right\\}}, that is \\boxed{3}", 3, 3),
    ("First \\boxed{5}. Let me check: 2 + 2 = 4, so \\boxed{4", 5, 4),
    ("It is \\boxed{5} or \\boxed{five}.", None, 5),
    ("Step 1: 3 x 4 = 12\nStep 2: 12 + 5 = 17\n#### 17", None, 17),
    ("The answer is 1,234 dollars, not 99.", None, 1234),
    ("Each gets 2.5 apples", None, None),
    ("\\boxed{\\boxed{9}} and } some { braces", 9, 9),
    ("\\begin{align*} a &= 6 \\\\ b &= \\boxed{6} \\end{align*}", 6, 6),
]


@pytest.mark.parametrize(("text", "boxed", "fallback"), MODEL_TEXTS)
def test_texts_of_models(text: str, boxed: int | None, fallback: int | None) -> None:
    result = grade(text)
    assert (result.boxed, result.fallback) == (boxed, fallback)
    assert result.lenient == (fallback if boxed is None else boxed)


@given(
    st.text(alphabet="\\boxed{} 12x$"),
    st.integers(-999, 999),
    st.text().filter(lambda text: "boxed" not in text and not set(text) & set("{}")),
)
def test_what_follows_the_last_box_changes_nothing(before: str, value: int, after: str) -> None:
    text = f"{before} \\boxed{{{value}}} "
    assert grade(text).boxed == value
    assert grade(text + after).boxed == value


@given(st.text(max_size=30), st.integers(0, 10**9))
def test_a_box_in_a_box_never_hides_the_number(before: str, value: int) -> None:
    text = before.replace("\\", "") + rf" \boxed{{\text{{so }} \boxed{{{value}}}"
    assert grade(text).boxed == value
    assert grade(text + "}").boxed == value
