"""Tiny models with random weights written straight to GGUF; token ids are given, not text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = 64


def llama_shapes(
    hidden: int, feed_forward: int, layers: int, *, heads: int = 4, kv_heads: int = 2
) -> dict[str, tuple[int, ...]]:
    """Names and shapes (rows, columns) of a Llama with tied embeddings."""
    head = hidden // heads
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, hidden)}
    for layer in range(layers):
        at = f"blk.{layer}."
        shapes |= {
            at + "attn_norm.weight": (hidden,),
            at + "attn_q.weight": (heads * head, hidden),
            at + "attn_k.weight": (kv_heads * head, hidden),
            at + "attn_v.weight": (kv_heads * head, hidden),
            at + "attn_output.weight": (hidden, heads * head),
            at + "ffn_norm.weight": (hidden,),
            at + "ffn_gate.weight": (feed_forward, hidden),
            at + "ffn_up.weight": (feed_forward, hidden),
            at + "ffn_down.weight": (hidden, feed_forward),
        }
    return {**shapes, "output_norm.weight": (hidden,)}


def write_llama(
    path: Path,
    *,
    hidden: int = 256,
    feed_forward: int = 512,
    layers: int = 2,
    dtype: Any = np.float32,
    outliers: bool = False,
) -> Path:
    """A Llama; with ``outliers``, a few channels behind each norm are large, as in real ones."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // 4)
    writer.add_file_type(0 if dtype is np.float32 else 1)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    rng = np.random.default_rng(0)
    for name, shape in llama_shapes(hidden, feed_forward, layers).items():
        if len(shape) == 1:
            values = 1 + 0.2 * rng.standard_normal(shape)
            if outliers:
                values[rng.permutation(shape[0])[:8]] *= 20
            writer.add_tensor(name, values.astype(np.float32))
        else:
            values = rng.standard_normal(shape) * (2.0 / np.sqrt(shape[1]))
            writer.add_tensor(name, values.astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def passages(count: int = 4, tokens: int = 48, seed: int = 1) -> list[list[int]]:
    """Random token ids."""
    rng = np.random.default_rng(seed)
    return [[int(t) for t in rng.integers(0, VOCABULARY, tokens)] for _ in range(count)]
