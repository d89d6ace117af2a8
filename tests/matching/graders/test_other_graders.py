"""The graders beside the headline, on texts whose reading is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.core.errors import DataFrameError
from edgequant.matching.graders.grader import Grader, last_value
from edgequant.matching.graders.lenient import Lenient
from edgequant.matching.graders.letters import LenientLetter, Letter
from edgequant.matching.graders.math_verify import MathVerify
from edgequant.matching.graders.qwen import Qwen
from edgequant.matching.graders.registry import (
    CHOICE,
    INTEGER,
    graders_for,
    headline,
    lenient,
)

CASES = Path(__file__).with_name("cases")
FILES = {
    "grading_lenient.tsv": Lenient(),
    "lenient_more.tsv": Lenient(),
    "letters.tsv": Letter(),
    "letters_lenient.tsv": LenientLetter(),
    "qwen.tsv": Qwen(),
}


def _cases() -> list[tuple[Grader, str, str | None]]:
    cases = []
    for name, grader in FILES.items():
        for line in (CASES / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                value, text = line.split("\t", 1)
                text = text.replace("\\n", "\n")
                cases.append((grader, text, None if value == "none" else value))
    return cases


@pytest.mark.parametrize(("grader", "text", "value"), _cases())
def test_texts_say_what_the_grader_is_to_read(grader: Grader, text: str, value: str | None) -> None:
    assert last_value(grader.readings(text)) == value


@pytest.mark.parametrize(
    ("content", "expected", "agrees"),
    [
        ("42", "42", True),
        ("42", "43", False),
        (r"\frac{84}{2}", "42", True),
        (r"42\text{ apples}", "42", True),
        (r"\$42", "42", True),
        ("x = 42", "42", True),
        ("42.5", "42", False),
        ("many", "42", False),
        ("", "42", False),
    ],
)
def test_math_verify_judges_the_content_of_the_last_box(
    content: str, expected: str, agrees: bool
) -> None:
    pytest.importorskip("math_verify")
    assert MathVerify().agrees(content, expected) is agrees


def test_math_verify_survives_what_cannot_be_calculated() -> None:
    pytest.importorskip("math_verify")
    assert not MathVerify().agrees("9^{9^{9^9}}", "42")
    assert MathVerify().agrees(r"\frac{84}{2}", "42")


def test_math_verify_works_outside_the_main_thread() -> None:
    pytest.importorskip("math_verify")
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(MathVerify().agrees, [r"\frac{86}{2}", r"\frac{88}{2}"], ["43", "43"])
        assert list(verdicts) == [True, False]


def test_the_lenient_grade_takes_the_box_before_anything_else() -> None:
    text = "the answer is 4\n#### 5\n6"
    assert last_value(Lenient().readings(text)) == "5"
    assert last_value(Lenient().readings(text + r" \boxed{7}")) == "7"
    assert Lenient().basis(text) == "the number behind the last “####”"


def test_qwen_takes_hundredths_and_one_part_in_ten_thousand() -> None:
    agrees = Qwen().agrees
    assert agrees("0.42", "42") and agrees("4200", "42") and agrees("42000.9", "42000")
    assert not agrees("43", "42") and not agrees("x", "42")


@pytest.mark.parametrize(("value", "expected"), [("1234", "1,234"), ("-3", "-3"), ("72", "72")])
def test_an_expected_integer_may_have_commas(value: str, expected: str) -> None:
    for name in ("boxed", "lenient", "qwen"):
        assert graders_for(INTEGER)[name].agrees(value, expected)


@pytest.mark.parametrize("expected", ["B", "(B)", "b", " B. "])
def test_an_expected_letter_may_be_dressed(expected: str) -> None:
    assert Letter().agrees("B", expected)
    assert not Letter().agrees("C", expected)


def test_each_kind_of_answer_has_a_headline_and_a_lenient_grader() -> None:
    assert (headline(INTEGER).name, lenient(INTEGER).name) == ("boxed", "lenient")
    assert (headline(CHOICE).name, lenient(CHOICE).name) == ("letter", "letter-lenient")
    with pytest.raises(DataFrameError, match="essay"):
        graders_for("essay")


HOSTILE = {
    "open boxes": "\\boxed{" * 14_000,
    "empty boxes in boxes": "\\boxed{" * 12_000 + "}" * 12_000,
    "bare boxes": "\\boxed 1" * 12_000,
    "a box and spaces": "\\boxed" + " " * 100_000,
    "digits": "9" * 100_000,
    "digits and commas": "9," * 50_000,
    "digits and spaces": "1 " * 50_000,
    "minus": "-" * 100_000 + "5",
    "braces": "{" * 100_000,
    "hashes": "#" * 100_000,
    "answers": "the answer is 1 + " * 5_500,
    "answer and spaces": "answer" + " " * 100_000,
    "answer and stars": "answer is" + "*" * 100_000,
    "choices": "(A) answer: B " * 7_000,
    "boxed": "boxed" * 20_000,
    "words in boxes": ("\\boxed{" + "ab " * 120 + "5}") * 250,
    "hopes": "$. I hope" * 5_000 + "final answer is $" * 3_000,
    "braces in boxes": ("\\boxed{5" + "^{" * 150 + "}") * 250,
    "surrogates": "\x00\\boxed{\ud800}",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", [INTEGER, CHOICE])
def test_hostile_texts_are_read_in_linear_time(name: str, kind: str) -> None:
    # A pattern that backtracks would not come back from these.
    for grader in graders_for(kind).values():
        grader.readings(HOSTILE[name])
        assert grader.basis(HOSTILE[name])
