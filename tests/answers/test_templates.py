"""Texts of prompts: what they may do, and that nothing in them takes long or grows large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.answers import templates
from edgequant.answers.templates import check_template, render_template

VALUES = {"question": "q{{ n }}", "choices": ("a", "b"), "n": 3}
VARIABLES = frozenset(VALUES)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("\\boxed{} {n} % #", "\\boxed{} {n} % #"),
        ("{{ question }}\n", "q{{ n }}\n"),
        ("{% for c in choices %}{{ loop.index }}{{ c | upper }}{% endfor %}", "1A2B"),
        ("{{ choices | join(', ') }}", "a, b"),
        ("{% if n > 2 and not n is none %}many{% else %}few{% endif %}", "many"),
        ("{{ choices[1] }}{{ n - 1 }}{{ 'x' ~ n }}", "b2x3"),
        ("{% raw %}{{ n }}{% endraw %}{# silent #}", "{{ n }}"),
    ],
)
def test_what_a_text_may_do(source: str, text: str) -> None:
    check_template(source, VARIABLES)
    assert render_template(source, VALUES) == text


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("{{ question.upper() }}", "no call"),
        ("{{ cycler }}", "no variable cycler; there are choices, n, question"),
        ("{% set x = 1 %}", "no assign"),
        ("{% include 'x' %}", "no include"),
        ("{% macro m() %}{% endmacro %}", "no macro"),
        ("{{ 9 ** 9 ** 9 }}", "no pow"),
        ("{{ 'a' * 999999999 }}", "no mul"),
        ("{{ '%0999999999d' % 1 }}", "no mod"),
        ("{{ question | center(999999999) }}", "No filter named 'center'"),
        ("{{ question | join('aaaa') | join('aaaa') }}", "no filter of a filter"),
        (
            "\n{% for a in question %}{% for b in question %}{% endfor %}{% endfor %}",
            "line 2: no l",
        ),
        ("{% for a in choices recursive %}{{ a }}{% endfor %}", "no loop in a loop"),
        ("{{ n", "line 1: "),
        ("{% if n %}" * 200 + "{% endif %}" * 200, "too deep"),
        ("{{ " + "(" * 5000 + "n" + ")" * 5000 + " }}", "too deep"),
        ("x" * 200_000, "more than 100000 characters"),
    ],
)
def test_what_it_may_not_is_named(source: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause.replace("(", "\\(")):
        check_template(source, VARIABLES)


@pytest.mark.parametrize(
    "source",
    ["{{ question.upper }}", "{{ question['__class__'] }}", "{{ choices[9] }}", "{{ n.real }}"],
)
def test_only_items_that_are_there_are_read(source: str) -> None:
    check_template(source, VARIABLES)
    with pytest.raises(ValueError):
        render_template(source, VALUES)


def test_a_text_that_grows_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MAX_RENDERED_LENGTH", 1000)
    with pytest.raises(ValueError, match="more than 1000 characters"):
        render_template("{% for c in question %}{{ question }}{% endfor %}", {"question": "q" * 99})


@given(st.text())
def test_what_a_variable_holds_is_text(text: str) -> None:
    assert render_template("{{ question }}", {"question": text}) == text


@given(st.text(alphabet="{}%#nif e|()[].~\n'1"))
def test_any_text_is_read_or_refused(source: str) -> None:
    try:
        check_template(source, VARIABLES)
        render_template(source, VALUES)
    except ValueError:
        pass
