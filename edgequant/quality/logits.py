"""A model's logits, in this process, over the ``libllama.so`` of our own host build."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import ConversionError
from edgequant.models.vocabulary import bindings
from edgequant.quality.passages import Passage

BATCH_TOKENS = 512
BATCH_LOGITS = 1 << 23
"""Logits held at once: a batch is made shorter where the vocabulary is large."""
ERROR_LEVEL = 4
"""ggml's number for messages that are errors."""

Logits = npt.NDArray[np.float32]

_callback: Any = None
_errors: list[str] = []


class LogitsModel:
    """One GGUF with its weights and an empty cache. Let go of at the end of the block.

    Args:
        gguf: the model.
        library: the host build's ``libllama.so``.
        context: tokens of the longest passage.
    threads: of the CPU; more than are free make it much slower, as they wait busily.

    Raises:
        ToolMissingError: the bindings or the library are not there.
        ConversionError: llama.cpp cannot load it; the message has its reason.
    """

    def __init__(self, gguf: Path, library: Path, *, context: int, threads: int) -> None:
        self._gguf = gguf
        self._model: Any = None
        self._context: Any = None
        self._llama = llama = bindings(library)
        _keep_errors(llama)
        self._model = llama.llama_model_load_from_file(
            os.fsencode(gguf), llama.llama_model_default_params()
        )
        if not self._model:
            raise self._failed("cannot load it")
        vocabulary = llama.llama_model_get_vocab(self._model)
        self.vocabulary_size = int(llama.llama_vocab_n_tokens(vocabulary))
        self._batch_tokens = max(1, min(BATCH_TOKENS, BATCH_LOGITS // self.vocabulary_size))
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_batch = parameters.n_ubatch = self._batch_tokens
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, parameters)
        if not self._context:
            self.close()
            raise self._failed(f"cannot make a context of {context} tokens")

    def read(self, passage: Passage) -> Iterator[tuple[Logits, list[int]]]:
        """Logits of the places before counted tokens, a few at a time.

        Yields:
            Logits, shape (n, vocabulary), and the n tokens that really follow.

        Raises:
            ConversionError: it cannot be evaluated, or a logit is no number.
        """
        self._llama.llama_memory_clear(self._llama.llama_get_memory(self._context), True)
        wanted = {place - 1 for place in passage.counted}
        # What stands behind the last place that is asked for changes nothing.
        for start in range(0, max(wanted) + 1, self._batch_tokens):
            end = min(start + self._batch_tokens, max(wanted) + 1)
            places = [place for place in range(start, end) if place in wanted]
            logits = self._evaluate(passage.tokens[start:end], start, wanted, len(places))
            if places:
                yield logits, [passage.tokens[place + 1] for place in places]

    def _evaluate(
        self, tokens: tuple[int, ...], start: int, wanted: set[int], outputs: int
    ) -> Logits:
        llama = self._llama
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for place, token in enumerate(tokens):
                batch.token[place] = token
                batch.pos[place] = start + place
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = start + place in wanted
            if llama.llama_decode(self._context, batch) != 0:
                raise self._failed("cannot evaluate it")
        finally:
            llama.llama_batch_free(batch)
        if not outputs:
            return np.empty((0, self.vocabulary_size), dtype=np.float32)
        found = llama.llama_get_logits(self._context)
        # A copy: the next evaluation writes to the same place.
        logits = np.ctypeslib.as_array(found, shape=(outputs, self.vocabulary_size)).copy()
        if not np.isfinite(logits).all():
            raise ConversionError(
                "the model computes no numbers (NaN or infinite)", subject=self._gguf
            )
        return logits

    def _failed(self, what: str) -> ConversionError:
        said = "; ".join(_errors[-4:]) or "it gives no reason"
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

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def _keep_errors(llama: Any) -> None:
    """What llama.cpp says from now on: errors are kept, the rest is dropped."""

    def keep(level: int, text: bytes, _data: Any) -> None:
        if level == ERROR_LEVEL:
            _errors.append(text.decode(errors="replace").strip())

    # Kept for as long as the library may call it: there is one for the whole process.
    global _callback
    _errors.clear()
    _callback = llama.llama_log_callback(keep)
    llama.llama_log_set(_callback, ctypes.c_void_p(0))
