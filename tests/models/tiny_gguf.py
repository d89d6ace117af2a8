"""Tiny models with random weights written straight to GGUF; token ids are given, not text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 64


HEADS, KV_HEADS = 4, 2


def shapes_of(
    architecture: str, hidden: int, feed_forward: int, layers: int, head: int, *, tied: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes (rows, columns) of a model's tensors."""
    queries, keys = HEADS * head, KV_HEADS * head
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, hidden)}
    for layer in range(layers):
        own = {
            "attn_norm.weight": (hidden,),
            "attn_q.weight": (queries, hidden),
            "attn_k.weight": (keys, hidden),
            "attn_v.weight": (keys, hidden),
            "attn_output.weight": (hidden, queries),
            "ffn_norm.weight": (hidden,),
            "ffn_gate.weight": (feed_forward, hidden),
            "ffn_up.weight": (feed_forward, hidden),
            "ffn_down.weight": (hidden, feed_forward),
        }
        if architecture == "qwen2":
            own |= {"attn_q.bias": (queries,), "attn_k.bias": (keys,), "attn_v.bias": (keys,)}
        if architecture == "qwen3":
            own |= {"attn_q_norm.weight": (head,), "attn_k_norm.weight": (head,)}
        if architecture == "gemma2":
            own |= {"post_attention_norm.weight": (hidden,), "post_ffw_norm.weight": (hidden,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in own.items()}
    shapes["output_norm.weight"] = (hidden,)
    return shapes if tied else {**shapes, "output.weight": (VOCABULARY, hidden)}


def write_llama(
    path: Path,
    architecture: str = "llama",
    *,
    hidden: int = 256,
    feed_forward: int = 512,
    layers: int = 2,
    dtype: Any = np.float32,
    outliers: bool = False,
    tied: bool = True,
) -> Path:
    """A Llama, or a relative of it.

    With ``outliers``, a few channels behind each norm are large, as in real ones.
    """
    from gguf import GGUFWriter

    head = hidden // HEADS
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head)
    writer.add_file_type(0 if dtype is np.float32 else 1)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    if architecture == "gemma2":
        writer.add_sliding_window(256)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
    rng = np.random.default_rng(0)
    shapes = shapes_of(architecture, hidden, feed_forward, layers, head, tied=tied)
    for name, shape in shapes.items():
        if name.endswith(".bias"):
            writer.add_tensor(name, rng.standard_normal(shape).astype(np.float32))
        elif len(shape) == 1:
            values = 1 + 0.2 * rng.standard_normal(shape)
            if outliers:
                values[rng.permutation(shape[0])[: shape[0] // 32]] *= 20
            writer.add_tensor(name, values.astype(np.float32))
        else:
            values = rng.standard_normal(shape) * (2.0 / np.sqrt(shape[1]))
            writer.add_tensor(name, values.astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(gguf: Path, library: Path, prompts: list[list[int]] | None = None) -> Any:
    """What llama.cpp computes of some tokens, shape (tokens, vocabulary)."""
    from edgequant.models.checks.logits_llama import compute

    request = {
        "gguf": str(gguf),
        "library": str(library),
        "prompts": prompts or passages(2, 24, seed=9),
        "layers": 0,
        "whole": True,
        "threads": 1,
    }
    return compute(request)["logits"]


def passages(count: int = 4, tokens: int = 48, seed: int = 1) -> list[list[int]]:
    """Random token ids."""
    rng = np.random.default_rng(seed)
    return [[int(t) for t in rng.integers(0, VOCABULARY, tokens)] for _ in range(count)]
