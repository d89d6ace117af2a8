"""Inputs of matrix products as llama.cpp computes them, against llama-imatrix and numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgequant.core.errors import ConversionError
from edgequant.models.activations import hessians, samples, squares
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.rewrite import read_tensor
from edgequant.models.vocabulary import LIBRARY_NAME
from tests.integration import needs
from tests.models.tiny_gguf import passages, write_llama

pytestmark = [
    pytest.mark.integration,
    needs.BINDINGS,
]


@pytest.fixture(scope="module")
def library(host_build: Any) -> Path:
    return Path(host_build.binary(LIBRARY_NAME))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf", outliers=True)


def numbers(gguf: Path, name: str) -> Any:
    tensor = next(t for t in read_gguf(gguf).tensors if t.name == name)
    return read_tensor(gguf, tensor).view(np.float32)


def first_inputs(gguf: Path) -> Any:
    """What goes into the first layer's q, k and v: the embeddings, normed."""
    embeddings, norm = numbers(gguf, "token_embd.weight"), numbers(gguf, "blk.0.attn_norm.weight")
    rows = embeddings[np.concatenate(passages())]
    return rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5) * norm.ravel()


def matrices(gguf: Path) -> list[str]:
    return [t.name for t in read_gguf(gguf).tensors if len(t.shape) > 1]


def test_sums_are_those_of_numpy(tiny: Path, library: Path) -> None:
    rows = first_inputs(tiny)
    names = [f"blk.0.attn_{part}.weight" for part in "qkv"]
    sums = squares(tiny, library, passages(), names)
    products = hessians(tiny, library, passages(), names)
    for name in names:
        assert sums[name].counts == [len(rows)] == products[name].counts
        np.testing.assert_allclose(sums[name].values[0], (rows**2).sum(axis=0), rtol=1e-4)
        scale = np.abs(rows.T @ rows).max()
        np.testing.assert_allclose(products[name].values[0], rows.T @ rows, atol=1e-5 * scale)


def test_every_weight_is_seen_and_one_input_is_summed_once(tiny: Path, library: Path) -> None:
    found = hessians(tiny, library, passages(), matrices(tiny))
    # The tied embedding is the output matrix, too.
    assert set(found) == set(matrices(tiny))
    assert found["blk.1.ffn_gate.weight"] is found["blk.1.ffn_up.weight"]
    assert found["blk.1.ffn_down.weight"].values.shape == (1, 512, 512)
    sums = squares(tiny, library, passages(), matrices(tiny))
    for name, own in found.items():
        diagonal = np.diagonal(own.values[0])
        np.testing.assert_allclose(diagonal, sums[name].values[0], rtol=1e-5)


def test_a_late_layer_alone_has_the_same_sums(tiny: Path, library: Path) -> None:
    name = "blk.1.attn_output.weight"
    alone = squares(tiny, library, passages(), [name])[name]
    among = squares(tiny, library, passages(), matrices(tiny))[name]
    np.testing.assert_array_equal(alone.values, among.values)


def test_samples_are_rows_of_the_inputs(tiny: Path, library: Path) -> None:
    name = "blk.0.attn_k.weight"
    rows = first_inputs(tiny)
    drawn = samples(tiny, library, passages(), [name], rows=40)[name]
    assert drawn.shape == (40, 256)
    distance = np.abs(drawn[:, None] - rows[None]).max(axis=2).min(axis=1)
    assert distance.max() < 1e-3
    again = samples(tiny, library, passages(), [name], rows=40)[name]
    np.testing.assert_array_equal(drawn, again)


def test_a_passage_longer_than_a_batch_counts_whole(tiny: Path, library: Path) -> None:
    long = passages(1, 700)
    sums = squares(tiny, library, long, ["blk.0.ffn_up.weight"])
    assert sums["blk.0.ffn_up.weight"].counts == [700]


def test_a_broken_model_is_an_error(tiny: Path, library: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny.read_bytes()[:-4096])
    with pytest.raises(ConversionError, match="cannot load"):
        squares(broken, library, passages(), matrices(tiny))
