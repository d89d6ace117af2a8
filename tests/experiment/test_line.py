"""The graph of an experiment: which stages, where, and what needs what. Nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgequant.boards.profile import BoardProfile, load_profile
from edgequant.core.artefact import Store
from edgequant.core.errors import DataSetError
from edgequant.core.paths import data_folder
from edgequant.experiment.file import Experiment, QualitySection, load_experiment
from edgequant.experiment.graph import HOST, Stage
from edgequant.experiment.inputs import read_inputs
from edgequant.experiment.line import Line, draw_line, place_of
from edgequant.experiment.sweep import plan_sweep
from tests.models.gguf_writer import TensorSpec, gguf


@pytest.fixture
def demo() -> Experiment:
    if not (data_folder("experiments") / "demo_model" / "model" / "model.safetensors").is_file():
        pytest.skip("the demo model's weights are not here")
    return load_experiment("demo")[0]


def drawn(experiment: Experiment, folder: Path) -> Line:
    return draw_line(experiment, read_inputs(experiment), Store(folder))


def behind(stage: Stage[object]) -> set[str]:
    """Names of all stages that a stage waits for."""
    return {n.name for n in stage.needs} | {x for n in stage.needs for x in behind(n)}


def test_the_demos_stages(demo: Experiment, tmp_path: Path) -> None:
    line = drawn(demo, tmp_path)
    by_name = {stage.name: stage for stage in line.graph}
    assert {"convert", "variant Q2_K", "variant Q8_0", "latency", "answers"} <= by_name.keys()
    assert by_name["latency"].place == "board virtual"
    assert {s.place for s in line.graph if s.name.startswith("instructions")} == {"board virtual"}
    assert by_name["answers"].place == HOST


def test_host_and_board_wait_for_each_other_only_at_the_end(
    demo: Experiment, tmp_path: Path
) -> None:
    line = drawn(demo, tmp_path)
    assert "answers" not in behind(line.latency)
    assert "latency" not in behind(line.answers)
    assert {"answers", "latency"} <= behind(line.matched)


def test_boards_of_one_target_share_their_build_and_counts(
    demo: Experiment, tmp_path: Path
) -> None:
    two = demo.what_if + [w.model_copy(update={"board": "rk3588"}) for w in demo.what_if[:1]]
    stages = [s.name for s in drawn(demo.model_copy(update={"what_if": two}), tmp_path).graph]
    assert len(stages) == len(set(stages))
    targets = {load_profile(name).build.target for name in ("virtual", "rk3568", "rk3588")}
    assert sum(name.startswith("build ") for name in stages) == len({"host", *targets})


@pytest.mark.parametrize(
    ("profile", "clock", "place"),
    [
        ({"kind": "local"}, "host", HOST),
        ({"kind": "virtual"}, "host", HOST),
        ({"kind": "virtual"}, "instructions", "board b"),
        ({"ssh": {"host": "h"}}, "host", "board b"),
    ],
)
def test_a_board_that_shares_the_hosts_time_is_measured_when_the_host_is_quiet(
    profile: dict[str, object], clock: str, place: str
) -> None:
    board = BoardProfile.model_validate({"name": "b", "build": {"target": "t"}, **profile})
    assert place_of(board, clock) == place


def test_ready_files_need_no_conversion(tmp_path: Path) -> None:
    metadata: dict[str, object] = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.chat_template": "{{ messages }}",
    }
    for name in ("a", "b"):
        content = gguf(metadata, [TensorSpec("x", (32,), "F32")])
        (tmp_path / f"{name}.gguf").write_bytes(content)
    (tmp_path / "q.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[model]\nfiles = {one = "a.gguf", two = "b.gguf"}\n[board]\n'
        'name = "local"\n[evaluation]\nquestions = "q.jsonl"\nprompts = ["cot"]\n'
    )
    experiment, _ = load_experiment(str(tmp_path / "mine.toml"))
    names = [stage.name for stage in drawn(experiment, tmp_path / "store").graph]
    assert "convert" not in names
    assert not [name for name in names if name.startswith("variant")]
    assert "models" in names


def test_a_plan_in_an_empty_cache_makes_nothing(
    demo: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    planned = plan_sweep(demo)
    assert {p.state for p in planned} == {"would run"}
    assert next(p for p in planned if p.stage.name == "build host").cost
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_quality_is_a_stage_where_it_is_asked_for(demo: Experiment, tmp_path: Path) -> None:
    assert drawn(demo, tmp_path).quality is None
    (tmp_path / "chat.txt").write_text("once upon a time")
    section = QualitySection(texts=[tmp_path / "chat.txt"], answers_of="Q8_0")
    line = drawn(demo.model_copy(update={"quality": section}), tmp_path)
    assert line.quality is not None
    assert {"build host", "models", "answers"} <= behind(line.quality)
    assert line.quality.place == HOST
    (tmp_path / "chat.txt").unlink()
    with pytest.raises(DataSetError, match="cannot be read"):
        drawn(demo.model_copy(update={"quality": section}), tmp_path)


@pytest.mark.parametrize(
    ("section", "said"),
    [({}, "texts or answers_of"), ({"texts": ["a/x.txt", "b/x.txt"]}, "two texts are called x")],
)
def test_quality_needs_something_to_compare_on(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        QualitySection.model_validate(section)
