"""A low-rank adapter merged into the 16-bit file, one weight after another."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import require_space
from edgequant.core.errors import ModelFolderError
from edgequant.core.progress import task
from edgequant.models.adapter import WEIGHTS, Adapter, read_adapter
from edgequant.models.formats.gguf import GgufInfo, Tensor
from edgequant.models.formats.rewrite import NewTensor, read_tensor, rewrite
from edgequant.models.formats.types import FLOAT_TYPES
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import SPARE_BYTES, STAGE, StepContext, header_facts

# Raise it when a change here makes other files from the same inputs.
RECIPE = 1
WORD = "lora"
PAIRED_ROWS = {"llama": True, "qwen2": False, "qwen3": False, "gemma": False, "gemma2": False}
"""Architectures to whether the converter puts the two halves of a head of Q and K side by side."""


class Lora:
    """The step ``lora:FOLDER``: W + alpha/r B A for every weight that the adapter changes."""

    path_argument = True

    def __init__(self, folder: str) -> None:
        """Take the adapter's folder, in PEFT's form."""
        self.folder = Path(folder)

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe:
        """See :meth:`edgequant.models.steps.step.Step.recipe`.

        Raises:
            ModelFolderError: the adapter is missing, damaged, of another kind, or another model's.
        """
        adapter = read_adapter(self.folder)
        merged_tensors(adapter, source.header)
        inputs = {"gguf": source.sha256, **adapter.inputs}
        return Recipe(STAGE, inputs, {"step": WORD, "recipe": RECIPE, "name": context.model})

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """See :meth:`edgequant.models.steps.step.Step.make`.

        Raises:
            ModelFolderError: as in :meth:`recipe`, or its numbers do not fit.
            DiskFullError: too little space.
        """
        adapter = read_adapter(self.folder)
        changed = merged_tensors(adapter, source.header)
        require_space(draft.folder, source.bytes + SPARE_BYTES, f"merging into {context.model}")
        out = draft.folder / f"{context.model}-{WORD}.gguf"
        with (
            draft.timed(WORD),
            task(f"Merging an adapter into {context.model}", len(source.header.tensors)) as shown,
        ):
            info = rewrite(
                source.path, out, replaced=changed, on_tensor=lambda _name: shown.advance()
            )
        draft.manifest.details |= {
            **header_facts(info),
            "adapter": {
                "rank": adapter.rank,
                "alpha": adapter.alpha,
                "rank_stabilized": adapter.rank_stabilized,
                "merged_tensors": len(changed),
            },
        }
        out.chmod(0o444)


def merged_tensors(adapter: Adapter, info: GgufInfo) -> dict[str, NewTensor]:
    """Every weight that an adapter changes, by its name in the GGUF; computed when it is read.

    Raises:
        ModelFolderError: the architecture is none of those that are known, or the adapter is of
            another model.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    if info.architecture not in PAIRED_ROWS:
        raise ModelFolderError(
            f"adapters of the architecture {info.architecture} are not merged",
            subject=adapter.folder,
            next_step=f"known are {', '.join(PAIRED_ROWS)}; or merge it with peft "
            "(merge_and_unload, save_pretrained)",
        )
    blocks = _whole_number(info, "block_count")
    architecture = next(a for a, name in MODEL_ARCH_NAMES.items() if name == info.architecture)
    names = get_tensor_name_map(architecture, blocks)
    tensors = {tensor.name: tensor for tensor in info.tensors}
    merged = {}
    for module, pair in adapter.pairs.items():
        name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        tensor = tensors.get(name) if name is not None else None
        if tensor is None:
            raise _foreign(adapter, info, f"changes {module}, which this model has not as a weight")
        if tensor.shape != pair.shape[::-1]:
            rows, columns = pair.shape
            raise _foreign(
                adapter,
                info,
                f"changes {module} of {rows} x {columns}, and this model's has "
                f"{' x '.join(map(str, tensor.shape[::-1]))}",
            )
        if tensor.type not in FLOAT_TYPES:
            raise _foreign(adapter, info, f"{tensor.name} is stored as {tensor.type} already")
        heads = _heads(info, tensor.name)
        merged[tensor.name] = NewTensor(
            tensor.type, tensor.shape, partial(_merged, adapter, module, info.path, tensor, heads)
        )
    return merged


def _merged(
    adapter: Adapter, module: str, path: Path, tensor: Tensor, heads: int | None
) -> npt.NDArray[Any]:
    from gguf import GGMLQuantizationType, dequantize, quantize

    kind = GGMLQuantizationType[tensor.type]
    a, b = adapter.matrices(module)
    if heads is not None:
        b = paired(b, heads)
    raw = read_tensor(path, tensor)
    # The package takes floats of 16 and 32 bits as such, and all else as bytes.
    stored = raw if tensor.type == "BF16" else raw.view(f"<f{tensor.bytes // tensor.elements}")
    with np.errstate(over="ignore"):
        out: npt.NDArray[Any] = quantize(dequantize(stored, kind) + b @ a, kind)
        finite = np.isfinite(dequantize(out, kind)).all()
    if not finite:
        raise ModelFolderError(
            f"makes {tensor.name} too large for {tensor.type}",
            subject=adapter.folder / WEIGHTS,
            next_step="try --output-type bf16",
        )
    return out


def paired(rows: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of Q or K as the converter orders them.

    Args:
        rows: shape (heads * d, any), each head's rows as (2, d/2).
        heads: of this weight.

    Returns:
        The same shape, each head's rows as (d/2, 2).
    """
    apart = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return apart.swapaxes(1, 2).reshape(rows.shape)


def _heads(info: GgufInfo, tensor: str) -> int | None:
    """How many heads' rows are paired in a weight; None where its rows are as they were."""
    part = tensor.split(".")[-2]
    if not PAIRED_ROWS[info.architecture] or part not in ("attn_q", "attn_k"):
        return None
    heads = _whole_number(info, "attention.head_count")
    key = f"{info.architecture}.attention.head_count_kv"
    if part == "attn_k" and key in info.metadata:
        return _whole_number(info, "attention.head_count_kv")
    return heads


def _whole_number(info: GgufInfo, key: str) -> int:
    value = info.metadata.get(f"{info.architecture}.{key}")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 16:
        raise ModelFolderError(f"{info.architecture}.{key} is {value!r}", subject=info.path)
    return value


def _foreign(adapter: Adapter, info: GgufInfo, message: str) -> ModelFolderError:
    return ModelFolderError(
        message,
        subject=adapter.folder,
        next_step=f"give an adapter that was trained for the model in {info.path.name}",
    )
