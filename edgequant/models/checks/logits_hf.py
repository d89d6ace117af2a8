"""What transformers computes of some tokens: each layer's output, and the logits.

    python -m edgequant.models.checks.logits_hf REQUEST OUT

REQUEST is a JSON object with ``folder``, ``kind`` (``f16`` or ``bf16``), ``prompts`` (lists of
token ids), ``layers``, ``whole`` and ``threads`` (as :mod:`logits_llama` has them). OUT becomes an
npz file with the same arrays twice: ``exact/...`` in 32-bit floats, and ``rounded/...`` with all
matrices, and what is multiplied with them, rounded to ``kind``, as llama.cpp rounds them. How
far these two are apart is how far a right conversion may be from either.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def compute(request: dict[str, Any]) -> dict[str, Floats]:
    """Load the folder in 32-bit floats and evaluate every prompt, exact and rounded."""
    import torch

    torch.set_num_threads(request["threads"])
    model = _load(request)
    kind = {"f16": torch.float16, "bf16": torch.bfloat16}[request["kind"]]
    answers = {f"exact/{name}": value for name, value in _run(model, request).items()}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.to(kind))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, given: _rounded(given, kind))
    return answers | {f"rounded/{name}": value for name, value in _run(model, request).items()}


def _load(request: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(request["folder"], local_files_only=True)
    if not request["whole"]:
        text = config.get_text_config()
        text.num_hidden_layers = request["layers"]
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[: request["layers"]]
    model = AutoModelForCausalLM.from_pretrained(
        request["folder"],
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
        local_files_only=True,
        low_cpu_mem_usage=True,
    )
    return model.eval()


def _run(model: Any, request: dict[str, Any]) -> dict[str, Floats]:
    import torch

    found: dict[str, list[Floats]] = {}

    def keep(name: str, value: Any) -> None:
        value = value[0] if isinstance(value, tuple) else value
        found.setdefault(name, []).append(
            value.detach().reshape(-1, value.shape[-1]).float().numpy().copy()
        )

    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, name=f"layer-{n}": keep(name, out))
        for n, layer in enumerate(_layers(model, request["layers"]))
    ]
    with torch.no_grad():
        for prompt in request["prompts"]:
            logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits
            if request["whole"]:
                keep("logits", logits)
    for hook in hooks:
        hook.remove()
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _layers(model: Any, count: int) -> Any:
    """The decoder's layers; none where they are not found by number and name."""
    import torch

    for name, module in model.named_modules():
        fits = isinstance(module, torch.nn.ModuleList) and len(module) == count
        if fits and name.rpartition(".")[2] in {"layers", "h", "blocks"}:
            return module
    return ()


def _rounded(given: Any, kind: Any) -> Any:
    return tuple(x.to(kind).to(x.dtype) if x.is_floating_point() else x for x in given)


def main() -> None:
    """Answer one request."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    np.savez(sys.argv[2], **compute(request))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
