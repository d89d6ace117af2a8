"""An adapter merged into a GGUF: W + alpha/r B A in the GGUF's own order of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import ModelFolderError
from edgequant.models.adapter import read_adapter
from edgequant.models.make import find_variant, make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.lora import merged_tensors, paired
from edgequant.models.steps.registry import canonical_step
from edgequant.models.steps.step import HostBuild, StepContext
from edgequant.models.variant import Variant
from tests.models.adapter_folder import Floats, matrices, write_adapter
from tests.models.gguf_writer import TensorSpec, gguf
from tests.models.tiny_gguf import write_llama

SHAPES = {
    "model.layers.0.self_attn.q_proj": (64, 64),
    "model.layers.0.self_attn.k_proj": (32, 64),
    "model.layers.1.mlp.down_proj": (64, 96),
}
NAMES = {
    "model.layers.0.self_attn.q_proj": "blk.0.attn_q.weight",
    "model.layers.0.self_attn.k_proj": "blk.0.attn_k.weight",
    "model.layers.1.mlp.down_proj": "blk.1.ffn_down.weight",
}


def values(file: ModelFile) -> dict[str, Floats]:
    from gguf import GGUFReader, dequantize

    return {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(file.path).tensors}


def context(tmp_path: Path) -> StepContext:
    return StepContext("tiny", cast(HostBuild, None), Store(tmp_path / "store"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_are_changed_in_the_order_of_the_gguf(tmp_path: Path, dtype: Any) -> None:
    file = write_llama(tmp_path / "tiny.gguf", hidden=64, feed_forward=96, dtype=dtype)
    base = ModelFile.of_path("F16", file)
    tensors = matrices(SHAPES)
    write_adapter(tmp_path / "adapter", tensors)
    variant = Variant.of_steps("tuned", [f"lora:{tmp_path / 'adapter'}"])
    made = make_variant(variant, base, context(tmp_path))
    assert [(t.name, t.type) for t in made.header.tensors] == [
        (t.name, t.type) for t in base.header.tensors
    ]
    before, after = values(base), values(made)
    heads = {"blk.0.attn_q.weight": 4, "blk.0.attn_k.weight": 2}
    for module, name in NAMES.items():
        a, b = (tensors[f"base_model.model.{module}.lora_{m}.weight"] for m in "AB")
        change = 2.0 * b @ a
        if name in heads:
            # The converter pairs row i of a head's first half with row i of its second.
            d = len(change) // heads[name]
            order = [h * d + half * d // 2 + i for h in range(heads[name])
                     for i in range(d // 2) for half in (0, 1)]  # fmt: skip
            change = change[order]
        assert np.allclose(after.pop(name), before.pop(name) + change, rtol=1e-3, atol=1e-3)
    assert all((after[name] == before[name]).all() for name in before)
    found = find_variant(variant, base, context(tmp_path))
    assert found is not None and found.path == made.path
    write_adapter(tmp_path / "adapter", tensors, lora_alpha=4)
    assert find_variant(variant, base, context(tmp_path)) is None


def test_rows_are_paired_as_the_converter_pairs_them() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert paired(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_sum_too_large_for_sixteen_bits_is_an_error(tmp_path: Path) -> None:
    file = write_llama(tmp_path / "tiny.gguf", hidden=64, feed_forward=96, dtype=np.float16)
    write_adapter(tmp_path / "adapter", matrices(SHAPES), lora_alpha=500_000)
    variant = Variant.of_steps("tuned", [f"lora:{tmp_path / 'adapter'}"])
    with pytest.raises(ModelFolderError, match="too large for F16"):
        make_variant(variant, ModelFile.of_path("F16", file), context(tmp_path))


@pytest.mark.parametrize(
    ("module", "shape", "said"),
    [
        ("model.layers.0.self_attn.q_proj", (64, 32), "of 64 x 32, and this model's has 64 x 64"),
        ("model.layers.7.self_attn.q_proj", (64, 64), "has not as a weight"),
        ("lm_head", (64, 64), "changes lm_head, which"),
        ("model.layers.0.mlp.experts.3.up_proj", (96, 64), "experts.3.up_proj, which"),
    ],
)
def test_another_models_adapter_is_refused(
    tmp_path: Path, module: str, shape: tuple[int, int], said: str
) -> None:
    file = write_llama(tmp_path / "tiny.gguf", hidden=64, feed_forward=96)
    write_adapter(tmp_path / "adapter", matrices({module: shape}), target_modules=None)
    with pytest.raises(ModelFolderError, match=said):
        merged_tensors(read_adapter(tmp_path / "adapter"), ModelFile.of_path("F32", file).header)


def test_an_architecture_whose_order_is_not_known_is_refused(tmp_path: Path) -> None:
    head: dict[str, object] = {"general.architecture": "gptneox"}
    (tmp_path / "a.gguf").write_bytes(gguf(head, [TensorSpec("x", (32,), "F32")]))
    write_adapter(tmp_path / "adapter", matrices(SHAPES))
    header = ModelFile.of_path("F32", tmp_path / "a.gguf").header
    with pytest.raises(ModelFolderError, match="architecture gptneox are not merged"):
        merged_tensors(read_adapter(tmp_path / "adapter"), header)


def test_the_word_starts_at_a_folder(tmp_path: Path) -> None:
    assert canonical_step("lora:a/b", tmp_path) == f"lora:{tmp_path}/a/b"
