"""config.json is compared with the weights that lie beside it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgequant.core.errors import ModelFolderError
from edgequant.models.folder import check_model_folder
from tests.models.hf_folder import drop_tensor, safetensors

HIDDEN, VOCABULARY, FEED_FORWARD = 16, 20, 24


def tensor(*shape: int, fill: bytes = b"\x01") -> tuple[str, tuple[int, ...], bytes]:
    return "BF16", shape, fill * (2 * math.prod(shape))


def weights(layers: int = 2, **extra: tuple[str, tuple[int, ...], bytes]) -> bytes:
    tensors = {"model.embed_tokens.weight": tensor(VOCABULARY, HIDDEN)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for part, rows in (("q", 16), ("k", 8), ("v", 8), ("o", 16)):
            tensors[f"{at}self_attn.{part}_proj.weight"] = tensor(rows, HIDDEN)
        tensors |= {
            f"{at}mlp.gate_proj.weight": tensor(FEED_FORWARD, HIDDEN),
            f"{at}mlp.up_proj.weight": tensor(FEED_FORWARD, HIDDEN),
            f"{at}mlp.down_proj.weight": tensor(HIDDEN, FEED_FORWARD),
            f"{at}input_layernorm.weight": tensor(HIDDEN),
        }
    return safetensors(tensors | {name.replace("__", "."): value for name, value in extra.items()})


CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": FEED_FORWARD,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": True,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.model").write_bytes(b"pieces")
    (path / "model.safetensors").write_bytes(weights())
    return path


def told(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))


def held(data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (told(vocab_size=32), "embed_tokens.weight has 20 rows, and .* vocab_size = 32"),
        (told(hidden_size=32), "has 16 columns, and .* hidden_size = 32"),
        (told(num_hidden_layers=3), r"2 layers \(0 to 1\), .* num_hidden_layers = 3"),
        (told(num_hidden_layers=1), r"2 layers \(0 to 1\), .* num_hidden_layers = 1"),
        (told(num_attention_heads=8), r"layers.0.self_attn.k_proj.weight is 8 x 16, .* 4 x 16"),
        (told(num_key_value_heads=4), r"k_proj.weight is 8 x 16, .* 16 x 16"),
        (told(intermediate_size=32), r"gate_proj.weight is 24 x 16, .* 32 x 16"),
        (told(rope_scaling={"rope_type": "cubic"}), "rope_type 'cubic'"),
        (told(rope_scaling={"type": "cubic"}), "rope_type 'cubic'"),
        (told(rope_parameters={"full_attention": {"rope_type": "cubic"}}), "rope_type 'cubic'"),
        (
            lambda f: drop_tensor(f / "model.safetensors", "model.layers.1.mlp.down_proj.weight"),
            r"missing: layers.1.mlp.down_proj.weight",
        ),
        (
            lambda f: drop_tensor(f / "model.safetensors", "model.layers.1.input_layernorm.weight"),
            r"missing: layers.1.input_layernorm.weight",
        ),
        (
            held(weights(lm_head__weight=tensor(VOCABULARY, HIDDEN, fill=b"\x02"))),
            "tie_word_embeddings, but lm_head.weight is another",
        ),
        (held(weights(lm_head__weight=tensor(21, HIDDEN))), "lm_head.weight has 21 rows"),
    ],
)
def test_what_differs_is_named_with_both_numbers(
    folder: Path, spoil: Callable[[Path], object], message: str
) -> None:
    check_model_folder(folder)
    spoil(folder)
    with pytest.raises(ModelFolderError, match=message) as raised:
        check_model_folder(folder)
    assert raised.value.subject == str(folder)


@pytest.mark.parametrize(
    "change",
    [
        held(weights(lm_head__weight=tensor(VOCABULARY, HIDDEN))),
        told(rope_scaling={"rope_type": "llama3"}),
        told(rope_scaling=None),
        told(rope_scaling={"type": "yarn", "factor": 4.0}),
        held(weights(vision_tower__layers__7__weight=tensor(3, 3))),
        held(weights(model__layers__0__self_attn__rotary_emb__inv_freq=tensor(4))),
    ],
)
def test_what_is_no_difference_passes(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    assert check_model_folder(folder).architecture == "LlamaForCausalLM"


def test_shapes_of_an_attention_of_its_own_kind_are_left_alone(folder: Path) -> None:
    told(architectures=["DeepseekV2ForCausalLM"], num_attention_heads=8)(folder)
    check_model_folder(folder)


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def test_one_part_without_an_index_is_not_a_model(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / SHARDS[0])
    with pytest.raises(ModelFolderError, match=r"1 of 2 weight files are missing .*number 2"):
        check_model_folder(folder)


def test_a_tensor_in_two_files_or_in_another_than_the_index_says(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / SHARDS[0])
    shutil.copyfile(folder / SHARDS[0], folder / SHARDS[1])
    with pytest.raises(ModelFolderError, match="which model-00001-of-00002"):
        check_model_folder(folder)
    (folder / SHARDS[1]).write_bytes(safetensors({"other": tensor(1)}))
    index = {"weight_map": {"other": SHARDS[0]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFolderError, match="names other in model-00001"):
        check_model_folder(folder)


def test_an_adapter_says_that_it_is_one(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/base"}')
    with pytest.raises(ModelFolderError, match="is an adapter of acme/base, not a model"):
        check_model_folder(folder)


def test_a_link_to_nothing_says_so(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/gone")
    with pytest.raises(ModelFolderError, match=r"link to \.\./blobs/gone, which is not there"):
        check_model_folder(folder)
    link = folder.parent / "link"
    link.symlink_to("nowhere")
    with pytest.raises(ModelFolderError, match="link to nowhere"):
        check_model_folder(link)
