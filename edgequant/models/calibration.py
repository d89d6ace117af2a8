"""What a model is calibrated on: plain texts, and questions in the model's own chat form."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from edgequant.core.errors import DataSetError
from edgequant.core.hashing import sha256_json
from edgequant.models.vocabulary import Vocabulary

DEFAULT_TOKENS = 16384
DEFAULT_CONTEXT = 512

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Chat:
    """One question with its answer."""

    turns: tuple[tuple[str, str], ...]
    """Role and content of each turn that comes before the answer."""
    answer: str = ""
    """The assistant's; empty where only the question is read."""


@dataclass(frozen=True)
class Calibration:
    """Texts and chats that a step may look at what the model computes of.

    Attributes:
        texts: plain; chat markers in them count as the special tokens that they are.
        chats: put into the model's own template, each answer behind it.
        tokens: at most so many are read, by default :data:`DEFAULT_TOKENS`.
    """

    texts: tuple[str, ...] = ()
    chats: tuple[Chat, ...] = ()
    tokens: int = DEFAULT_TOKENS

    def __post_init__(self) -> None:
        if not self.texts and not self.chats:
            raise DataSetError("nothing to calibrate on", next_step="give texts or questions")

    @functools.cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of all that decides which tokens are read."""
        chats = [[list(chat.turns), chat.answer] for chat in self.chats]
        return sha256_json([list(self.texts), chats, self.tokens])

    def passages(
        self,
        vocabulary: Vocabulary,
        context: int = DEFAULT_CONTEXT,
        limit_tokens: int | None = None,
    ) -> list[Tokens]:
        """Token ids, each passage to be read from an empty cache.

        Texts and chats take turns, so that a limit leaves some of both.

        Args:
            vocabulary: of the model.
            context: no passage is longer.
            limit_tokens: so many in all; where given, at most :attr:`tokens`.

        Raises:
            ConversionError: the model has no chat template, or it refuses the turns.
        """
        room = min(self.tokens, limit_tokens or self.tokens)
        found: list[Tokens] = []
        for passage in self._in_turns(vocabulary, context):
            if room < 2:
                break
            found.append(passage[:room])
            room -= len(found[-1])
        return found

    def _in_turns(self, vocabulary: Vocabulary, context: int) -> Iterator[Tokens]:
        windows = (w for text in self.texts for w in _windows(text, vocabulary, context))
        chats = (_chat(chat, vocabulary)[:context] for chat in self.chats)
        for pair in zip_longest(windows, chats):
            yield from (passage for passage in pair if passage is not None and len(passage) > 1)


def _windows(text: str, vocabulary: Vocabulary, context: int) -> Iterator[Tokens]:
    # What the model wants in front of a text is all that tokenizing nothing gives.
    front = vocabulary.tokenize("", add_special=True)[:1]
    tokens = vocabulary.tokenize(text, add_special=False)
    room = context - len(front)
    for start in range(0, len(tokens), room):
        yield (*front, *tokens[start : start + room])


def _chat(chat: Chat, vocabulary: Vocabulary) -> Tokens:
    turns: Sequence[dict[str, str]] = [{"role": r, "content": c} for r, c in chat.turns]
    prompt = vocabulary.tokenize(vocabulary.apply_template(turns), add_special=True)
    if not chat.answer:
        return prompt
    end = vocabulary.end_token
    answer = vocabulary.tokenize(chat.answer, add_special=False)
    return (*prompt, *answer, *((end,) if end >= 0 else ()))
