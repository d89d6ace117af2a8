"""One GGUF with its weights in this process, over the ``libllama.so`` of our own host build."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import ConversionError
from edgequant.models.native import decode, keep_errors
from edgequant.models.vocabulary import bindings

Logits = npt.NDArray[np.float32]


class LoadedModel:
    """What every use of a loaded model has in common. Let go of at the end of the block.

    Whoever derives from it loads the weights, and makes a context, with parameters of its own.

    Args:
        gguf: the model.
        library: the host build's ``libllama.so``.

    Raises:
        ToolMissingError: the bindings or the library are not there.
    """

    def __init__(self, gguf: Path, library: Path) -> None:
        self._gguf = gguf
        self._model: Any = None
        self._context: Any = None
        self._llama = bindings(library)
        self._errors = keep_errors(self._llama)
        self.vocabulary_size = 0

    def _load(self, parameters: Any) -> None:
        """Load the weights.

        Raises:
            ConversionError: llama.cpp cannot; the message has its reason.
        """
        llama = self._llama
        self._model = llama.llama_model_load_from_file(os.fsencode(self._gguf), parameters)
        if not self._model:
            raise self._failed("cannot load it")
        vocabulary = llama.llama_model_get_vocab(self._model)
        self.vocabulary_size = int(llama.llama_vocab_n_tokens(vocabulary))

    def _open(self, parameters: Any) -> None:
        """Make the context; raises as :meth:`_load`."""
        self._context = self._llama.llama_init_from_model(self._model, parameters)
        if not self._context:
            self.close()
            raise self._failed(f"cannot make a context of {parameters.n_ctx} tokens")

    def _forget(self) -> None:
        """Empty the cache."""
        self._llama.llama_memory_clear(self._llama.llama_get_memory(self._context), True)

    def _evaluate(
        self, tokens: Sequence[int], start: int, outputs: Collection[int] | None = None
    ) -> None:
        """Evaluate tokens at the places from ``start`` on.

        Args:
            tokens: as many as a batch may have.
            start: the first one's place.
            outputs: places whose logits are wanted, by default all.

        Raises:
            ConversionError: it cannot be evaluated.
        """
        status = decode(self._llama, self._context, tokens, start, outputs)
        if status:
            raise self._failed(f"cannot evaluate it (status {status})")

    def _outputs(self, count: int) -> Logits:
        """Logits of the last evaluation, shape (count, vocabulary).

        Raises:
            ConversionError: one is no number.
        """
        found = self._llama.llama_get_logits(self._context)
        # A copy: the next evaluation writes to the same place.
        logits = np.ctypeslib.as_array(found, shape=(count, self.vocabulary_size)).copy()
        if not np.isfinite(logits).all():
            raise ConversionError(
                "the model computes no numbers (NaN or infinite)", subject=self._gguf
            )
        return logits

    def _failed(self, what: str) -> ConversionError:
        said = "; ".join(self._errors[-4:]) or "it gives no reason"
        return ConversionError(f"llama.cpp {what}: {said}", subject=self._gguf)

    def close(self) -> None:
        """Let go of context and model."""
        if self._context:
            self._llama.llama_free(self._context)
            self._context = None
        if self._model:
            self._llama.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
