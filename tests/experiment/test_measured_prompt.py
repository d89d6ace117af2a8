"""The prompt of the board's measuring: a real one, and the same when more questions are drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgequant.experiment.file import load_experiment
from edgequant.experiment.inputs import read_inputs
from edgequant.experiment.measured_prompt import measured_prompt
from tests.models.gguf_writer import TensorSpec, gguf


def prompt_of(tmp_path: Path, evaluation: str) -> str:
    metadata: dict[str, object] = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
    }
    (tmp_path / "a.gguf").write_bytes(gguf(metadata, [TensorSpec("x", (32,), "F32")]))
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[model]\nfiles = {one = "a.gguf"}\n[board]\nname = "local"\n'
        f'[evaluation]\nwrapper = "chatml"\n{evaluation}'
    )
    experiment, _ = load_experiment(str(tmp_path / "mine.toml"))
    models: Any = None
    return measured_prompt(experiment, read_inputs(experiment), models, Path())


def test_more_questions_change_nothing(tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"{n} + 1?", "answer": f"#### {n + 1}"}) for n in range(30)]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    text = 'questions = "q.jsonl"\nprompts = ["cot", "aav"]\n'
    whole = prompt_of(tmp_path, text)
    assert "Follow this pattern" in whole
    assert {prompt_of(tmp_path, f"{text}limit = {n}\n") for n in (1, 5, 29)} == {whole}


def test_it_is_a_question_that_its_prompt_asks(tmp_path: Path) -> None:
    letters = {"question": "Which?", "choices": ["x", "y"], "answer": 1}
    (tmp_path / "l.jsonl").write_text(json.dumps(letters))
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}))
    tasks = "".join(
        f'[[evaluation.task]]\nname = "{name}"\nquestions = "{file}"\nprompts = ["{prompt}"]\n'
        for name, file, prompt in (("arc", "l.jsonl", "choice"), ("sums", "q.jsonl", "cot"))
    )
    found = prompt_of(tmp_path, tasks)
    assert "multiple-choice" in found
    assert "Which?\nA. x\nB. y" in found
