"""What the page's table of all answers is made of."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest

from edgequant.matching.curves import TimeMapping, seconds_of
from edgequant.matching.groups import group_answers
from edgequant.report.explorer.clock import clock_tables, closing_seconds
from edgequant.report.explorer.data import Exploration, explore
from edgequant.report.explorer.embed import packed
from tests.matching.synthetic_answers import Table, answer_row, box, frame, synthetic_answers
from tests.report.synthetic_run import paces

CLOCKS = [{"name": "emulated", "label": "E"}, {"name": "study", "label": "S"}]
ORDER = ["Q2_K", "Q3_K_M", "Q4_K_M", "Q8_0"]


def explored(tables: Table, **more: Any) -> Exploration:
    return explore(*tables, paces(), mapping="seconds", clocks=CLOCKS, order=ORDER, **more)


def test_every_different_answer_travels_once() -> None:
    same = [" six", *box(6)]
    rows = [
        answer_row(quantization, "cot", None, question, 6, pieces)
        for quantization in ("Q2_K", "Q8_0")
        for question, pieces in enumerate((same, same, [*same, " 🙂"]))
    ]
    data: Any = explored(frame(rows)).data
    assert data["texts"] == [" six\\boxed{6}", " six\\boxed{6} 🙂"]
    assert [c["text"] for c in data["configurations"]] == [[0, 0, 1], [0, 0, 1]]
    # A browser counts UTF-16 units: two for the smile.
    assert [ord(end) - 48 for end in data["ends"][1]] == [4, 1, 5, 1, 1, 1, 3]


def test_tasks_with_prompts_of_their_own_are_one_configuration() -> None:
    def tasks(prompt: str, start: int) -> list[dict[str, object]]:
        rows = [answer_row("Q2_K", prompt, None, q, q, box(q)) for q in range(start, start + 2)]
        return [row | {"task": prompt} for row in rows]

    rows = [*tasks("sums", 1), *tasks("names", 3)]
    answers, questions = frame(rows)
    data: Any = explored((answers, questions)).data
    (configuration,) = data["configurations"]
    assert configuration["prompt"] == "names + sums"
    assert [question["family"] for question in data["questions"]] == ["sums"] * 2 + ["names"] * 2
    texts = [data["texts"][place] for place in configuration["text"]]
    assert texts == ["".join(box(q)) for q in (1, 2, 3, 4)]


def test_a_large_run_has_the_words_of_fewer_questions_evenly_taken() -> None:
    tables = synthetic_answers(40)
    whole, part = explored(tables), explored(tables, most_characters=200_000)
    assert whole.with_texts == whole.questions == part.questions == 40
    assert 0 < part.with_texts < 40
    data: Any = part.data
    first = data["configurations"][0]
    kept = [question for question, text in enumerate(first["text"]) if text >= 0]
    assert len(kept) == part.with_texts
    gaps = np.diff(kept)
    assert gaps.max() - gaps.min() <= 1
    # Grades are those of all.
    whole_data: Any = whole.data
    assert first["turns"] == whole_data["configurations"][0]["turns"]


def test_a_clock_knows_only_the_quantizations_it_has_seconds_of() -> None:
    data: Any = explored(synthetic_answers(3)).data
    assert [list(clock["quantizations"]) for clock in data["clocks"]] == [ORDER, ["Q2_K", "Q8_0"]]


@pytest.mark.parametrize("mapping", ["seconds", "ratio"])
def test_a_browser_can_tell_the_seconds_of_every_token(mapping: TimeMapping) -> None:
    (pace,) = (p for p in paces() if (p.quantization, p.source) == ("Q2_K", "emulated"))
    group = group_answers(*synthetic_answers(5, skill={"Q2_K": 0.6}, stated_budgets=()))[0]
    prompts = sorted(set(group.prompt_tokens.tolist()))
    tables: Any = clock_tables(pace, mapping, prompts, int((group.prompt_tokens + 400).max()))
    first, decoded = tables["first"], tables["decoded"]
    for question, prompt in enumerate(group.prompt_tokens.tolist()):
        for token in (1, 2, 17, 399):
            told = first[str(prompt)] + decoded[prompt + token - 1] - decoded[prompt]
            (true,) = seconds_of(group, pace, mapping, np.array([question]), np.array([token]))
            assert told == pytest.approx(true, rel=1e-6)


def test_the_time_of_a_closing_text_is_that_of_the_token_after_it() -> None:
    rows = [answer_row("Q2_K", "cot", None, q, 6, [" six"] * 9 + box(6)) for q in range(2)]
    rows[1] |= {"closing_start": 4, "closing_tokens": 3}
    (pace,) = (p for p in paces() if (p.quantization, p.source) == ("Q2_K", "emulated"))
    (group,) = group_answers(*frame(rows))
    none, closed = closing_seconds(group, pace, "seconds")
    assert none == 0.0
    (true,) = seconds_of(group, pace, "seconds", np.array([1]), np.array([8]))
    assert closed == pytest.approx(true, rel=1e-6)


def test_what_is_packed_comes_out_again_and_ends_no_element() -> None:
    value = {"text": "</script><!-- 🙂 \u2028 \x00", "numbers": [1, 2.5, None]}
    text = packed(value)
    assert "<" not in text
    assert json.loads(zlib.decompress(base64.b64decode(text))) == value
