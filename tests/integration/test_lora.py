"""A merged adapter computes what transformers computes with the merged model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgequant.core.artefact import Store
from edgequant.models.checks.logits import check_logits
from edgequant.models.make import make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import StepContext
from edgequant.models.variant import Variant
from tests.integration import needs
from tests.integration.test_logits import convert_folder
from tests.models.adapter_folder import matrices, write_adapter
from tests.models.hf_architectures import write_folder

pytestmark = [
    pytest.mark.integration,
    needs.CONVERTER,
]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def merge(base: Path, adapter: dict[str, Any], scale: float, out: Path) -> Path:
    """The folder with the adapter in its weights, computed with torch."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, out)
    weights = load_file(base / "model.safetensors")
    for name in [name for name in adapter if ".lora_A." in name]:
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        a = torch.from_numpy(adapter[name])
        b = torch.from_numpy(adapter[name.replace("lora_A", "lora_B")])
        whole = weights[f"{module}.weight"]
        weights[f"{module}.weight"] = (whole.float() + scale * b @ a).to(whole.dtype)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"])
def test_logits_equal_the_merged_models(kind: str, tmp_path: Path, host_build: Any) -> None:
    from safetensors.torch import load_file

    base = write_folder(tmp_path / kind, kind)
    shapes = {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in load_file(base / "model.safetensors").items()
        if name.endswith(".weight") and name.split(".")[-2] in TARGETS
    }
    assert len(shapes) == 7 * json.loads((base / "config.json").read_text())["num_hidden_layers"]
    tensors = {name: 0.2 * values for name, values in matrices(shapes).items()}
    write_adapter(tmp_path / "adapter", tensors, target_modules=list(TARGETS), lora_alpha=2)
    merged = merge(base, tensors, 0.5, tmp_path / "merged")
    gguf, numbers = convert_folder(base, host_build)
    context = StepContext(kind, host_build, Store(tmp_path / "store"))
    variant = Variant.of_steps("tuned", [f"lora:{tmp_path / 'adapter'}"])
    made = make_variant(variant, ModelFile.of_path("BF16", gguf), context)
    library = host_build.binary("libllama.so")
    report = check_logits(merged, made.path, library, "bf16", numbers)
    assert report["compared"] == "layers 0 to 2 of 3 and the logits"
    assert float(str(report["mean_kl"])) < 2e-3
    whole, _ = convert_folder(merged, host_build)
    assert tensor_bytes(made.path) == tensor_bytes(whole) != tensor_bytes(gguf)


def tensor_bytes(path: Path) -> bytes:
    return path.read_bytes()[ModelFile.of_path("x", path).header.data_offset :]
