"""Write a Llama of random weights, of a size that boards really run, to count instructions with.

python benchmarks/random_model.py FOLDER

Its answers mean nothing; what a token takes does not depend on the weights' values. The tokenizer
is the demo model's. By default 95 million parameters: 8 layers of the width that Llamas of half a
billion parameters have.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import typer

DEMO_MODEL = Path(__file__).resolve().parent.parent / "experiments" / "demo_model" / "model"
TOKENIZER_FILES = (
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)
SPREAD = 0.02


def make_config(demo: dict[str, object], layers: int, hidden: int) -> dict[str, object]:
    """The demo model's configuration in another size."""
    return {
        **demo,
        "hidden_size": hidden,
        # As Llama has it: 8/3 of the width, in whole blocks of 256.
        "intermediate_size": (hidden * 8 // 3 + 255) // 256 * 256,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 256,
        "head_dim": 64,
        "torch_dtype": "float16",
    }


def tensor_shapes(config: dict[str, object]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, as Hugging Face names them."""

    def size(key: str) -> int:
        value = config[key]
        assert isinstance(value, int)
        return value

    hidden, inner, head = size("hidden_size"), size("intermediate_size"), size("head_dim")
    queries, keys = size("num_attention_heads") * head, size("num_key_value_heads") * head
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (size("vocab_size"), hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(size("num_hidden_layers")):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "self_attn.q_proj": (queries, hidden),
                "self_attn.k_proj": (keys, hidden),
                "self_attn.v_proj": (keys, hidden),
                "self_attn.o_proj": (hidden, queries),
                "mlp.gate_proj": (inner, hidden),
                "mlp.up_proj": (inner, hidden),
                "mlp.down_proj": (hidden, inner),
                "input_layernorm": (hidden,),
                "post_attention_layernorm": (hidden,),
            }.items()
        }
    return shapes


def main(
    folder: Path = typer.Argument(help="Where it goes; made if absent."),
    layers: int = typer.Option(8, min=1),
    hidden: int = typer.Option(1024, min=256, help="Width; a multiple of 256."),
    seed: int = typer.Option(1),
) -> None:
    """Write a Hugging Face folder with a Llama of random weights."""
    from safetensors.numpy import save_file

    if hidden % 256 != 0:
        raise typer.BadParameter("must be a multiple of 256", param_hint="--hidden")
    demo = json.loads((DEMO_MODEL / "config.json").read_text(encoding="utf-8"))
    config = make_config(demo, layers, hidden)
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        if len(shape) == 1:
            tensors[name] = np.ones(shape, np.float16)
        else:
            tensors[name] = (random.standard_normal(shape, np.float32) * SPREAD).astype(np.float16)
    folder.mkdir(parents=True, exist_ok=True)
    for file in TOKENIZER_FILES:
        shutil.copyfile(DEMO_MODEL / file, folder / file)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    count = sum(tensor.size for tensor in tensors.values())
    typer.echo(f"{folder}: {count / 1e6:.1f} million parameters")


if __name__ == "__main__":
    typer.run(main)
