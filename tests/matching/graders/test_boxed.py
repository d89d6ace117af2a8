r"""Grading: what counts as the integer in the last ``\boxed{}``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.matching.graders.boxed import Boxed
from edgequant.matching.graders.grader import last_value
from edgequant.matching.graders.numbers import MAX_DIGITS, read_integer

CASES = Path(__file__).with_name("cases")


def boxed(text: str) -> int | None:
    """The integer that a whole text's last box says."""
    value = last_value(Boxed().readings(text))
    return None if value is None else int(value)


def read_cases(name: str) -> list[tuple[str, str | None]]:
    """Text and what it says, of a file of cases."""
    lines = (CASES / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t", 1) for line in lines if line and not line.startswith("#"))
    return [(text, None if value == "none" else value) for value, text in pairs]


@pytest.mark.parametrize(
    ("text", "value"),
    [*read_cases("grading.tsv"), *read_cases("grading_more.tsv"), *read_cases("grading_tried.tsv")],
)
def test_what_a_person_reads_in_the_last_closed_box(text: str, value: str | None) -> None:
    assert last_value(Boxed().readings(text)) == value


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
        (r"{\bf 5}", 5),
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
    assert read_integer(content) == (None if value is None else str(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"so \boxed{12}.", 12),
        (r"\boxed{12} no, \boxed{13}", 13),
        (r"\boxed{12} no, \boxed{13", 12),
        (r"\boxed{12} no, \boxed{}", 12),
        (r"\boxed{12} no, \boxed{many}", 12),
        (r"\boxed {5}", 5),
        (r"\boxed{\boxed{5}}", 5),
        (r"\boxed{\text{the \boxed{5}", 5),
        (r"\boxed{\text{5 }}", 5),
        (r"} } \boxed{5}", 5),
        (r"\boxed{5", None),
        (r"\boxed 5", 5),
        (r"boxed{5}", None),
        (r"\{ \boxed{5} \}", 5),
        (r"\\boxed{5}", None),
        ("the answer is 5", None),
    ],
)
def test_the_last_whole_box_counts(text: str, value: int | None) -> None:
    assert boxed(text) == value


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
    assert last_value(Boxed().readings(text)) in (None, "7", "1")


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "{:,}", r"\${:,}.00", "{} kg"]))
def test_numbers_come_back_from_their_notations(value: int, notation: str) -> None:
    text = notation.format(value)
    assert boxed(rf"so it is \boxed{{{text}}}.") == value


@given(
    st.text(alphabet="\\boxed{} 12x$"),
    st.integers(-999, 999),
    st.text().filter(lambda text: not set(text) & set("\\{}")),
)
def test_what_follows_the_last_box_changes_nothing(before: str, value: int, after: str) -> None:
    text = f"{before} \\boxed{{{value}}} "
    assert boxed(text) == value
    assert boxed(text + after) == value


@given(st.text(max_size=30), st.integers(0, 10**9))
def test_a_box_in_a_box_never_hides_the_number(before: str, value: int) -> None:
    text = before.replace("\\", "") + rf" \boxed{{\text{{so }} \boxed{{{value}}}"
    assert boxed(text) == value
    assert boxed(text + "}") == value
