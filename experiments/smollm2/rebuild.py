"""Rebuild a Hugging Face folder from the GGUF of a small Llama.

    python -m experiments.smollm2.rebuild SmolLM2-135M-Instruct.Q4_1.gguf FOLDER

Weights are dequantized to bfloat16, so the folder is *the dequantized GGUF*, not the model that the
GGUF was once made from: what the quantization lost stays lost.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

PRE_TOKENIZER = "smollm"
CONTROL = 3
"""A token's type in GGUF: never written by the model's users."""
TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

Weights = npt.NDArray[np.float32]


def rebuild(source: Path, folder: Path) -> None:
    """Write weights, config and tokenizer.

    Args:
        source: a GGUF of the Llama architecture with tied embeddings and SmolLM2's tokenizer.
        folder: made if it is not there.

    Raises:
        ValueError: the GGUF is of another kind.
    """
    reader = gguf.GGUFReader(source)
    values = {name: field.contents() for name, field in reader.fields.items()}
    _check(values)
    folder.mkdir(parents=True, exist_ok=True)
    heads = {"attn_q": values["llama.attention.head_count"]}
    heads["attn_k"] = values["llama.attention.head_count_kv"]
    tensors = {}
    for tensor in reader.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        if part in heads:
            weights = unpermute(weights, heads[part])
        tensors[hugging_face_name(tensor.name)] = torch.from_numpy(weights.copy()).bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in {
        "config.json": config(values),
        "generation_config.json": _marks(values),
        "tokenizer.json": tokenizer(values),
        "tokenizer_config.json": tokenizer_config(values),
    }.items():
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def unpermute(weights: Weights, heads: int) -> Weights:
    """Undo the converter's order of the rows of Q or K, which pairs the two halves of a head.

    Args:
        weights: rows x columns, rows as (heads, d/2, 2).
        heads: of this matrix.

    Returns:
        The same shape, rows as (heads, 2, d/2).
    """
    rows, columns = weights.shape
    apart = weights.reshape(heads, rows // heads // 2, 2, columns)
    return apart.swapaxes(1, 2).reshape(rows, columns)


def hugging_face_name(name: str) -> str:
    """``blk.3.attn_q.weight`` is ``model.layers.3.self_attn.q_proj.weight``."""
    if name in TOP:
        return TOP[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{IN_BLOCK[part]}.{kind}"


def config(values: dict[str, Any]) -> dict[str, object]:
    """``config.json``."""
    heads = values["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "vocab_size": values["llama.vocab_size"],
        "hidden_size": values["llama.embedding_length"],
        "intermediate_size": values["llama.feed_forward_length"],
        "num_hidden_layers": values["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": values["llama.attention.head_count_kv"],
        "head_dim": values["llama.embedding_length"] // heads,
        "max_position_embeddings": values["llama.context_length"],
        "rope_theta": values["llama.rope.freq_base"],
        # Shortest decimal that is the same 32-bit float: 1e-05.
        "rms_norm_eps": float(str(np.float32(values["llama.attention.layer_norm_rms_epsilon"]))),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        **_marks(values),
    }


def tokenizer(values: dict[str, Any]) -> dict[str, object]:
    """``tokenizer.json``: byte-level BPE in which digits stand one by one."""
    tokens: list[str] = values["tokenizer.ggml.tokens"]
    kinds: list[int] = values["tokenizer.ggml.token_type"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(index, token)
            for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": True,
                },
            ],
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in values["tokenizer.ggml.merges"]],
        },
    }


def tokenizer_config(values: dict[str, Any]) -> dict[str, object]:
    """``tokenizer_config.json``, with the chat template."""
    tokens = values["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "bos_token": tokens[values["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[values["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[values["tokenizer.ggml.unknown_token_id"]],
        "pad_token": tokens[values["tokenizer.ggml.padding_token_id"]],
        "chat_template": values["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": values["llama.context_length"],
    }


def _marks(values: dict[str, Any]) -> dict[str, object]:
    return {
        "bos_token_id": values["tokenizer.ggml.bos_token_id"],
        "eos_token_id": values["tokenizer.ggml.eos_token_id"],
        "pad_token_id": values["tokenizer.ggml.padding_token_id"],
    }


def _added(index: int, token: str) -> dict[str, object]:
    return {
        "id": index,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _check(values: dict[str, Any]) -> None:
    for name, wanted in {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE_TOKENIZER,
    }.items():
        if values.get(name) != wanted:
            raise ValueError(f"{name} is {values.get(name)!r}, and must be {wanted!r}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    rebuild(arguments.gguf, arguments.folder)


if __name__ == "__main__":
    main()
