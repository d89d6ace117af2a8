"""What a sweep comes to, said before its model or its questions are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgequant.cli.app import make_app
from edgequant.core.errors import DataSetError
from edgequant.core.paths import data_folder
from edgequant.experiment.estimate import Estimate, estimate
from edgequant.experiment.file import load_experiment
from tests.models.gguf_writer import TensorSpec, gguf

STUDY = data_folder("experiments") / "study.toml"
GENERATIONS = 2 * 2 * 1319 * 11
"""Two variants, two prompts: uncapped, and ten stated budgets."""
TOKENS = 2 * 2 * 1319 * (1024 + sum(range(100, 1001, 100)))


def of(path: Path) -> Estimate:
    return estimate(load_experiment(str(path))[0])


def study(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = STUDY.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


def test_the_study_comes_to_this_without_its_model_and_questions(tmp_path: Path) -> None:
    found = of(study(tmp_path))
    assert [what.partition(" /")[0] for what in found.missing] == ["the model", "the questions"]
    assert (found.questions, found.generations, found.tokens) == (1319, GENERATIONS, TOKENS)
    assert (found.parameters, found.parameters_from_name) == (8_000_000_000, True)
    assert found.host_bytes is not None
    assert found.board_bytes is not None
    # Rather more than the study's own files, and the 16-bit model beside them.
    assert 11.7e9 < found.board_bytes < 1.2 * 11.7e9
    assert found.host_bytes == found.board_bytes + 16_000_000_000
    # Both files are larger than the RAM: every token reads all of one.
    assert found.board_seconds == pytest.approx(found.board_bytes / 172e6 * 128 * 3)
    assert found.mirror_seconds[100] == TOKENS / 100


def test_what_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    found = of(study(tmp_path, ("-8B-", "-"), ("limit = 1319\n", "")))
    assert (found.parameters, found.host_bytes, found.board_seconds) == (None, None, None)
    assert (found.questions, found.generations, found.tokens) == (None, None, None)
    assert found.mirror_seconds == {}


def test_questions_that_are_there_are_counted(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    questions = tmp_path / "gsm8k" / "test.jsonl"
    questions.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n' * 3)
    found = of(study(tmp_path))
    assert (found.questions, len(found.missing)) == (3, 1)
    assert found.generations == 2 * 2 * 3 * 11
    questions.write_text("{")
    with pytest.raises(DataSetError, match="line 1"):
        of(study(tmp_path))


def test_closed_answers_cost_a_short_request_more_and_share_the_uncapped_one(
    tmp_path: Path,
) -> None:
    strategies = """
[[evaluation.strategy]]
name = "truncate"
[[evaluation.strategy]]
name = "early_stop"
budgets = [100, 200]
[[evaluation.strategy]]
name = "loop_stop"
[[what_if]]"""
    text = study(tmp_path, ("[[what_if]]", strategies)).read_text()
    stated = next(line for line in text.splitlines() if line.startswith("stated_budgets"))
    found = of(study(tmp_path, ("[[what_if]]", strategies), (stated, "")))
    assert found.generations == 2 * 2 * 1319 * (1 + 2 + 1)
    assert found.tokens == 2 * 2 * 1319 * (1024 + 3 * 25)


def test_ready_files_and_tasks(tmp_path: Path) -> None:
    content = gguf({"general.architecture": "llama"}, [TensorSpec("x", (32,), "F32")])
    (tmp_path / "a.gguf").write_bytes(content)
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[model]\nfiles = {one = "a.gguf", two = "b.gguf"}\n[board]\n'
        'name = "local"\n[evaluation]\nprompts = ["cot"]\nmax_tokens = 10\n'
        '[[evaluation.task]]\nname = "a"\nquestions = "a.jsonl"\nlimit = 7\n'
        '[[evaluation.task]]\nname = "b"\nquestions = "b.parquet"\nlimit = 5\n'
        'prompts = ["choice", "aav"]\n'
    )
    found = of(tmp_path / "mine.toml")
    assert (found.questions, found.generations) == (12, 2 * (7 + 2 * 5))
    assert found.board_bytes is None, "one of the files is not there"
    assert [what.partition(" /")[0] for what in found.missing] == [
        "the file", "the questions", "the questions",
    ]  # fmt: skip


@pytest.mark.parametrize("as_json", [True, False])
def test_a_dry_run_says_so(tmp_path: Path, as_json: bool) -> None:
    arguments = ["sweep", str(study(tmp_path)), "--dry-run", *(["--json"] if as_json else [])]
    result = CliRunner().invoke(make_app(arguments), arguments)
    assert result.exit_code == 0
    if as_json:
        printed = json.loads(result.stdout)
        assert printed["stages"] == []
        assert printed["estimate"]["generations"] == GENERATIONS
        assert printed["estimate"]["mirror_seconds_by_tokens_per_second"]["1000"] == TOKENS / 1000
    else:
        words = " ".join(result.stdout.split())
        assert f"{GENERATIONS:,} generations, {TOKENS:,} tokens at most" in words
        assert "8 B parameters, says the folder's name" in words
        assert "Missing: the model" in words
