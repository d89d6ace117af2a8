"""The shipped JSON schemas: what the models make, and what the shipped files name and fit."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from edgequant.cli import app
from edgequant.core.paths import data_folder, list_data_files
from edgequant.experiment.file_schemas import MODELS, file_schema, schema_text

FOLDERS = {
    "experiment": "experiments",
    "board": "boards",
    "prompt": "prompts",
    "target": "toolchain/targets",
}
FILES = [
    (kind, path) for kind, folder in FOLDERS.items() for path in list_data_files(folder).values()
]


@pytest.mark.parametrize("kind", MODELS)
def test_the_shipped_schema_is_what_the_models_make(kind: str) -> None:
    shipped = (data_folder("schemas") / f"{kind}.json").read_text(encoding="utf-8")
    assert shipped == schema_text(kind), f"write schemas/{kind}.json with edgequant schema {kind}"


@pytest.mark.parametrize("kind", MODELS)
def test_the_verb_prints_it(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["schema", kind]) == 0
    assert json.loads(capsys.readouterr().out) == file_schema(kind)


def test_an_unknown_kind_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["schema", "lock"]) == app.USAGE_ERROR
    assert "experiment" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: getattr(value, "name", value))
def test_a_shipped_file_names_its_schema_and_fits_it(kind: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = text.partition("\n")[0].removeprefix("#:schema ")
    assert (path.parent / named).resolve() == data_folder("schemas") / f"{kind}.json"
    schema = file_schema(kind)
    Draft7Validator.check_schema(schema)
    problems = list(Draft7Validator(schema).iter_errors(tomllib.loads(text)))
    assert not problems


def test_a_misspelt_key_does_not_fit() -> None:
    board = {"build": {"target": "armv8-a"}, "cpu": {"cors": 4}}
    (problem,) = Draft7Validator(file_schema("board")).iter_errors(board)
    assert "cors" in problem.message


def test_what_a_key_means_is_in_the_schema() -> None:
    definitions = file_schema("experiment")["$defs"]
    assert isinstance(definitions, dict)
    folder = definitions["ModelSection"]["properties"]["folder"]
    assert "relative paths start at the experiment file" in folder["description"]
