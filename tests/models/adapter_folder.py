"""Adapters as PEFT writes them, with numbers of our own."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "org/tiny",
    "r": 4,
    "lora_alpha": 8,
    "bias": "none",
    "target_modules": ["q_proj", "k_proj", "down_proj"],
}


def matrices(shapes: Mapping[str, tuple[int, int]], rank: int = 4) -> dict[str, Floats]:
    """Random pairs of matrices for modules of given rows and columns."""
    rng = np.random.default_rng(7)
    found = {}
    for module, (rows, columns) in shapes.items():
        head = f"base_model.model.{module}"
        found[f"{head}.lora_A.weight"] = rng.standard_normal((rank, columns), dtype=np.float32)
        found[f"{head}.lora_B.weight"] = rng.standard_normal((rows, rank), dtype=np.float32)
    return found


def write_adapter(folder: Path, tensors: Mapping[str, Floats], **changes: Any) -> Path:
    """A folder with ``tensors`` in float32; a change of None takes the key away."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    header, data = {}, b""
    for name, values in tensors.items():
        end = len(data) + values.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(data), end],
        }
        data += values.astype("<f4").tobytes()
    head = json.dumps(header).encode()
    weights = struct.pack("<Q", len(head)) + head + data
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder
