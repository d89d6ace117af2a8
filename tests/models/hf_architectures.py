"""Tiny folders with random weights of several architectures, made by transformers itself."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tests.models.hf_folder import VOCABULARY, write_llama_folder

BYTE_LEVEL = "ggml-vocab-gpt-2.gguf"
"""Of the pinned tree's models: a byte-level vocabulary, which its converter knows by its tokens."""

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "mistral": {"sliding_window": None},
    "gemma": {"head_dim": 32},
    "gemma2": {"head_dim": 32, "query_pre_attn_scalar": 32},
    "phi3": {},
    "olmo2": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
    },
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "head_dim": 32,
        # As all released ones have it; llama.cpp knows no other.
        "norm_topk_prob": True,
    },
}
WITHOUT_SENTENCEPIECE = frozenset({"olmo2", "qwen2_moe", "qwen3_moe"})
"""What the converter has no other tokenizer for than a byte-level one."""


def write_folder(
    folder: Path,
    kind: str,
    *,
    vocabularies: Path | None = None,
    dtype: str = "bfloat16",
    **changes: Any,
) -> Path:
    """A folder of one kind: transformers' own weights and config, and a real tokenizer.

    Args:
        folder: to be made.
        kind: of :data:`ARCHITECTURES`.
        vocabularies: the pinned tree's ``models``, for kinds without SentencePiece.
        dtype: of the weights.
        changes: to the configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    write_llama_folder(folder, hidden=16, feed_forward=16)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    if kind in WITHOUT_SENTENCEPIECE:
        assert vocabularies is not None
        (folder / "tokenizer.model").unlink()
        tokens = write_byte_level_tokenizer(folder, vocabularies / BYTE_LEVEL)
        changes = {"vocab_size": tokens, "bos_token_id": None, **changes}
        changes = {"eos_token_id": tokens - 1, "pad_token_id": None, **changes}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**COMMON, **ARCHITECTURES[kind], **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms of ones and biases of zeros would hide that they are left out.
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def write_byte_level_tokenizer(folder: Path, vocabulary: Path) -> int:
    """The tokenizer of a GGUF that holds GPT-2's vocabulary; returns how many tokens it has."""
    text, tokens, end = byte_level_tokenizer(vocabulary)
    (folder / "tokenizer.json").write_text(text)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokens


@functools.cache
def byte_level_tokenizer(vocabulary: Path) -> tuple[str, int, str]:
    """A tokenizer.json, how many tokens it has, and the last of them, which ends a text."""
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = GGUFReader(vocabulary).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(tokens[-1], special=True, normalized=False)])
    return tokenizer.to_str(), len(tokens), tokens[-1]


def change_config(folder: Path, **changes: Any) -> None:
    """Write other values into config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
