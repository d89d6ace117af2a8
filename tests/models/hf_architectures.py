"""Tiny folders with random weights of several architectures, made by transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.models.hf_folder import VOCABULARY, write_llama_folder

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
}


def write_folder(folder: Path, kind: str, *, dtype: str = "bfloat16", **changes: Any) -> Path:
    """A folder of one kind: transformers' own weights and config, and a real tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    write_llama_folder(folder, hidden=16, feed_forward=16)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
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


def change_config(folder: Path, **changes: Any) -> None:
    """Write other values into config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
