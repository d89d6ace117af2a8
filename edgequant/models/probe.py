"""A model in memory whose weights can be changed, to see what that does to its answers.

What it does is told by one number, the mean of two: the mean divergence over all tokens, and that
over the tokens that count (a chat's answer; of a plain text all). The answers are what matters, but
a model is nearly certain of most of their tokens: by themselves they tell little of a small change.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.probabilities import divergences, log_softmax
from edgequant.models.activations import Watched
from edgequant.models.calibration import Passage
from edgequant.models.formats.types import bytes_of, tensor_types

Bytes = npt.NDArray[np.uint8]


class Probe(Watched):
    """The divergence of a changed model from itself as it was loaded.

    Args:
        gguf: the model.
        library: the host build's ``libllama.so``.
        passages: what it reads, at least one, each of two tokens or more.
        threads: of the CPU, by default one for each free core.

    Raises:
        ToolMissingError: the bindings or the library are not there.
        ConversionError: llama.cpp cannot load or evaluate it.
    """

    def __init__(
        self,
        gguf: Path,
        library: Path,
        passages: Sequence[Passage],
        *,
        threads: int | None = None,
    ) -> None:
        longest = max(len(passage.tokens) for passage in passages)
        super().__init__(gguf, library, context=longest, threads=threads, writable=True)
        self._passages = passages
        self._shares = _shares(passages)
        # Kept in half the bits: they are the largest part of what this takes.
        self._reference = [log_softmax(z).astype(np.float32) for z in self._logits()]

    @property
    def weights(self) -> frozenset[str]:
        """Names of the tensors that can be changed."""
        return frozenset(self._watch.tensors)

    def divergence(self, changes: Mapping[str, Bytes]) -> float:
        """The divergence with some weights changed, in nats; they are put back afterwards.

        Args:
            changes: a weight's new bytes, in the type that it is stored in.
        """
        before = {name: self._write(name, data) for name, data in changes.items()}
        try:
            found = [
                divergences(reference.astype(np.float64), log_softmax(logits))
                for reference, logits in zip(self._reference, self._logits(), strict=True)
            ]
        finally:
            for name, data in before.items():
                self._write(name, data)
        return float(np.concatenate(found) @ self._shares)

    def _write(self, name: str, data: Bytes) -> Bytes:
        """Change a weight; what it was is returned."""
        tensor = self._watch.tensors[name]
        size = _bytes_of(tensor)
        if data.nbytes != size:
            raise ValueError(f"{name} has {size} bytes, not {data.nbytes}")
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(tensor.data))
        before = memory.copy()
        memory[:] = np.ascontiguousarray(data).view(np.uint8).ravel()
        return before

    def _logits(self) -> Any:
        """Of each passage at all places but the last, shape (tokens - 1, vocabulary)."""
        for passage in self._passages:
            self._forget()
            self._watch.begin((), lambda *_: None)
            found = []
            for start in range(0, len(passage.tokens), self._batch_tokens):
                part = passage.tokens[start : start + self._batch_tokens]
                self._evaluate(part, start)
                found.append(self._outputs(len(part)))
            yield np.concatenate(found)[:-1]


def _shares(passages: Sequence[Passage]) -> npt.NDArray[np.float64]:
    """What each token's divergence counts, shape (all tokens but the first of each passage,)."""
    counted = np.concatenate([np.arange(1, len(p)) >= p.first for p in passages])
    shares = np.full(len(counted), 1 / len(counted))
    return shares if not counted.any() else (shares + counted / counted.sum()) / 2


def _bytes_of(tensor: Any) -> int:
    return bytes_of(math.prod(tensor.ne), tensor_types()[tensor.type].name)
