"""Sums of products of weights' inputs, a few weights at a time, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgequant.models.activations import Sums, hessians
from edgequant.models.formats.gguf import GgufInfo, Tensor

HELD_BYTES = 1 << 30
"""Sums held at once, about: more weights take another evaluation, up to the last of them."""


def products_of(
    info: GgufInfo,
    library: Path,
    passages: Sequence[Sequence[int]],
    names: Sequence[str],
    held_bytes: int = HELD_BYTES,
) -> Iterator[tuple[str, Sums | None]]:
    """Each weight with the sum of the outer products of its inputs; None where no product has it.

    Args:
        info: of the model.
        library: the host build's ``libllama.so``.
        passages: token ids, each evaluated from an empty cache.
        names: of the weights, those of early layers first.
        held_bytes: about so many bytes of sums at once, but one weight's at least.

    Raises:
        ToolMissingError: the bindings or the library are not there.
        ConversionError: llama.cpp cannot load or evaluate the model.
    """
    tensors = {tensor.name: tensor for tensor in info.tensors}
    for batch in _batches([tensors[name] for name in names], held_bytes):
        sums = hessians(info.path, library, passages, batch)
        for name in batch:
            yield name, sums.get(name)


def in_layer_order(names: Sequence[str]) -> list[str]:
    """Weights by layer; those of no layer last: an embedding may be the output matrix too."""
    return sorted(names, key=lambda name: (not name.startswith("blk."), _layer(name)))


def _layer(name: str) -> int:
    number = name.split(".")[1] if name.startswith("blk.") else ""
    return int(number) if number.isdigit() else -1


def _batches(tensors: Sequence[Tensor], held_bytes: int) -> Iterator[list[str]]:
    names: list[str] = []
    held = 0
    for tensor in tensors:
        needed = 8 * tensor.shape[0] ** 2 * tensor.matrices
        if names and held + needed > held_bytes:
            yield names
            names, held = [], 0
        names.append(tensor.name)
        held += needed
    if names:
        yield names
