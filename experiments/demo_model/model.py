"""The demo model in plain PyTorch, named and shaped like Hugging Face's ``LlamaForCausalLM``.

Written out here because training packs many documents into a row, which needs an attention mask
of its own, and because the whole of it is then one compiled graph.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .examples import END_ID, PAD_ID, START_ID
from .tokenizer import VOCABULARY


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network.  ``hidden`` and ``feed_forward`` must be multiples of 256.

    K-quants work on blocks of 256 weights, and llama-quantize silently takes other types for
    rows that are no multiple of that.
    """

    hidden: int = 256
    layers: int = 8
    feed_forward: int = 768
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = VOCABULARY
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    def config(self) -> dict[str, Any]:
        """The contents of Hugging Face's config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_eps,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": START_ID,
            "eos_token_id": END_ID,
            "pad_token_id": PAD_ID,
            "torch_dtype": "bfloat16",
        }


class NoisyLinear(nn.Linear):
    """A linear layer that can be trained under weight noise, to get used to quantization.

    ``noise`` is the standard deviation of the noise relative to each row's mean magnitude.
    """

    noise: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.training and self.noise > 0:
            scale = weight.detach().abs().mean(dim=1, keepdim=True) * self.noise
            weight = weight + torch.randn_like(weight) * scale
        return functional.linear(x, weight)


class Norm(nn.Module):
    """RMSNorm with a gain."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return wide.type_as(x) * self.weight.type_as(x)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = shape.head_size
        self.shape = shape
        self.q_proj = NoisyLinear(shape.hidden, shape.heads * size, bias=False)
        self.k_proj = NoisyLinear(shape.hidden, shape.kv_heads * size, bias=False)
        self.v_proj = NoisyLinear(shape.hidden, shape.kv_heads * size, bias=False)
        self.o_proj = NoisyLinear(shape.heads * size, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Any) -> Tensor:
        batch, width, _ = x.shape
        size = self.shape.head_size
        q = self.q_proj(x).view(batch, width, self.shape.heads, size).transpose(1, 2)
        k = self.k_proj(x).view(batch, width, self.shape.kv_heads, size).transpose(1, 2)
        v = self.v_proj(x).view(batch, width, self.shape.kv_heads, size).transpose(1, 2)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if mask is None or isinstance(mask, Tensor):
            out = functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
            )
        else:
            from torch.nn.attention.flex_attention import flex_attention

            out = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).reshape(batch, width, -1))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos.type_as(x) + torch.cat((-second, first), dim=-1) * sin.type_as(x)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = NoisyLinear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = NoisyLinear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = NoisyLinear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One block of attention and feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = Norm(shape.hidden, shape.norm_eps)
        self.post_attention_layernorm = Norm(shape.hidden, shape.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Any) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Everything but the output head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.norm_eps)


class Llama(nn.Module):
    """The network; ``state_dict()`` has Hugging Face's names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * shape.layers) ** 0.5
                nn.init.normal_(parameter, std=std)

    def set_noise(self, noise: float) -> None:
        """Train under this much weight noise from now on (0 turns it off)."""
        for module in self.modules():
            if isinstance(module, NoisyLinear):
                module.noise = noise

    def forward(self, ids: Tensor, positions: Tensor, mask: Any = None) -> Tensor:
        """Return the last hidden states, normed; ``positions`` has the shape of ``ids``."""
        size = self.shape.head_size
        power = torch.arange(0, size, 2, device=ids.device).float() / size
        angle = positions[..., None].float() * self.shape.rope_theta**-power
        angle = torch.cat((angle, angle), dim=-1)[:, None]
        cos, sin = angle.cos(), angle.sin()
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of every token for the given hidden states."""
        return functional.linear(hidden, self.model.embed_tokens.weight.type_as(hidden))


def save_hugging_face(model: Llama, folder: Path) -> None:
    """Write config.json, generation_config.json and model.safetensors (bf16)."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = model.shape.config()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {
        "bos_token_id": START_ID,
        "eos_token_id": END_ID,
        "pad_token_id": PAD_ID,
        "do_sample": False,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    tensors = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
