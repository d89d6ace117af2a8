"""Experiment files: what is accepted, and what the error says when it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgequant.core.errors import ExperimentError, QuantizationError
from edgequant.experiment.file import load_experiment
from edgequant.experiment.question_files import (
    find_question_file,
    question_file,
    question_files,
)
from tests.models.pull.hub_server import Repo, serve

MINIMAL = """
name = "mine"
[model]
folder = "model"
types = ["Q2_K", "Q8_0"]
[board]
name = "rk3568"
[evaluation]
questions = "questions.jsonl"
prompts = ["cot"]
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    experiment, path = load_experiment(write(tmp_path, MINIMAL))
    assert experiment.model.folder == tmp_path / "model"
    assert experiment.evaluation.questions == tmp_path / "questions.jsonl"
    assert path == tmp_path / "mine.toml"


def test_boards_and_prompts_given_by_path_start_there_too(tmp_path: Path) -> None:
    text = MINIMAL.replace('"rk3568"', '"boards/mine.toml"').replace(
        '["cot"]', '["cot", "my.toml"]'
    )
    text += '[[what_if]]\nkind = "predicted"\nboard = "../other.toml"\n'
    experiment, _ = load_experiment(write(tmp_path, text))
    assert experiment.board.name == str(tmp_path / "boards/mine.toml")
    assert experiment.evaluation.prompts == ["cot", str(tmp_path / "my.toml")]
    assert experiment.what_if[0].board == str(tmp_path / "../other.toml")


def test_calibration_starts_there_too(tmp_path: Path) -> None:
    text = MINIMAL + '[model.calibration]\ntexts = ["a.txt"]\nquestions = "q.jsonl"\n'
    section = load_experiment(write(tmp_path, text))[0].model.calibration
    assert section is not None
    assert section.texts == [tmp_path / "a.txt"]
    assert section.questions == tmp_path / "q.jsonl"
    assert (section.prompt, section.tokens) == ("cot", 16384)


def test_absolute_paths_stay(tmp_path: Path) -> None:
    text = MINIMAL.replace('"model"', '"/srv/model"')
    assert load_experiment(write(tmp_path, text))[0].model.folder == Path("/srv/model")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('name = "mine"', "name = 'mine'\nspeling = 1"), "speling"),
        (('types = ["Q2_K", "Q8_0"]', "types = []"), "model: give types"),
        (("[board]", "[model.calibration]\ntokens = 9\n[board]"), "give texts or questions"),
        (('types = ["Q2_K", "Q8_0"]', 'files = {x = "x.gguf"}'), "model: give either"),
        (('folder = "model"', 'files = {x = "x.gguf"}'), "model: files are variants already"),
        (('folder = "model"', 'files = {"../x" = "x.gguf"}'), "no name"),
        (
            ("[board]", "[[model.variant]]\nname = 'x'\nsteps = ['Q2_K']\nmax_bytes = 0\n[board]"),
            "model.variant.0.max_bytes",
        ),
        (('prompts = ["cot"]', 'prompts = ["cot"]\nbudgets = [0]'), "evaluation.budgets.0"),
        (('prompts = ["cot"]', 'prompts = ["cot"]\n[[what_if]]\nkind = "predicted"'), "board"),
        (('folder = "model"', ""), "model: give either folder, files or id"),
        (("[model]", "[model"), "TOML"),
        (('name = "mine"', 'name = "../mine"'), "name"),
        (('name = "mine"', 'name = ".."'), "name"),
        (('name = "mine"', 'name = ""'), "name"),
        (('name = "mine"', 'name = "mine"\ntime_limits_seconds = [inf]'), "time_limits_seconds.0"),
        (('prompts = ["cot"]', 'prompts = ["cot", "cot"]'), "evaluation.prompts: cot"),
        (("[evaluation]", '[measure]\ncache_type_k = "q9"\n[evaluation]'), "q9.*q8_0"),
        (("[evaluation]", 'tools = ["llama-bench"]\n[evaluation]'), "board.tools.*probe"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    with pytest.raises(ExperimentError, match=named) as caught:
        load_experiment(write(tmp_path, MINIMAL.replace(*change)))
    assert str(tmp_path / "mine.toml") in str(caught.value)


TASKS = """
[[evaluation.task]]
name = "gsm8k"
questions = "gsm8k/test.jsonl"
[[evaluation.task]]
name = "arc"
questions = "arc/test.parquet"
limit = 100
prompts = ["choice"]
"""


def test_several_tasks(tmp_path: Path) -> None:
    text = MINIMAL.replace('questions = "questions.jsonl"\n', "") + TASKS
    evaluation = load_experiment(write(tmp_path, text))[0].evaluation
    assert evaluation.all_prompts == ("cot", "choice")
    assert question_files(evaluation) == {
        "gsm8k test.jsonl": tmp_path / "gsm8k/test.jsonl",
        "arc test.parquet": tmp_path / "arc/test.parquet",
    }


def test_questions_of_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are pulled once, into the hub's own cache, and then found without it."""
    line = b'{"question": "1 + 1?", "answer": "#### 2"}\n'
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    dataset = '{ id = "acme/sums", file = "main/test*" }'
    text = MINIMAL.replace('questions = "questions.jsonl"', f"dataset = {dataset}")
    evaluation = load_experiment(write(tmp_path, text))[0].evaluation
    with serve() as server:
        # The package has read the environment already.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        server.repos["datasets/acme/sums"] = Repo(
            {"main/test.jsonl": line, "main/train.jsonl": line * 2}
        )
        assert find_question_file(evaluation) is None
        path = question_file(evaluation)
    assert path.read_bytes() == line
    assert find_question_file(evaluation) == path
    assert question_files(evaluation) == {"test.jsonl": path}


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ('dataset = { id = "a/b" }', "evaluation.dataset.file"),
        ('dataset = { id = "../b", file = "*" }', "is no id of a dataset"),
        ('questions = "q.jsonl"\ndataset = { id = "a/b", file = "*" }', "not both"),
    ],
)
def test_a_wrong_data_set_is_named(tmp_path: Path, key: str, named: str) -> None:
    with pytest.raises(ExperimentError, match=named):
        load_experiment(write(tmp_path, MINIMAL.replace('questions = "questions.jsonl"', key)))


@pytest.mark.parametrize(
    ("questions", "tasks", "named"),
    [
        ("", "", "evaluation: give questions, dataset or"),
        ('questions = "q.jsonl"', TASKS, "evaluation: give questions, dataset or"),
        ("limit = 5", TASKS, "has a limit of its own"),
        ("", TASKS + TASKS, "the task arc, gsm8k is there more than once"),
        ("", TASKS.replace('name = "arc"', 'name = "a/b"'), "evaluation.task.1.name"),
        ("", TASKS.replace("limit = 100", "limit = 0"), "evaluation.task.1.limit"),
    ],
)
def test_questions_stand_in_one_form(
    tmp_path: Path, questions: str, tasks: str, named: str
) -> None:
    text = MINIMAL.replace('questions = "questions.jsonl"', questions) + tasks
    with pytest.raises(ExperimentError, match=named):
        load_experiment(write(tmp_path, text))


def test_prompts_are_needed_by_who_has_none(tmp_path: Path) -> None:
    text = MINIMAL.replace('prompts = ["cot"]\n', "")
    with pytest.raises(ExperimentError, match="give prompts"):
        load_experiment(write(tmp_path, text))
    text = text.replace('questions = "questions.jsonl"\n', "") + TASKS
    with pytest.raises(ExperimentError, match="give prompts"):
        load_experiment(write(tmp_path, text))
    text = text.replace("limit = 100", "").replace('jsonl"\n', 'jsonl"\nprompts = ["aav"]\n')
    evaluation = load_experiment(write(tmp_path, text))[0].evaluation
    assert evaluation.all_prompts == ("aav", "choice")


def test_a_composite_score_needs_a_16_bit_variant(tmp_path: Path) -> None:
    text = MINIMAL + "[evaluation.composite]\naccuracy = 1\n"
    with pytest.raises(ExperimentError, match="add F16 or BF16"):
        load_experiment(write(tmp_path, text))
    with pytest.raises(ExperimentError, match="add F16 or BF16"):
        load_experiment(write(tmp_path, text + 'base = "Q4_0"\n'))
    assert load_experiment(write(tmp_path, text + 'base = "Q8_0"\n'))[0].composite_base == "Q8_0"
    text = text.replace('"Q8_0"]', '"Q8_0", "BF16"]')
    assert load_experiment(write(tmp_path, text))[0].composite_base == "BF16"
    zero = "accuracy = 0\ncompression = 0\nttft = 0\ntpot = 0"
    with pytest.raises(ExperimentError, match="all weights are 0"):
        load_experiment(write(tmp_path, text.replace("accuracy = 1", zero)))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ExperimentError) as caught:
        load_experiment("no-such-experiment")
    assert caught.value.next_step is not None


def test_variants_by_their_types_and_by_their_steps(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        "[board]", "[[model.variant]]\nname = 'small'\nsteps = ['q2_k']\nmax_bytes = 9\n[board]"
    )
    model = load_experiment(write(tmp_path, text))[0].model
    assert [(v.name, v.steps, v.max_bytes) for v in model.variants()] == [
        ("Q2_K", ("Q2_K",), None),
        ("Q8_0", ("Q8_0",), None),
        ("small", ("Q2_K",), 9),
    ]
    assert model.label == "model"


def test_two_variants_of_one_name_are_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("[board]", "[[model.variant]]\nname = 'Q8_0'\nsteps = ['Q4_0']\n[board]")
    model = load_experiment(write(tmp_path, text))[0].model
    with pytest.raises(QuantizationError, match="two variants are called Q8_0"):
        model.variants()


def test_ready_files_start_at_the_file_and_name_the_model(tmp_path: Path) -> None:
    files = 'files = {small = "Llama-8B-Q2_K.gguf", large = "/srv/Llama-8B-Q8_0.gguf"}'
    text = MINIMAL.replace('folder = "model"', files).replace('types = ["Q2_K", "Q8_0"]', "")
    model = load_experiment(write(tmp_path, text))[0].model
    assert model.files == {
        "small": tmp_path / "Llama-8B-Q2_K.gguf",
        "large": Path("/srv/Llama-8B-Q8_0.gguf"),
    }
    assert model.label == "Llama-8B-Q"


def test_ready_files_have_no_16_bit_file_to_be_compared_with(tmp_path: Path) -> None:
    files = 'files = { Q8_0 = "a.gguf" }'
    text = re.sub(r"folder = .*\ntypes = .*", files, MINIMAL) + '[quality]\ntexts = ["t.txt"]\n'
    assert files in text
    with pytest.raises(ExperimentError, match="quality needs the 16-bit file"):
        load_experiment(write(tmp_path, text))
