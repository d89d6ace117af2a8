"""Which weights of a model follow which, where one may be scaled for the other: by architecture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgequant.core.errors import QuantizationError
from edgequant.models.formats.gguf import GgufInfo


@dataclass(frozen=True)
class Fold:
    """Channels that some weights read, and what writes them.

    Scaling the columns of ``readers`` and dividing the rows of ``writers`` by the same numbers
    leaves what the model computes as it is.

    Attributes:
        writers: a norm's weight, or a matrix (and its bias): one number for each of its rows.
        readers: matrices, one number for each of their columns.
        repeated: consecutive groups of ``width`` channels are read so many times (the heads that
            share one value head).
        width: channels of a group; 0 where nothing is repeated.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    repeated: int = 1
    width: int = 0


FOLDED = ("llama", "qwen2", "qwen3", "gemma", "gemma2")
"""llama.cpp's names of architectures whose layers are as below. Mistral is a ``llama``."""


def require_architecture(info: GgufInfo, known: tuple[str, ...], step: str) -> None:
    """Refuse a model whose layers the step does not know.

    Raises:
        QuantizationError: naming it.
    """
    if info.architecture not in known:
        raise QuantizationError(
            f"the step {step} does not know the architecture {info.architecture}",
            subject=info.path,
            next_step=f"leave {step} out; it knows {', '.join(known)}",
        )
    if any("_exps." in tensor.name for tensor in info.tensors):
        raise QuantizationError(
            f"the step {step} does not know mixtures of experts", subject=info.path
        )


def layer_count(info: GgufInfo) -> int:
    """Layers of a model."""
    return _number(info, "block_count")


def folds(info: GgufInfo) -> list[list[Fold]]:
    """Each layer's folds, of an architecture in :data:`FOLDED`.

    Raises:
        QuantizationError: it is none of these, or lacks a tensor.
    """
    require_architecture(info, FOLDED, "awq")
    present = {tensor.name for tensor in info.tensors}
    return [list(_layer_folds(info, layer, present)) for layer in range(layer_count(info))]


def _layer_folds(info: GgufInfo, layer: int, present: set[str]) -> Iterator[Fold]:
    def named(*parts: str) -> tuple[str, ...]:
        names = tuple(f"blk.{layer}.{part}" for part in parts)
        if absent := [name for name in names if name not in present]:
            raise QuantizationError(f"has no {absent[0]}", subject=info.path)
        return names

    def with_bias(part: str) -> tuple[str, ...]:
        bias = f"blk.{layer}.{part}.bias"
        return (*named(f"{part}.weight"), *((bias,) if bias in present else ()))

    width = value_width(info)
    heads, groups = head_counts(info)
    attention = named("attn_q.weight", "attn_k.weight", "attn_v.weight")
    yield Fold(named("attn_norm.weight"), attention)
    yield Fold(with_bias("attn_v"), named("attn_output.weight"), heads // groups, width)
    yield Fold(named("ffn_norm.weight"), named("ffn_gate.weight", "ffn_up.weight"))
    yield Fold(with_bias("ffn_up"), named("ffn_down.weight"))


def head_counts(info: GgufInfo) -> tuple[int, int]:
    """Attention heads, and the key and value heads that they share."""
    heads = _number(info, "attention.head_count")
    groups = info.metadata.get(f"{info.architecture}.attention.head_count_kv", heads)
    if not isinstance(groups, int) or groups <= 0 or heads % groups:
        raise QuantizationError("has not the same heads in every layer", subject=info.path)
    return heads, groups


def value_width(info: GgufInfo) -> int:
    """Channels of one value head."""
    found = info.metadata.get(f"{info.architecture}.attention.value_length")
    if isinstance(found, int):
        return found
    return _number(info, "embedding_length") // _number(info, "attention.head_count")


def _number(info: GgufInfo, key: str) -> int:
    found = info.metadata.get(f"{info.architecture}.{key}")
    if not isinstance(found, int) or found <= 0:
        raise QuantizationError(f"has no {info.architecture}.{key}", subject=info.path)
    return found
