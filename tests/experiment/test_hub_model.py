"""An experiment whose model comes from a hub: a stage pulls it, or finds it pulled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import ExperimentError
from edgequant.experiment.estimate import estimate
from edgequant.experiment.file import Experiment, load_experiment
from edgequant.experiment.graph import Results, Stage, plan
from edgequant.experiment.inputs import read_inputs
from edgequant.experiment.line import Line, draw_line
from edgequant.models.pull.hub import Hub
from tests.models.gguf_writer import TensorSpec, gguf
from tests.models.pull.conftest import MODEL
from tests.models.pull.hub_server import COMMIT, Server, serve

TEXT = """
name = "mine"
[model]
{model}
[board]
name = "rk3568"
[evaluation]
questions = "questions.jsonl"
prompts = ["cot"]
"""
FROM_ID = 'id = "acme/Tiny-1B"\ntypes = ["Q8_0"]'


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        running.add_model("acme/Tiny-1B", MODEL)
        yield running


@pytest.fixture(autouse=True)
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(server.url, tmp_path / "hub", timeout_seconds=2.0, pause_seconds=0.0)
    monkeypatch.setattr(Hub, "of_environment", classmethod(lambda cls: found))
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return found


def experiment(folder: Path, model: str) -> Experiment:
    (folder / "questions.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    path = folder / "mine.toml"
    path.write_text(TEXT.format(model=model))
    return load_experiment(str(path))[0]


def drawn(found: Experiment) -> Line:
    return draw_line(found, read_inputs(found), Store())


def test_the_model_is_pulled_first_and_all_of_it_waits_for_it(tmp_path: Path) -> None:
    stages = [*drawn(experiment(tmp_path, FROM_ID)).graph]
    assert stages[0].name == "pull"
    convert = next(stage for stage in stages if stage.name == "convert")
    assert stages[0] in convert.needs
    assert convert.title == "Convert Tiny-1B to a 16-bit GGUF"


def test_a_plan_says_what_it_can_and_fetches_nothing(tmp_path: Path, server: Server) -> None:
    found = experiment(tmp_path, FROM_ID)
    known = estimate(found)
    assert (known.missing, known.parameters, known.parameters_from_name) == ((), 10**9, True)
    planned = plan(drawn(found).graph)
    assert (planned[0].stage.name, planned[0].state, planned[0].cost) == (
        "pull",
        "would run",
        "1 MB",
    )
    assert server.paths() == ["api/models/acme/Tiny-1B/revision/main"]
    server.status = 503
    assert "not known" in plan(drawn(found).graph)[0].cost


def test_what_was_pulled_is_found_without_the_hub(tmp_path: Path, server: Server) -> None:
    found = experiment(tmp_path, FROM_ID)
    line = drawn(found)
    assert line.pulled is not None
    outcome = line.pulled.run(Results(line.pulled, {}))
    assert (outcome.value.commit, outcome.reused) == (COMMIT, False)
    server.asked.clear()
    planned = plan(drawn(found).graph)[0]
    assert (planned.state, planned.key) == ("found", outcome.key)
    again = line.pulled.run(Results(line.pulled, {}))
    assert (again.key, again.reused) == (outcome.key, True)
    assert estimate(found).parameters == 512 * 512
    assert server.asked == []


def test_a_model_without_a_chat_template_is_refused_once_it_is_there(
    tmp_path: Path, server: Server
) -> None:
    server.add_model("acme/Tiny-1B", {**MODEL, "tokenizer_config.json": b"{}"})
    line = drawn(experiment(tmp_path, FROM_ID))
    assert line.pulled is not None
    with pytest.raises(ExperimentError, match="no chat template"):
        line.pulled.run(Results(line.pulled, {}))


def test_ggufs_by_their_patterns(tmp_path: Path, server: Server) -> None:
    whole = gguf(
        {"general.architecture": "llama", "tokenizer.ggml.model": "llama"},
        [TensorSpec("a.weight", (4,))],
    )
    names = ("T-Q2_K.gguf", "T-Q8_0.gguf", "T-F16.gguf")
    server.add_model("acme/ggufs", dict.fromkeys(names, whole))
    found = experiment(
        tmp_path, 'id = "acme/ggufs"\nfile = {Q2_K = "*Q2_K.gguf", Q8_0 = "*Q8_0.gguf"}'
    )
    assert estimate(found).board_bytes is None
    line = drawn(found)
    assert line.pulled is not None
    pulled = line.pulled.run(Results(line.pulled, {}))
    assert set(pulled.value.files) == {"T-Q2_K.gguf", "T-Q8_0.gguf"}
    models = _run(line.models, {"pull": pulled})
    # Used in place, under the names they have in the repository.
    assert [file.path.name for file in models] == ["T-Q2_K.gguf", "T-Q8_0.gguf"]
    assert models.name == "ggufs"
    assert estimate(found).board_bytes == 2 * len(whole)


def _run(stage: Stage[object], outcomes: dict[str, object]) -> object:
    return stage.run(Results(stage, outcomes)).value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ('id = "acme/x"', "give types"),
        ('id = "acme/x"\nfolder = "y"\ntypes = ["Q8_0"]', "either folder, files or id"),
        ('id = "../x"\ntypes = ["Q8_0"]', "no id of a model"),
        ('id = "acme/x"\nrevision = "../y"\ntypes = ["Q8_0"]', "no name of a revision"),
        ('folder = "y"\nrevision = "main"\ntypes = ["Q8_0"]', "go with an id"),
        ('id = "acme/x"\nfile = {a = "*.gguf"}\ntypes = ["Q8_0"]', "variants already"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        experiment(tmp_path, model)
