"""A model's logits, in this process, over the ``libllama.so`` of our own host build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgequant.models.loaded import LoadedModel, Logits
from edgequant.quality.passages import Passage

BATCH_TOKENS = 512
BATCH_LOGITS = 1 << 23
"""Logits held at once: a batch is made shorter where the vocabulary is large."""


class LogitsModel(LoadedModel):
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
        super().__init__(gguf, library)
        self._load(self._llama.llama_model_default_params())
        self._batch_tokens = max(1, min(BATCH_TOKENS, BATCH_LOGITS // self.vocabulary_size))
        parameters = self._llama.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_batch = parameters.n_ubatch = self._batch_tokens
        parameters.n_threads = parameters.n_threads_batch = threads
        self._open(parameters)

    def read(self, passage: Passage) -> Iterator[tuple[Logits, list[int]]]:
        """Logits of the places before counted tokens, a few at a time.

        Yields:
            Logits, shape (n, vocabulary), and the n tokens that really follow.

        Raises:
            ConversionError: it cannot be evaluated, or a logit is no number.
        """
        self._forget()
        wanted = {place - 1 for place in passage.counted}
        # What stands behind the last place that is asked for changes nothing.
        for start in range(0, max(wanted) + 1, self._batch_tokens):
            end = min(start + self._batch_tokens, max(wanted) + 1)
            places = [place for place in range(start, end) if place in wanted]
            self._evaluate(passage.tokens[start:end], start, wanted)
            if places:
                yield self._outputs(len(places)), [passage.tokens[place + 1] for place in places]
