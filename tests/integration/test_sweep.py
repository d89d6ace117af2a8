"""The whole line, small: real builds, a real llama-server, a real ARM Linux over real SSH."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pandas as pd
import pytest

import edgequant
from edgequant.core.artefact import Store
from edgequant.core.errors import EdgequantError, FileAccessError, ToolMissingError
from edgequant.core.paths import data_folder
from edgequant.core.schemas import MATCHED, QUALITY
from edgequant.core.tables import read_csv
from edgequant.experiment.file import load_experiment
from edgequant.experiment.sweep import SweepResult, plan_sweep, sweep
from tests.models.gguf_writer import write_split
from tests.python_page import examples

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUESTIONS = 12
CHAT = "Tom has 3 apples and buys 4 more. " * 12
EXPERIMENT = """
name = "small"
[model]
folder = "{model}"
types = ["Q2_K", "Q8_0"]
[board]
name = "virtual"
[measure]
tokens = 6
repeats = 2
[evaluation]
questions = "{questions}"
limit = {limit}
prompts = ["{prompt}"]
budgets = [16, 64]
stated_budgets = [64]
max_tokens = 300
[quality]
texts = ["chat.txt"]
answers_of = "Q8_0"
context = 64
[[what_if]]
kind = "predicted"
board = "rk3568"
[[what_if]]
kind = "study"
"""


def write_experiment(folder: Path, limit: int = QUESTIONS, prompt: str = "cot") -> Path:
    model = data_folder("experiments") / "demo_model"
    if not (model / "model" / "model.safetensors").is_file():
        pytest.skip("the demo model's weights are not here")
    (folder / "chat.txt").write_text(CHAT)
    path = folder / "small.toml"
    path.write_text(
        EXPERIMENT.format(
            model=model / "model", questions=model / "questions.jsonl", limit=limit, prompt=prompt
        )
    )
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, host_build: object) -> SweepResult:
    folder = tmp_path_factory.mktemp("sweep")
    experiment, path = load_experiment(str(write_experiment(folder)))
    try:
        return sweep(experiment, path, folder / "out")
    except ToolMissingError as error:
        pytest.skip(str(error))


def test_matched_has_exactly_the_promised_columns(small: SweepResult) -> None:
    with (small.folder / "matched.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(MATCHED.columns)
    assert {row["latency_source"] for row in rows} == {"emulated", "predicted", "study"}
    assert {int(row["n"]) for row in rows} == {QUESTIONS}
    for row in rows:
        assert 0 <= float(row["accuracy_low"]) <= float(row["accuracy"])
        assert float(row["accuracy"]) <= float(row["accuracy_high"]) <= 1


def test_more_tokens_take_longer_under_every_source(small: SweepResult) -> None:
    budgets = small.matched.budgets
    cut = budgets[budgets["cut_tokens"].notna() & (budgets["strategy"] == "truncate")]
    ordered = cut.sort_values("cut_tokens")
    for _, group in ordered.groupby(["latency_source", "quantization"]):
        seconds = group["longest_seconds"].to_list()
        assert seconds == sorted(seconds)
        assert seconds[0] < seconds[-1]


def test_every_token_is_a_row(small: SweepResult) -> None:
    latency = pd.read_parquet(small.folder / "latency.parquet")
    decoded = latency[latency["phase"] == "decode"]
    # Quantizations, repeats, tokens after the first; runs with other prompts are numbered on.
    assert len(decoded[decoded["repeat"] <= 2]) == 2 * 2 * 5
    assert decoded["prompt_tokens"].nunique() == 3
    assert set(decoded["latency_source"]) == {"emulated"}
    assert decoded["seconds"].min() > 0
    same = decoded.groupby(["quantization", "prompt_tokens", "index"])["token_id"].nunique()
    assert set(same) == {1}, "greedy decoding on the board is not repeatable"


def test_board_and_mirror_say_the_same(small: SweepResult) -> None:
    """The board's tokens begin the mirror's answer to the very same prompt."""
    latency = pd.read_parquet(small.folder / "latency.parquet")
    answers = pd.read_parquet(small.folder / "answers.parquet")
    for quantization in ("Q2_K", "Q8_0"):
        on_board = latency[
            (latency["quantization"] == quantization)
            & (latency["repeat"] == 1)
            & (latency["phase"] != "load")
        ].sort_values("index")
        mirrored = answers[
            (answers["quantization"] == quantization)
            & answers["budget_tokens"].isna()
            & (answers["prompt_tokens"] == on_board["prompt_tokens"].iloc[0])
        ]["token_ids"]
        assert list(on_board["token_id"])[:4] in [list(ids)[:4] for ids in mirrored]


def test_the_manifest_has_every_inputs_hash(small: SweepResult) -> None:
    manifest = json.loads((small.folder / "manifest.json").read_text())
    inputs = manifest["inputs"]
    for name in ("questions questions.jsonl", "experiment small.toml", "GGUF Q2_K"):
        assert re.fullmatch("[0-9a-f]{64}", inputs[name])
    assert "report.html" in manifest["files"]
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    kept = [s for name, s in stages.items() if name.startswith(("Build", "Convert", "Make", "Ask"))]
    assert len(kept) >= 6
    assert all(re.fullmatch("[0-9a-f]{16}", stage["key"]) for stage in kept)
    assert stages["Deploy to virtual and measure"]["place"] == "board virtual"
    assert str(Path.home()) not in (small.folder / "manifest.json").read_text()


def test_the_page_is_self_contained_and_labels_its_seconds(small: SweepResult) -> None:
    page = (small.folder / "report.html").read_text()
    assert not re.search(r'(src|href)="https?://', page)
    for label in ("emulated", "predicted", "study"):
        assert label in page.lower()


def test_quality_is_measured_and_shown(small: SweepResult) -> None:
    table = read_csv(small.folder / QUALITY.file, QUALITY)
    assert set(table["text"]) == {"chat.txt", "answers of Q8_0"}
    for _, rows in table.groupby("text"):
        assert list(rows["quantization"]) == [m.quantization for m in small.manifest.models]
        assert (rows["divergence"] > 0).all()
    page = small.report.read_text(encoding="utf-8")
    assert 'id="quality"' in page and 'id="figure-quality-1-chat-txt"' in page
    assert str(small.folder.parent) not in page


def test_running_it_again_runs_no_stage_again(small: SweepResult) -> None:
    def folders() -> set[Path]:
        return {p for p in Store().root.glob("*/*") if p.is_dir()}

    before = folders()
    experiment, path = load_experiment(str(small.folder.parent / "small.toml"))
    again = sweep(experiment, path, small.folder)
    assert folders() == before
    assert again.matched.matched.equals(small.matched.matched)
    kept = [stage for stage in again.manifest.stages if stage.key]
    assert len(kept) >= 8
    assert all(stage.reused for stage in kept)
    page = (small.folder / "report.html").read_text()
    assert page.count(">reused</td>") == len(kept)
    assert all(stage.key in page for stage in kept)


def test_a_virtual_board_given_by_its_path_is_found_the_same(
    small: SweepResult, tmp_path: Path
) -> None:
    shipped = (data_folder("boards") / "virtual.toml").read_text()
    (tmp_path / "virtual.toml").write_text(shipped)
    experiment, _ = load_experiment(str(small.folder.parent / "small.toml"))
    board = experiment.board.model_copy(update={"name": str(tmp_path / "virtual.toml")})
    planned = plan_sweep(experiment.model_copy(update={"board": board}))
    states = {p.stage.name: p.state for p in planned}
    assert states["latency"] == states["answers"] == "found"


@pytest.mark.parametrize("split", [False, True])
def test_ready_files_go_through_the_whole_line(
    small: SweepResult, tmp_path: Path, split: bool
) -> None:
    manifest = json.loads((small.folder / "manifest.json").read_text())
    keys = {s["name"]: s["key"] for s in manifest["stages"]}
    files = {}
    for name in ("Q2_K", "Q8_0"):
        (path,) = (Store().root / "models" / keys[f"Make {name}"]).glob("*.gguf")
        files[name] = write_split(path, tmp_path / name, 2)[1] if split else path
    quality = EXPERIMENT[EXPERIMENT.index("[quality]") : EXPERIMENT.index("[[what_if]]")]
    bare = EXPERIMENT.replace(quality, "")
    written = bare.replace('types = ["Q2_K", "Q8_0"]', "").replace(
        'folder = "{model}"',
        "files = {{" + ", ".join(f'{name} = "{path}"' for name, path in files.items()) + "}}",
    )
    questions = data_folder("experiments") / "demo_model" / "questions.jsonl"
    path = tmp_path / "ready.toml"
    path.write_text(written.format(questions=questions, limit=QUESTIONS, prompt="cot"))
    experiment, loaded = load_experiment(str(path))
    ready = sweep(experiment, loaded, tmp_path / "out")
    assert ready.matched.scores.equals(small.matched.scores)
    if not split:
        assert ready.matched.matched.equals(small.matched.matched)


def test_a_folder_that_holds_something_else_is_left_alone(
    small: SweepResult, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    experiment, path = load_experiment(str(small.folder.parent / "small.toml"))
    with pytest.raises(FileAccessError, match="not empty"):
        sweep(experiment, path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_bad_question_stops_before_any_work(small: SweepResult, tmp_path: Path) -> None:
    experiment, path = load_experiment(str(small.folder.parent / "small.toml"))
    bad = tmp_path / "questions.jsonl"
    bad.write_text('{"question": "1 + 1?", "answer": "two"}\n')
    evaluation = experiment.evaluation.model_copy(update={"questions": bad})
    with pytest.raises(EdgequantError, match="1"):
        sweep(experiment.model_copy(update={"evaluation": evaluation}), path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on(
    small: SweepResult, tmp_path: Path
) -> None:
    path = write_experiment(tmp_path, QUESTIONS + 40, str(never_asked(tmp_path)))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from edgequant.cli.app import main; main()",
            "sweep",
            str(path),
            "--out",
            str(out),
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "EDGEQUANT_TEST_MARK": str(tmp_path)},
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Ask 52 questions" in line:
            break
    time.sleep(2)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert _children_with(str(tmp_path)) == []
    assert not (out / "manifest.json").exists()
    experiment, loaded = load_experiment(str(path))
    result = sweep(experiment, loaded, out)
    assert set(result.matched.scores["n"]) == {QUESTIONS + 40}


def never_asked(folder: Path) -> Path:
    """A prompt file whose answers no cache can have."""
    shipped = (data_folder("prompts") / "cot.toml").read_text()
    path = folder / "never_asked.toml"
    path.write_text(shipped.replace("Follow this pattern", f"({uuid.uuid4()}) Follow this pattern"))
    assert path.read_text() != shipped
    return path


def _children_with(mark: str) -> list[str]:
    """Command lines of the processes that inherited the mark in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"EDGEQUANT_TEST_MARK={mark}".encode() in environment.read_bytes():
                found.append((environment.parent / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_the_examples_of_sweeping_from_python(
    small: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("small.toml", "chat.txt"):
        shutil.copyfile(small.folder.parent / name, tmp_path / name)
    model = data_folder("experiments") / "demo_model" / "model"
    (tmp_path / "model").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    exec(examples("A sweep", "Stages by themselves"), {"edgequant": edgequant})
    assert (tmp_path / "runs" / "small" / "report.html").is_file()
