"""An adapter's folder: what is read of it, and what is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgequant.core.errors import ModelFolderError
from edgequant.models.adapter import read_adapter
from tests.models.adapter_folder import matrices, write_adapter

SHAPES = {
    "model.layers.0.self_attn.q_proj": (8, 6),
    "model.layers.0.self_attn.k_proj": (4, 6),
    "model.layers.0.mlp.down_proj": (6, 10),
}


def test_the_product_is_scaled_by_alpha_over_the_rank(tmp_path: Path) -> None:
    tensors = matrices(SHAPES)
    adapter = read_adapter(write_adapter(tmp_path, tensors))
    assert {module: pair.shape for module, pair in adapter.pairs.items()} == SHAPES
    a, b = adapter.matrices("model.layers.0.mlp.down_proj")
    assert (a == tensors["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"]).all()
    assert np.allclose(
        b, 2 * tensors["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"]
    )
    stabilized = read_adapter(write_adapter(tmp_path, tensors, use_rslora=True))
    assert stabilized.scale == 4.0


def test_sixteen_bits_are_read_as_they_are(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    tensors = {k: torch.from_numpy(v) for k, v in matrices(SHAPES).items()}
    for kind in (torch.bfloat16, torch.float16):
        write_adapter(tmp_path, {})
        rounded = {name: values.to(kind) for name, values in tensors.items()}
        save_file(rounded, tmp_path / "adapter_model.safetensors")
        a, _ = read_adapter(tmp_path).matrices("model.layers.0.mlp.down_proj")
        wanted = rounded["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"]
        assert (a == wanted.float().numpy()).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "of kind 'IA3', not LORA"),
        ({"use_dora": True}, '"use_dora" is not supported'),
        ({"modules_to_save": ["lm_head"]}, '"modules_to_save" is not supported'),
        ({"rank_pattern": {"q_proj": 8}}, '"rank_pattern" is not supported'),
        ({"alpha_pattern": {"q_proj": 8}}, '"alpha_pattern" is not supported'),
        ({"bias": "all"}, '"bias" is not supported'),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the model's own weights"),
        ({"init_lora_weights": {"a": 1}}, "which changes the model's own weights"),
        ({"r": 0}, '"r" is 0'),
        ({"r": True}, '"r" is True'),
        ({"r": 2}, r"has the shape \[4, 6\], at rank 2"),
        ({"r": 1e300}, '"r" is 1e'),
        ({"lora_alpha": "8"}, "\"lora_alpha\" is '8'"),
        ({"target_modules": ["q_proj", "k_proj"]}, "down_proj, which adapter_config.json does not"),
        (
            {"target_modules": ["q_proj", "k_proj", "down_proj", "v_proj"]},
            "has nothing for v_proj, which",
        ),
    ],
)
def test_what_is_no_plain_adapter_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    write_adapter(tmp_path, matrices(SHAPES), **changes)
    with pytest.raises(ModelFolderError, match=said):
        read_adapter(tmp_path)


def test_targets_need_not_be_a_list(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, matrices(SHAPES), target_modules="all-linear")
    assert len(read_adapter(folder).pairs) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "base_model.model.model.layers.0.q_proj.lora_magnitude_vector",
            "magnitude_vector' is not",
        ),
        ("base_model.model.lm_head.weight", "lm_head.weight' is not one of"),
        ("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight", "one of the two"),
    ],
)
def test_other_tensors_are_named(tmp_path: Path, name: str, said: str) -> None:
    tensors = {**matrices(SHAPES), name: np.ones((4, 6), np.float32)}
    with pytest.raises(ModelFolderError, match=said):
        read_adapter(write_adapter(tmp_path, tensors))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = write_adapter(tmp_path, matrices(SHAPES)) / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(ModelFolderError, match="truncated or damaged"):
        read_adapter(tmp_path)
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    next(iter(header.values()))["dtype"] = "I32"
    head = json.dumps(header).encode()
    file.write_bytes(len(head).to_bytes(8, "little") + head + whole[8 + length :])
    with pytest.raises(ModelFolderError, match="is of I32, not of F32"):
        read_adapter(tmp_path)


def test_no_number_is_no_adapter(tmp_path: Path) -> None:
    tensors = matrices(SHAPES)
    next(iter(tensors.values()))[0, 0] = np.nan
    adapter = read_adapter(write_adapter(tmp_path, tensors))
    with pytest.raises(ModelFolderError, match=r"NaN or infinite values for .*q_proj"):
        adapter.matrices("model.layers.0.self_attn.q_proj")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, matrices(SHAPES))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelFolderError, match=r"has no adapter_model.safetensors") as raised:
        read_adapter(folder)
    assert "pickles" in (raised.value.next_step or "")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"peft_type": "LORA", "r": ' + b"9" * 5000 + b"}",
        b'{"peft_type": "LORA", "r": NaN}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"peft_type": ["LORA"]}',
    ],
)
def test_whatever_is_in_the_settings_is_an_error_of_its_class(
    tmp_path: Path, document: bytes
) -> None:
    write_adapter(tmp_path, matrices(SHAPES))
    (tmp_path / "adapter_config.json").write_bytes(document)
    with pytest.raises(ModelFolderError):
        read_adapter(tmp_path)
