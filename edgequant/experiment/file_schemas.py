"""JSON schemas of the files that people write, made from the models that read them."""

from __future__ import annotations

import json

from pydantic import BaseModel

from edgequant.answers.prompts import Prompt
from edgequant.boards.profile import BoardProfile
from edgequant.build.targets.target import Target
from edgequant.experiment.file import Experiment

# The draft that editors' TOML plug-ins read; nothing newer is used.
DRAFT = "http://json-schema.org/draft-07/schema#"

MODELS: dict[str, type[BaseModel]] = {
    "experiment": Experiment,
    "board": BoardProfile,
    "prompt": Prompt,
    "target": Target,
}
NAMED_BY_FILE = frozenset({"board", "prompt", "target"})
"""Kinds whose ``name`` may be left out: it is the file's."""


def file_schema(kind: str) -> dict[str, object]:
    """The schema that a file of one kind has to fit.

    Args:
        kind: one of :data:`MODELS`.
    """
    schema = MODELS[kind].model_json_schema()
    if kind in NAMED_BY_FILE:
        schema["required"] = [key for key in schema["required"] if key != "name"]
    return {"$schema": DRAFT, **schema}


def schema_text(kind: str) -> str:
    """The schema as it is shipped: ``schemas/KIND.json``."""
    return json.dumps(file_schema(kind), indent=2, ensure_ascii=False) + "\n"
