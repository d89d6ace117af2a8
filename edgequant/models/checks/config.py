"""Does config.json tell of the weights that are there?

The converter believes config.json. Where the weights are others, llama.cpp refuses the file at
best; at worst it computes something else than the model. Only what the standard names tell is
compared: whatever a config leaves out says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgequant.core.errors import ModelFolderError
from edgequant.models.checks.safetensors import StoredTensor, same_data

ROPE_TYPES = frozenset(
    {"default", "linear", "dynamic", "yarn", "longrope", "su", "llama3", "mrope", "proportional"}
)
"""What the converter or llama.cpp does something with; of others the converter only warns."""

PLAIN_ATTENTION = frozenset(
    f"{name}ForCausalLM"
    for name in (
        *("Llama", "Mistral", "Mixtral", "Qwen2", "Qwen2Moe", "Qwen3", "Qwen3Moe"),
        *("Gemma", "Gemma2", "Gemma3", "Olmo", "Olmo2", "Phi3", "Granite"),
    )
)
"""Architectures whose attention has the standard names and shapes."""

EMBEDDING = re.compile(r"(?:.*\.)?embed_tokens\.weight")
LAYER = re.compile(r"(?:language_model\.)?(?:model\.)?(?:language_model\.)?layers\.(\d+)\.(.+)")
_SHOWN = 4

Weights = Mapping[str, tuple[Path, StoredTensor]]
"""Every tensor's name to its file and header entry."""


def check_config(config: Mapping[str, Any], architecture: str, weights: Weights) -> None:
    """Compare config.json with the headers of the weights.

    Args:
        config: the parsed file.
        architecture: as the converter decides it.
        weights: of all safetensors files; where there are none, only the config itself is checked.

    Raises:
        ModelFolderError: what differs, with both numbers.
    """
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else dict(config)
    _check_rope(text)
    if not weights:
        return
    shapes = {name: tuple(entry.shape) for name, (_, entry) in weights.items()}
    layers = _layers(shapes)
    _check_embedding(text, shapes)
    _check_tied(text, weights)
    _check_layer_count(text, layers)
    # A quantized checkpoint packs its numbers: its shapes are its own.
    if architecture in PLAIN_ATTENTION and "quantization_config" not in config:
        _check_all_alike(text, layers)
        _check_shapes(text, layers)


def _check_rope(config: Mapping[str, Any]) -> None:
    for key in ("rope_scaling", "rope_parameters"):
        for holder in _holders(config.get(key)):
            kind = holder.get("rope_type", holder.get("type", "default"))
            if not isinstance(kind, str) or kind.lower() not in ROPE_TYPES:
                raise ModelFolderError(
                    f"{key} has the rope_type {kind!r}, which the converter would pass over: the "
                    f"model would have wrong positions (known: {', '.join(sorted(ROPE_TYPES))})",
                    next_step="correct it in config.json, or build with a newer llama.cpp",
                )


def _holders(rope: Any) -> Iterator[Mapping[str, Any]]:
    """One set of parameters, or one for each kind of layer."""
    if isinstance(rope, dict):
        inner = [value for value in rope.values() if isinstance(value, dict)]
        yield from inner or [rope]


def _check_embedding(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    vocabulary, hidden = _whole(config, "vocab_size"), _whole(config, "hidden_size")
    for name, shape in shapes.items():
        if name == "lm_head.weight" or EMBEDDING.fullmatch(name):
            for told, size, what in zip(
                (vocabulary, hidden), shape, ("rows", "columns"), strict=False
            ):
                key = "vocab_size" if what == "rows" else "hidden_size"
                if told is not None and told != size:
                    raise ModelFolderError(
                        f"{name} has {size} {what}, and config.json says {key} = {told}",
                        next_step=f"correct {key}, or take the weights that belong to it",
                    )


def _check_tied(config: Mapping[str, Any], weights: Weights) -> None:
    """Programs differ in whether a tied model's own output matrix is used."""
    if config.get("tie_word_embeddings") is not True or "lm_head.weight" not in weights:
        return
    embedding = next((at for name, at in weights.items() if EMBEDDING.fullmatch(name)), None)
    if embedding is not None and not same_data(embedding, weights["lm_head.weight"]):
        raise ModelFolderError(
            "config.json says tie_word_embeddings, but lm_head.weight is another matrix than the "
            "embedding: which of the two makes the logits cannot be told",
            next_step='set "tie_word_embeddings": false if the model was trained with a head of '
            "its own; else remove lm_head.weight",
        )


def _layers(shapes: Mapping[str, tuple[int, ...]]) -> dict[int, dict[str, tuple[int, ...]]]:
    """Layer to the shapes of its tensors, by their names in it."""
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if found := LAYER.fullmatch(name):
            layers.setdefault(int(found[1][:9]), {})[found[2]] = shape
    return layers


def _check_layer_count(
    config: Mapping[str, Any], layers: Mapping[int, Mapping[str, Sequence[int]]]
) -> None:
    told = _whole(config, "num_hidden_layers")
    if told is None or not layers:
        return
    extra = _whole(config, "num_nextn_predict_layers") or 0
    # The largest number and how many there are: nothing is sized by what the config says.
    missing = told - sum(1 for layer in layers if layer < told)
    if missing or max(layers) >= told + extra:
        raise ModelFolderError(
            f"the weights have {len(layers)} layers (0 to {max(layers)}), and config.json says "
            f"num_hidden_layers = {told}",
            next_step="correct num_hidden_layers, or download the weights that are missing",
        )


def _check_all_alike(
    config: Mapping[str, Any], layers: Mapping[int, Mapping[str, Sequence[int]]]
) -> None:
    """Every layer of such a model has the same tensors."""
    if any(config.get(key) for key in ("mlp_only_layers", "num_nextn_predict_layers")):
        return
    if (_whole(config, "decoder_sparse_step") or 1) != 1:
        return
    every = {name for tensors in layers.values() for name in tensors if not _is_buffer(name)}
    every |= _expected_attention(every) | _expected_mlp(every)
    missing = [
        f"layers.{layer}.{name}"
        for layer, tensors in sorted(layers.items())
        for name in sorted(every - tensors.keys())
    ]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ModelFolderError(
            f"tensors are missing: {', '.join(missing[:_SHOWN])}{more}",
            next_step="download the weights again",
        )


def _expected_attention(names: set[str]) -> set[str]:
    if "self_attn.qkv_proj.weight" in names:
        return {"self_attn.o_proj.weight"}
    return {f"self_attn.{part}_proj.weight" for part in "qkvo"}


def _expected_mlp(names: set[str]) -> set[str]:
    if not any(name.startswith("mlp.") for name in names):
        return set()
    if any(".experts." in name for name in names):
        return set()
    if "mlp.gate_up_proj.weight" in names:
        return {"mlp.down_proj.weight"}
    return {f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")}


def _is_buffer(name: str) -> bool:
    return name.endswith(".inv_freq")


def _check_shapes(
    config: Mapping[str, Any], layers: Mapping[int, Mapping[str, tuple[int, ...]]]
) -> None:
    expected = _expected_shapes(config)
    for layer, tensors in sorted(layers.items()):
        for name, (shape, keys) in expected.items():
            found = tensors.get(name)
            if found is not None and found != shape:
                raise ModelFolderError(
                    f"layers.{layer}.{name} is {_by(found)}, and config.json says {_by(shape)} "
                    f"({', '.join(keys)})",
                    next_step="take the config.json that belongs to the weights",
                )


def _expected_shapes(
    config: Mapping[str, Any],
) -> dict[str, tuple[tuple[int, int], tuple[str, ...]]]:
    """Name in a layer to its shape, and the keys that tell it."""
    hidden, heads = _whole(config, "hidden_size"), _whole(config, "num_attention_heads")
    feed_forward = _whole(config, "intermediate_size")
    expected: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {}
    if hidden and heads:
        size = _whole(config, "head_dim") or hidden // heads
        groups = _whole(config, "num_key_value_heads") or heads
        queries, keys = heads * size, groups * size
        of_q = ("hidden_size", "num_attention_heads", "head_dim")
        of_k = ("hidden_size", "num_key_value_heads", "head_dim")
        expected |= {
            "self_attn.q_proj.weight": ((queries, hidden), of_q),
            "self_attn.k_proj.weight": ((keys, hidden), of_k),
            "self_attn.v_proj.weight": ((keys, hidden), of_k),
            "self_attn.o_proj.weight": ((hidden, queries), of_q),
            "self_attn.qkv_proj.weight": ((queries + 2 * keys, hidden), (*of_q, of_k[1])),
        }
    if hidden and feed_forward:
        of_mlp = ("hidden_size", "intermediate_size")
        expected |= {
            "mlp.gate_proj.weight": ((feed_forward, hidden), of_mlp),
            "mlp.up_proj.weight": ((feed_forward, hidden), of_mlp),
            "mlp.down_proj.weight": ((hidden, feed_forward), of_mlp),
            "mlp.gate_up_proj.weight": ((2 * feed_forward, hidden), of_mlp),
        }
    return expected


def _whole(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
