"""A GGUF's tokenizer and chat template, as llama.cpp itself applies them, in this process.

llama-cpp-python's bindings over the ``libllama.so`` of our own host build: one native build serves
programs and bindings, so that nothing is tokenized by another llama.cpp than the one that answers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, cast

from edgequant.core.errors import ConversionError, ToolMissingError
from edgequant.models.formats.gguf import read_gguf

LIBRARY_NAME = "libllama.so"
LIBRARY_VARIABLE = "LLAMA_CPP_LIB_PATH"
INSTALL_COMMAND = "CMAKE_ARGS=-DLLAMA_BUILD=OFF python -m pip install llama-cpp-python"
KEPT_MESSAGES = 8

_callback: Any = None


class Vocabulary:
    """The vocabulary of one GGUF; no weights are loaded. Let go of at the end of the block.

    Args:
        gguf: the model.
        library: the host build's ``libllama.so``.

    Raises:
        GgufError: there is no such file, or it is no whole GGUF.
        ToolMissingError: the bindings or the library are not there.
        ConversionError: llama.cpp cannot use the file's tokenizer; the message has its reason.
    """

    def __init__(self, gguf: Path, library: Path) -> None:
        self._header = read_gguf(gguf)
        self._llama = bindings(library)
        self._messages: list[str] = []
        self._model = self._load(gguf)
        self._vocabulary = self._llama.llama_model_get_vocab(self._model)

    def _load(self, gguf: Path) -> Any:
        llama = self._llama

        def keep(_level: int, text: bytes, _data: Any) -> None:
            self._messages = [*self._messages, text.decode(errors="replace")][-KEPT_MESSAGES:]

        # Kept for as long as the library may call it: there is one for the whole process.
        global _callback
        _callback = llama.llama_log_callback(keep)
        llama.llama_log_set(_callback, ctypes.c_void_p(0))
        parameters = llama.llama_model_default_params()
        parameters.vocab_only = True
        model = llama.llama_model_load_from_file(str(gguf).encode(), parameters)
        if not model:
            said = " | ".join(line.strip() for line in self._messages if line.strip())
            raise ConversionError(
                f"llama.cpp cannot use this file's tokenizer ({said or 'it gives no reason'})",
                subject=gguf,
            )
        return model

    def tokenize(self, text: str, *, add_special: bool) -> tuple[int, ...]:
        """Token ids of a text; special tokens in it count as such.

        Args:
            text: taken as it is.
            add_special: put what the model wants around a text (BOS).
        """
        data = text.encode()
        room = len(data) + 8
        ids = (self._llama.llama_token * room)()
        count = self._llama.llama_tokenize(
            self._vocabulary, data, len(data), ids, room, add_special, True
        )
        if count < 0:
            # Rare: a text that takes more tokens than bytes.
            ids = (self._llama.llama_token * -count)()
            count = self._llama.llama_tokenize(
                self._vocabulary, data, len(data), ids, -count, add_special, True
            )
        return tuple(ids[:count])

    @property
    def front(self) -> tuple[int, ...]:
        """What the model wants in front of a text: the token BOS, or none."""
        # All that tokenizing nothing gives, but for what some models want behind it.
        return self.tokenize("", add_special=True)[:1]

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self._llama.llama_vocab_n_tokens(self._vocabulary))

    @property
    def end_token(self) -> int:
        """The token that ends an answer: of a turn, or else of a text; -1 where there is none."""
        turn = int(self._llama.llama_vocab_eot(self._vocabulary))
        return turn if turn >= 0 else int(self._llama.llama_vocab_eos(self._vocabulary))

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(self._llama.llama_vocab_is_eog(self._vocabulary, token))

    def piece(self, token: int) -> bytes:
        """What a token adds to a text; control tokens add nothing.

        Args:
            token: below :attr:`size`.
        """
        if not 0 <= token < self.size:
            raise ValueError(f"there is no token {token}")
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._llama.llama_token_to_piece(
                self._vocabulary, token, buffer, room, 0, False
            )
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def apply_template(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text that the model's own chat template makes of some turns, the answer's one open.

        Rendered by Jinja as Hugging Face does it, where llama-server has a Jinja of its own; like
        there, a BOS that tokenizing puts in front is left out of the text.

        Raises:
            ConversionError: the model has no template, or it refuses the turns.
        """
        import jinja2

        try:
            text = str(self._formatter(messages=cast(Any, list(messages))).prompt)
        except (jinja2.TemplateError, ValueError) as error:
            raise ConversionError(
                f"its chat template refuses these turns: {error}", subject=self._header.path
            ) from error
        added = self._llama.llama_vocab_get_add_bos(self._vocabulary)
        return text.removeprefix(self._special("bos")) if added else text

    @cached_property
    def _formatter(self) -> Any:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = self._header.metadata.get("tokenizer.chat_template")
        if not isinstance(template, str):
            raise ConversionError("this GGUF has no chat template", subject=self._header.path)
        return Jinja2ChatFormatter(
            template, eos_token=self._special("eos"), bos_token=self._special("bos")
        )

    def _special(self, which: str) -> str:
        token = getattr(self._llama, f"llama_vocab_{which}")(self._vocabulary)
        if token < 0:
            return ""
        return bytes(self._llama.llama_vocab_get_text(self._vocabulary, token)).decode(
            errors="replace"
        )

    def close(self) -> None:
        """Let go of the model."""
        if self._model is not None:
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


def bindings(library: Path) -> ModuleType:
    """llama-cpp-python over one library; a process can have but one."""
    if not library.is_file():
        raise ToolMissingError(
            f"no {LIBRARY_NAME} here", subject=library, next_step="edgequant build --target host"
        )
    # The package looks for its library once, when it is first imported.
    before = os.environ.get(LIBRARY_VARIABLE)
    os.environ[LIBRARY_VARIABLE] = str(library.parent)
    try:
        from llama_cpp import llama_cpp
    except (ImportError, RuntimeError, OSError) as error:
        raise ToolMissingError(
            f"llama-cpp-python cannot be imported: {error}", next_step=INSTALL_COMMAND
        ) from error
    finally:
        if before is None:
            del os.environ[LIBRARY_VARIABLE]
        else:
            os.environ[LIBRARY_VARIABLE] = before
    module: ModuleType = llama_cpp
    return module
