"""A model's beginning as a folder: the very numbers of its first layers, and few rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgequant.models.checks.beginning import can_begin, write_beginning

LAYERS, VOCABULARY, HIDDEN = 3, 50, 8


def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    shapes["lm_head.weight"] = (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = (2 * HIDDEN, HIDDEN)
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = (HIDDEN,)
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    config = {
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY,
        "pad_token_id": 49,
        "layer_types": ["full_attention"] * LAYERS,
    }
    (path / "config.json").write_text(json.dumps(config))
    # In two files, and layers across them.
    items = list(tensors().items())
    save_file(dict(items[:5]), path / "model-00001-of-00002.safetensors")
    save_file(dict(items[5:]), path / "model-00002-of-00002.safetensors")
    return path


def test_first_layers_and_the_rows_of_some_tokens(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert can_begin(folder, 2)
    write_beginning(folder, out, 2, [3, 49, 7])
    expected = {name: value for name, value in tensors().items() if ".layers.2." not in name}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        expected[name] = expected[name][[3, 49, 7]]
    found = load_file(out / "model.safetensors")
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    config = json.loads((out / "config.json").read_text())
    assert (config["num_hidden_layers"], config["vocab_size"]) == (2, 3)
    assert config["layer_types"] == ["full_attention"] * 2
    assert config["pad_token_id"] is None


def test_other_names_are_left_whole(folder: Path) -> None:
    assert not can_begin(folder, LAYERS + 1)
    file = folder / "model-00002-of-00002.safetensors"
    save_file({**load_file(file), "model.extra": np.zeros((2, 2), np.float32)}, file)
    assert not can_begin(folder, 2)
