"""Give a trained model the outlier channels of large language models, without changing it.

Large models have a few channels whose weights and activations differ from their neighbours' by
orders of magnitude, and that is what makes low-bit quantization hard for them.  A model this
small and this evenly trained has none: at 2 bits it answers as well as at 16.  So that the demo
shows what quantization does to models that people really use, channels are rescaled by random
powers of two: what a weight matrix gains is taken from the norm gain, or from the matrix, before
it.  Powers of two are exact in bf16, so the network computes the very same function; only the
weights that share a quantization block now differ in size.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from torch import Tensor

from .evaluate import load
from .model import Llama, save_hugging_face
from .tokenizer import TOKENIZER_FILES

STRENGTH = 0.6
"""Standard deviation of the exponents, in octaves, of the shipped model."""


def _powers(size: int, strength: float, generator: torch.Generator) -> Tensor:
    """Draw ``2**k`` with ``k`` normal, rounded, and of the given standard deviation in octaves."""
    return torch.exp2(torch.round(torch.randn(size, generator=generator) * strength))


@torch.no_grad()
def add_outliers(model: Llama, strength: float, seed: int = 0) -> None:
    """Rescale channels in place by powers of two whose exponents spread by ``strength``."""
    generator = torch.Generator().manual_seed(seed)
    shape = model.shape
    share = shape.heads // shape.kv_heads
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm, readers in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
        ):
            scale = _powers(shape.hidden, strength, generator)
            norm.weight.div_(scale)
            for reader in readers:
                reader.weight.mul_(scale)
        scale = _powers(shape.feed_forward, strength, generator)
        mlp.up_proj.weight.div_(scale[:, None])
        mlp.down_proj.weight.mul_(scale)
        scale = _powers(shape.kv_heads * shape.head_size, strength, generator)
        attention.v_proj.weight.div_(scale[:, None])
        by_head = scale.view(shape.kv_heads, shape.head_size).repeat_interleave(share, dim=0)
        attention.o_proj.weight.mul_(by_head.flatten())


def main() -> None:
    """Rescale a folder that ``train.py`` has written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Hugging Face folder to read")
    parser.add_argument("--out", type=Path, required=True, help="Hugging Face folder to write")
    parser.add_argument("--strength", type=float, default=STRENGTH, help="spread in octaves")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = load(arguments.folder, torch.device("cpu"))
    add_outliers(model, arguments.strength, arguments.seed)
    save_hugging_face(model, arguments.out)
    for name in (*TOKENIZER_FILES, "training.json"):
        source = arguments.folder / name
        if source.resolve() != (arguments.out / name).resolve():
            shutil.copyfile(source, arguments.out / name)


if __name__ == "__main__":
    main()
