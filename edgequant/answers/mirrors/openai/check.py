"""Whether a llama-server of others serves the very model, from the very llama.cpp."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgequant.core.hashing import sha256_file
from edgequant.core.text import printable
from edgequant.models.model_file import ModelFile

TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        problems: what differs, in words; none: as far as can be told it is the same.
        model_by: how the model was told.
        commit: of the server's llama.cpp; "" where it does not say.
    """

    problems: tuple[str, ...]
    model_by: str
    commit: str


def is_llama_server(props: object) -> bool:
    """Whether an answer to ``/props`` is llama-server's."""
    return isinstance(props, dict) and {"build_info", "default_generation_settings"} <= set(props)


def check_llama_server(
    props: Mapping[str, Any],
    models: Mapping[str, Any],
    model: ModelFile,
    commit: str,
    *,
    same_machine: bool,
) -> Checked:
    """Compare a server's own words with a model file and a commit.

    Args:
        props: its answer to ``/props``.
        models: its answer to ``/v1/models``.
        model: what it should serve.
        commit: what it should be built from.
        same_machine: its paths are this machine's.
    """
    problems = []
    its_commit = build_commit(props.get("build_info"))
    if not same_commit(its_commit, commit):
        said = f"commit {its_commit}" if its_commit else "a commit that it does not say"
        problems.append(f"is built from {said}, not from {commit}")
    digest = _digest(props.get("model_path")) if same_machine else None
    if digest is not None:
        model_by = "SHA-256 of its file"
        if digest != model.sha256:
            problems.append(f"serves a file with another SHA-256 than {model.path.name}")
    else:
        model_by = "size, number of parameters and vocabulary"
        problems += _other_sizes(_meta(models), model)
    template = model.header.metadata.get(TEMPLATE)
    if template is not None and props.get("chat_template") != template:
        problems.append("has another chat template than the model's own")
    return Checked(tuple(problems), model_by, its_commit)


def build_commit(build_info: object) -> str:
    """The commit in llama-server's ``build_info``, as in ``b4321-0c1e57098``; "" without one."""
    found = re.search(r"-([0-9a-f]{7,40})$", build_info) if isinstance(build_info, str) else None
    return found[1] if found else ""


def same_commit(one: str, other: str) -> bool:
    """Whether two commits, shortened or not, are the same."""
    return bool(one) and bool(other) and (one.startswith(other) or other.startswith(one))


def _digest(path: object) -> str | None:
    if not isinstance(path, str) or "\0" in path or not path.startswith("/"):
        return None
    try:
        return sha256_file(Path(path)) if Path(path).is_file() else None
    except OSError:
        return None


def _meta(models: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        meta = models["data"][0]["meta"]
    except (KeyError, IndexError, TypeError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _other_sizes(meta: Mapping[str, Any], model: ModelFile) -> list[str]:
    ours = {
        "size": (model.header.tensor_bytes, "bytes of weights"),
        "n_params": (model.header.parameter_count, "parameters"),
        "n_vocab": (model.header.array_lengths.get("tokenizer.ggml.tokens"), "tokens"),
    }
    if not any(key in meta for key in ours):
        return ["does not say what model it serves"]
    return [
        f"serves a model of {printable(str(meta[key]))[:40]} {unit}, not of {number} "
        f"as {model.path.name} has"
        for key, (number, unit) in ours.items()
        if number is not None and key in meta and meta[key] != number
    ]
