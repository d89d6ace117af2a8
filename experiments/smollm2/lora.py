"""Low-rank adapters in plain torch, written as PEFT writes them.

Each adapted weight W is used as W + alpha/rank * B A; A and B alone are learnt.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraLinear(nn.Module):
    """A frozen linear layer and its adapter, for training inside ``torch.autocast`` to bfloat16."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        """Take a layer without bias; B begins at zero, so that nothing changes at first.

        Raises:
            ValueError: the layer has a bias.
        """
        super().__init__()
        if base.bias is not None:
            raise ValueError("layers with a bias are not adapted")
        # Frozen weights are rounded to bfloat16 once, and not for every product.
        self.register_buffer("weight", base.weight.detach().bfloat16(), persistent=False)
        place = base.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, device=place))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=place))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scale = alpha / rank

    def forward(self, inputs: Tensor) -> Tensor:
        """... x inputs to ... x outputs."""
        through = nn.functional.linear(inputs, self.lora_A) * self.scale
        return nn.functional.linear(inputs, self.weight) + nn.functional.linear(
            through, self.lora_B
        )


def adapt(model: nn.Module, rank: int, alpha: float) -> dict[str, LoraLinear]:
    """Freeze a model and give each linear layer of its blocks an adapter, in place.

    Returns:
        The adapted layers by their names in the model.
    """
    model.requires_grad_(False)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in TARGETS
    ]
    adapted = {}
    for name, linear in found:
        parent, _, own = name.rpartition(".")
        adapted[name] = LoraLinear(linear, rank, alpha)
        setattr(model.get_submodule(parent), own, adapted[name])
    return adapted


def save_adapter(
    adapted: dict[str, LoraLinear], folder: Path, *, rank: int, alpha: float, base: str
) -> None:
    """Write ``adapter_model.safetensors`` in bfloat16 and ``adapter_config.json``.

    Args:
        adapted: layers by their names in the model.
        folder: made if it is not there.
        rank: of all of them.
        alpha: of all of them.
        base: what the adapted model is called.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"base_model.model.{name}.{matrix}.weight": getattr(layer, matrix)
        .detach()
        .to("cpu", torch.bfloat16)
        .contiguous()
        for name, layer in adapted.items()
        for matrix in ("lora_A", "lora_B")
    }
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "target_modules": list(TARGETS),
    }
    text = json.dumps(config, indent=2)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
