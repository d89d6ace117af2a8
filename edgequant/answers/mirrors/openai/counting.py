"""Tokens of an answer where the server gives but its text, or ids without what they say.

The GGUF's own tokenizer reads the text again. That is how the board would write it, though not
always how the model did: a run says which of its ids were counted so.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from edgequant.answers.mirrors.tokenizer import Tokenizer


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
