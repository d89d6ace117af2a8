"""A low-rank adapter as PEFT keeps it: a folder whose matrices change another model's weights.

What is not a plain low-rank change of whole weights is refused by its name, since what the rest
of it would do is left out otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import ModelFolderError
from edgequant.core.hashing import sha256_file
from edgequant.core.json_file import read_json
from edgequant.models.checks.safetensors import StoredTensor, data_offset, read_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_RANK = 4096

Floats = npt.NDArray[np.float32]

_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<matrix>[AB])\.weight")
_TYPES = ("F32", "F16", "BF16")
_UNSUPPORTED = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_qalora",
)
"""Settings that do more than a plain adapter does, wherever they are set to anything."""
_PLAIN_STARTS = (None, True, False, "eva", "gaussian", "orthogonal")
"""Beginnings of the matrices that leave the model's own weights as they were."""


@dataclass(frozen=True)
class Pair:
    """The two matrices that change one weight."""

    a: StoredTensor
    """Shape (rank, columns)."""
    b: StoredTensor
    """Shape (rows, rank)."""

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the weight that is changed."""
        return self.b.shape[0], self.a.shape[1]


@dataclass(frozen=True)
class Adapter:
    """A checked adapter; its numbers are read one weight at a time."""

    folder: Path
    rank: int
    alpha: float
    rank_stabilized: bool
    """Scaled by alpha over the root of the rank (rsLoRA), not over the rank."""
    pairs: Mapping[str, Pair]
    """By the names of the modules in the model's own form, ``model.layers.0.mlp.up_proj``."""

    @property
    def scale(self) -> float:
        """What the product of the two matrices is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    @property
    def inputs(self) -> dict[str, str]:
        """Names and SHA-256 of its files."""
        return {f"adapter/{name}": sha256_file(self.folder / name) for name in (CONFIG, WEIGHTS)}

    def matrices(self, module: str) -> tuple[Floats, Floats]:
        """What changes one weight, W + B A.

        Args:
            module: one of :attr:`pairs`.

        Returns:
            A, shape (rank, columns), and B with the scale, shape (rows, rank).

        Raises:
            ModelFolderError: a number is NaN or infinite.
        """
        pair = self.pairs[module]
        a, b = self._read(pair.a), self._read(pair.b)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise _refused(self.folder / WEIGHTS, f"holds NaN or infinite values for {module}")
        return a, b * np.float32(self.scale)

    def _read(self, tensor: StoredTensor) -> Floats:
        with (self.folder / WEIGHTS).open("rb") as stream:
            stream.seek(self._data_starts + tensor.data_offsets[0])
            raw = stream.read(tensor.data_offsets[1] - tensor.data_offsets[0])
        values: Floats
        if tensor.dtype == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, "<f4" if tensor.dtype == "F32" else "<f2").astype(
                np.float32
            )
        return values.reshape(tensor.shape)

    @cached_property
    def _data_starts(self) -> int:
        return data_offset(self.folder / WEIGHTS)


def read_adapter(folder: Path) -> Adapter:
    """Check an adapter's folder; only headers are read.

    Raises:
        ModelFolderError: it is missing, damaged, or more than a plain low-rank adapter.
    """
    config = _config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise _refused(
            folder,
            f"has no {WEIGHTS}",
            "adapters kept as pickles (.bin) are not read: save it with peft as safetensors",
        )
    rank = _number(folder, config, "r", MAX_RANK)
    if rank != int(rank):
        raise _refused(folder / CONFIG, f'"r" is {rank}')
    pairs = _pairs(weights, read_header(weights), int(rank))
    _check_targets(folder, config.get("target_modules"), pairs)
    return Adapter(
        folder,
        int(rank),
        _number(folder, config, "lora_alpha", 1e6),
        bool(config.get("use_rslora", False)),
        pairs,
    )


def _refused(subject: Path, message: str, next_step: str | None = None) -> ModelFolderError:
    return ModelFolderError(message, subject=subject, next_step=next_step)


def _config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        config = read_json(file)
    except FileNotFoundError:
        raise _refused(folder, f"has no {CONFIG}", "give the folder of a PEFT adapter") from None
    except (OSError, ValueError) as error:
        raise _refused(file, f"cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise _refused(file, "is not a JSON object")
    merge = "merge it into the model with peft (merge_and_unload, save_pretrained)"
    if config.get("peft_type") != "LORA":
        raise _refused(file, f"is an adapter of kind {config.get('peft_type')!r}, not LORA", merge)
    for key in _UNSUPPORTED:
        if config.get(key):
            raise _refused(file, f'"{key}" is not supported', merge)
    if config.get("bias", "none") != "none":
        raise _refused(file, '"bias" is not supported', merge)
    start = config.get("init_lora_weights")
    if not (isinstance(start, str | bool | None) and start in _PLAIN_STARTS):
        raise _refused(
            file, f'"init_lora_weights" is {start!r}, which changes the model\'s own weights', merge
        )
    return config


def _number(folder: Path, config: Mapping[str, Any], key: str, largest: float) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= largest:
        raise _refused(folder / CONFIG, f'"{key}" is {value!r}')
    return float(value)


def _pairs(file: Path, header: Mapping[str, StoredTensor], rank: int) -> dict[str, Pair]:
    found: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in header.items():
        named = _NAME.fullmatch(name)
        if named is None:
            raise _refused(file, f"{name!r} is not one of a plain adapter's two matrices")
        if tensor.dtype not in _TYPES:
            raise _refused(file, f"{name!r} is of {tensor.dtype}, not of F32, F16 or BF16")
        shared = tensor.shape[0 if named["matrix"] == "A" else 1 :][:1]
        if len(tensor.shape) != 2 or shared != [rank]:
            raise _refused(file, f"{name!r} has the shape {tensor.shape}, at rank {rank}")
        found.setdefault(named["module"], {})[named["matrix"]] = tensor
    if not found:
        raise _refused(file, "has no tensors")
    if alone := [module for module, both in found.items() if len(both) != 2]:
        raise _refused(file, f"has one of the two matrices for {alone[0]}, not the other")
    return {module: Pair(both["A"], both["B"]) for module, both in found.items()}


def _check_targets(folder: Path, targets: object, pairs: Mapping[str, Pair]) -> None:
    """Where the settings list their modules, the weights are of these, and of each of them."""
    if not isinstance(targets, list):
        return
    wanted = [str(target) for target in targets]
    adapted = {
        module: next((t for t in wanted if module == t or module.endswith(f".{t}")), None)
        for module in pairs
    }
    if other := [module for module, target in adapted.items() if target is None]:
        raise _refused(folder / WEIGHTS, f"adapts {other[0]}, which {CONFIG} does not name")
    if absent := sorted(set(wanted) - set(adapted.values()) - {None}):
        raise _refused(folder / WEIGHTS, f"has nothing for {absent[0]}, which {CONFIG} names")
