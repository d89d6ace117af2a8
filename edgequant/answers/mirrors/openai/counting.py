"""Tokens of an answer where the server gives but its text, or ids without what they say.

The GGUF's own tokenizer reads the text again. That is how the board would write it, though not
always how the model did: a run says which of its ids were counted so.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

from edgequant.answers.prompts import Message


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


def prompt_ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Token ids of a prompt. What the model wants before it (BOS) is never there twice."""
    ids = tokenizer.tokenize(text, add_special=True)
    if len(ids) > 1 and ids[0] == ids[1]:
        plain = tokenizer.tokenize(text, add_special=False)
        if plain == ids[1:]:
            return plain
    return ids


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
    said = b"".join(pieces).decode(errors="replace").strip()
    # Servers differ in the space that some tokenizers put before a text, and in what they make of
    # a character that is not whole.
    wanted = text.strip().rstrip("\ufffd")
    same = said.startswith(wanted) if cut else said.rstrip("\ufffd") == wanted
    return pieces if same else None


def count(tokenizer: Tokenizer, text: str, *, ended: bool) -> tuple[list[int], list[bytes]]:
    """Ids and pieces of a text; the pieces join to it, whatever the tokenizer makes of it.

    Args:
        tokenizer: the model's.
        text: an answer.
        ended: the answer ended by itself: a token did that.
    """
    ids = list(tokenizer.tokenize(text, add_special=False))
    pieces = [tokenizer.piece(token) for token in ids]
    data = text.encode()
    if b"".join(pieces) != data:
        pieces = _fitted(pieces, data)
    if ended and tokenizer.end_token >= 0:
        ids.append(tokenizer.end_token)
        pieces.append(b"")
    return ids, pieces


def _fitted(pieces: Sequence[bytes], data: bytes) -> list[bytes]:
    """Pieces that join to the data: a space in front left out, or else cut where they would end."""
    if pieces and b"".join(pieces) == b" " + data:
        return [pieces[0][1:], *pieces[1:]]
    cuts = [round(len(data) * n / len(pieces)) for n in range(len(pieces) + 1)] if pieces else []
    return [data[a:b] for a, b in itertools.pairwise(cuts)]
