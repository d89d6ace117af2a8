"""The model's own tokenizer and template in this process: a server is asked for answers alone.

What it would render and tokenize it takes from the cores that answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from edgequant.answers.prompts import Message
from edgequant.core.errors import ConversionError, MirrorRefusedError
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import HostBuild


class Tokenizer(Protocol):
    """What is needed of a :class:`edgequant.models.vocabulary.Vocabulary`."""

    @property
    def size(self) -> int: ...

    @property
    def end_token(self) -> int: ...

    def is_end(self, token: int) -> bool: ...

    def piece(self, token: int) -> bytes: ...

    def tokenize(self, text: str, *, add_special: bool) -> tuple[int, ...]: ...

    def apply_template(self, messages: Sequence[Message]) -> str: ...


OpenTokenizer = Callable[[ModelFile], AbstractContextManager[Tokenizer]]
"""The tokenizer of a model file, for a block."""


def tokenizers_of(host: HostBuild) -> OpenTokenizer:
    """Those of this machine's build of llama.cpp."""

    @contextlib.contextmanager
    def open_tokenizer(model: ModelFile) -> Iterator[Tokenizer]:
        from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary

        with Vocabulary(model.path, host.binary(LIBRARY_NAME)) as vocabulary:
            yield vocabulary

    return open_tokenizer


def apply_template(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """What the model's own template makes of some turns, the answer's one open.

    Raises:
        MirrorRefusedError: the model has none, or it refuses the turns.
    """
    try:
        return tokenizer.apply_template(messages)
    except ConversionError as error:
        raise MirrorRefusedError(
            error.cause,
            subject=error.subject,
            next_step='set wrapper = "chatml", or convert the model again from a folder whose '
            "tokenizer_config.json has a chat_template",
        ) from error


def token_ids(tokenizer: Tokenizer, text: str, *, add_special: bool = True) -> list[int]:
    """Token ids of a text, special tokens in it read as such.

    Args:
        tokenizer: the model's.
        text: a rendered prompt, or what goes behind one.
        add_special: put what the model wants before a prompt (BOS); it is never there twice.
    """
    ids = tokenizer.tokenize(text, add_special=add_special)
    if add_special and len(ids) > 1 and ids[0] == ids[1]:
        plain = tokenizer.tokenize(text, add_special=False)
        if plain == ids[1:]:
            return list(plain)
    return list(ids)


def pieces_of_ids(
    tokenizer: Tokenizer, ids: Sequence[int], *, text: str, cut: bool
) -> list[bytes] | None:
    """What each of a server's tokens adds to its text; None: they are of another vocabulary.

    Args:
        tokenizer: the model's.
        ids: the answer's tokens.
        text: the answer, as the server has it.
        cut: a stop text may have cut the text's end off.
    """
    if not all(0 <= token < tokenizer.size for token in ids):
        return None
    pieces = [b"" if tokenizer.is_end(token) else tokenizer.piece(token) for token in ids]
    said = _comparable(b"".join(pieces).decode(errors="replace"))
    wanted = _comparable(text)
    same = said.startswith(wanted) if cut else said == wanted
    return pieces if same else None


def _comparable(text: str) -> str:
    # Servers differ in the space that some tokenizers put before a text, and in what they make of
    # bytes that are no character.
    return text.replace("\ufffd", "").strip()
