"""Where graders differ, on answers whose readings are known."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from edgequant.cli.app import run
from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import make_table, write_table
from edgequant.matching.explain import explain

# Pieces of an answer; all say 42 in the end but the last two.
TEXTS = {
    "boxed": ["So ", "42", ": ", "\\boxed{", "42", "}"],
    "prose": ["So ", "it ", "is ", "42", "."],
    "fraction": ["\\boxed{", "\\frac{84}{2}", "}"],
    "nothing": ["I ", "cannot ", "say"],
    "other": ["\\boxed{", "41", "}"],
}


def _answers() -> pd.DataFrame:
    rows = [
        {
            "quantization": "Q8_0",
            "prompt": "cot",
            "strategy": "truncate",
            "question_id": name,
            "question_sha256": "aa",
            "token_ids": list(range(len(pieces))),
            "token_texts": pieces,
            "text": "".join(pieces),
            "stop_reason": "eos",
            "prompt_tokens": 9,
        }
        for name, pieces in TEXTS.items()
    ]
    return make_table(rows, ANSWERS)


def _questions(sha256: str = "aa") -> pd.DataFrame:
    kind = QUESTIONS.columns["expected_answer"].kind
    expected: object = "42" if kind == "text" else 42
    rows = [
        {
            "question_id": name,
            "question_sha256": sha256,
            "expected_answer": expected,
            "answer_kind": "integer",
        }
        for name in TEXTS
    ]
    return make_table(rows, QUESTIONS)


def test_whole_answers_are_explained() -> None:
    pytest.importorskip("math_verify")
    explained = explain(_answers(), _questions())
    assert explained.answers == 5
    assert explained.right == {"boxed": 1, "lenient": 2, "qwen": 3, "math-verify": 2}
    found = {difference.question_id: difference for difference in explained.differences}
    assert set(found) == {"prose", "fraction"}
    assert found["fraction"].right == ("qwen", "math-verify")
    assert found["fraction"].readings["boxed"] is None
    assert found["fraction"].reason == (
        "boxed (wrong): the last box, which holds no integer; qwen (right): the last box; "
        "math-verify (right): the last box"
    )
    assert "no closed box" in found["prose"].reason
    assert sum(explained.reasons.values()) == 2


def test_cut_answers_are_explained_at_that_cut() -> None:
    explained = explain(_answers(), _questions(), tokens=5)
    found = {difference.question_id: difference for difference in explained.differences}
    assert found["boxed"].tokens == 5
    assert "still open" in found["boxed"].reason
    assert found["prose"].tokens is None, "it ends within the cut"
    assert explained.right["boxed"] == 0


def test_rows_are_bounded_and_every_reason_comes_first() -> None:
    explained = explain(_answers(), _questions(), rows=1)
    assert len(explained.differences) == 1
    assert sum(explained.reasons.values()) == 2


def test_another_question_is_an_error() -> None:
    with pytest.raises(DataFrameError, match="is another one there"):
        explain(_answers(), _questions("bb"))


def test_the_command_needs_neither_latency_nor_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(_answers(), tmp_path / "answers.parquet", ANSWERS)
    write_table(_questions(), tmp_path / "questions.parquet", QUESTIONS)
    options = ["match", "--explain", "--answers", str(tmp_path / "answers.parquet")]
    options += ["--questions", str(tmp_path / "questions.parquet")]
    assert run([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["right"]["boxed"] == 1
    assert run(options) == 0
    table = capsys.readouterr().out
    assert "42 ✓" in table and "why graders differ" in table
