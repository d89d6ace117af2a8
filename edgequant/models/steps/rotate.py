"""The model's channels turned so that no one of them is much larger than the others.

R1 and R2 of SpinQuant (Liu et al., arXiv 2405.16406), unlearned: norms are folded into what reads
them, then the residual stream is multiplied with an orthogonal R1, and each value head with R2.
An RMS norm without weights gives for ``x R`` what it gives for x, times R: the model computes what
it did. A tied embedding is untied, as the output matrix alone has the last norm folded in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import require_space
from edgequant.core.errors import QuantizationError
from edgequant.core.progress import task
from edgequant.models.float_weights import FloatWeights
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.graph import head_counts, layer_count, require_architecture, value_width
from edgequant.models.model_file import ModelFile
from edgequant.models.orthogonal import orthogonal
from edgequant.models.steps.step import SPARE_BYTES, STAGE, StepContext, header_facts
from edgequant.models.vocabulary import LIBRARY_NAME

# Raise it when a change here makes other files from the same inputs.
RECIPE = 1
WORD = "rotate"
SEED = 2405
TURNED = ("llama", "qwen2", "qwen3")
"""Architectures whose residual stream is read through RMS norms alone; Gemma's is scaled, too."""

EMBEDDING, OUTPUT, LAST_NORM = "token_embd.weight", "output.weight", "output_norm.weight"

Floats = npt.NDArray[np.float32]
Change = Callable[[], npt.NDArray[np.floating]]


class Rotate:
    """The step ``rotate``."""

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe:
        """See :meth:`edgequant.models.steps.step.Step.recipe`.

        Raises:
            QuantizationError: it does not know the architecture.
        """
        require_architecture(source.header, TURNED, WORD)
        parameters: dict[str, object] = {
            "step": WORD,
            "recipe": RECIPE,
            "name": context.model,
            "seed": SEED,
        }
        return Recipe(STAGE, {"gguf": source.sha256}, parameters)

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """See :meth:`edgequant.models.steps.step.Step.make`.

        Raises:
            QuantizationError: the file lacks a tensor.
            DiskFullError: too little space.
        """
        tensors = source.header.tensors
        embedding = sum(tensor.elements for tensor in tensors if tensor.name == EMBEDDING)
        needed = 4 * (source.header.parameter_count + embedding) + SPARE_BYTES
        require_space(draft.folder, needed, f"rotating {context.model}")
        weights = FloatWeights(source.header, Quantizer(context.host.binary(LIBRARY_NAME)))
        changed = rotated(weights)
        embedding_shape = weights.tensors[EMBEDDING].shape
        with (
            draft.timed(WORD),
            task(f"Rotating {context.model}", total=len({*weights.tensors, *changed})) as shown,
        ):
            after = weights.write(
                draft.folder / f"{context.model}-{WORD}.gguf",
                changed,
                shapes={} if OUTPUT in weights else {OUTPUT: embedding_shape},
                on_tensor=lambda _name: shown.advance(),
            )
        draft.manifest.details |= header_facts(after)
        after.path.chmod(0o444)


def rotated(weights: FloatWeights) -> dict[str, Change]:
    """Every weight that becomes another one, and how.

    Raises:
        QuantizationError: a tensor is missing.
    """
    info = weights.info
    turn = orthogonal(_width(weights), SEED).astype(np.float32)
    head = orthogonal(value_width(info), SEED + 1).astype(np.float32)
    heads, groups = head_counts(info)
    changed: dict[str, Change] = {
        EMBEDDING: lambda: weights.read(EMBEDDING) @ turn,
        OUTPUT: partial(
            _read_through, weights, OUTPUT if OUTPUT in weights else EMBEDDING, LAST_NORM, turn
        ),
        LAST_NORM: partial(_ones, weights, LAST_NORM),
    }
    for layer in range(layer_count(info)):
        at = f"blk.{layer}."
        for norm, readers in (
            ("attn_norm.weight", ("attn_q.weight", "attn_k.weight")),
            ("ffn_norm.weight", ("ffn_gate.weight", "ffn_up.weight")),
        ):
            changed[at + norm] = partial(_ones, weights, at + norm)
            for name in readers:
                changed[at + name] = partial(_read_through, weights, at + name, at + norm, turn)
        changed[at + "attn_v.weight"] = partial(_value, weights, at, turn, head, groups)
        changed[at + "attn_output.weight"] = partial(_attention, weights, at, turn, head, heads)
        changed[at + "ffn_down.weight"] = partial(_written, weights, at + "ffn_down.weight", turn)
        changed |= _biases(weights, at, turn, head, groups)
    absent = [name for name in changed if name not in weights and name != OUTPUT]
    if absent:
        raise QuantizationError(f"has no {absent[0]}", subject=info.path)
    return changed


def _width(weights: FloatWeights) -> int:
    if EMBEDDING not in weights:
        raise QuantizationError(f"has no {EMBEDDING}", subject=weights.info.path)
    return weights.tensors[EMBEDDING].shape[0]


def _ones(weights: FloatWeights, name: str) -> npt.NDArray[np.floating]:
    return np.ones_like(weights.read(name))


def _read_through(
    weights: FloatWeights, name: str, norm: str, turn: Floats
) -> npt.NDArray[np.floating]:
    """What reads the residual stream through a norm."""
    return (weights.read(name) * weights.read(norm)) @ turn


def _written(weights: FloatWeights, name: str, turn: Floats) -> npt.NDArray[np.floating]:
    """What adds to the residual stream."""
    return turn.T @ weights.read(name)


def _value(
    weights: FloatWeights, at: str, turn: Floats, head: Floats, groups: int
) -> npt.NDArray[np.floating]:
    values = _read_through(weights, at + "attn_v.weight", at + "attn_norm.weight", turn)
    parts = values.reshape(groups, len(head), -1)
    return (head.T @ parts).reshape(values.shape)


def _attention(
    weights: FloatWeights, at: str, turn: Floats, head: Floats, heads: int
) -> npt.NDArray[np.floating]:
    values = _written(weights, at + "attn_output.weight", turn)
    return (values.reshape(-1, heads, len(head)) @ head).reshape(values.shape)


def _biases(
    weights: FloatWeights, at: str, turn: Floats, head: Floats, groups: int
) -> dict[str, Change]:
    """Biases of what is turned on its side of the rows; those of q, k, gate and up stay."""
    found: dict[str, Change] = {}
    for part in ("attn_output.bias", "ffn_down.bias"):
        if at + part in weights:
            found[at + part] = partial(_turned_bias, weights, at + part, turn, 1)
    if at + "attn_v.bias" in weights:
        name = at + "attn_v.bias"
        found[name] = partial(_turned_bias, weights, name, head, groups)
    return found


def _turned_bias(
    weights: FloatWeights, name: str, turn: Floats, groups: int
) -> npt.NDArray[np.floating]:
    values = weights.read(name)
    return (values.reshape(groups, len(turn)) @ turn).reshape(values.shape)
