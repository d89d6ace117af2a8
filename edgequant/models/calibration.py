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
class Passage:
    """Tokens that are read from an empty cache."""

    tokens: Tokens
    first: int
    """Place of the first token that counts, at least 1: those before it are only read."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def counted(self) -> range:
        """Places of the tokens that count; there may be none."""
        return range(self.first, len(self.tokens))

    def cut(self, tokens: int) -> Passage:
        """The first of its tokens."""
        return Passage(self.tokens[:tokens], self.first)


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
        """Token ids alone of :meth:`counted_passages`."""
        found = self.counted_passages(vocabulary, context, limit_tokens)
        return [passage.tokens for passage in found]

    def counted_passages(
        self,
        vocabulary: Vocabulary,
        context: int = DEFAULT_CONTEXT,
        limit_tokens: int | None = None,
    ) -> list[Passage]:
        """What is read, each passage from an empty cache, and which of its tokens matter.

        Texts and chats take turns, so that a limit leaves some of both.

        Args:
            vocabulary: of the model.
            context: no passage is longer.
            limit_tokens: so many in all; where given, at most :attr:`tokens`.

        Raises:
            ConversionError: the model has no chat template, or it refuses the turns.
        """
        room = min(self.tokens, limit_tokens or self.tokens)
        found: list[Passage] = []
        for passage in self._in_turns(vocabulary, context):
            if room < 2:
                break
            found.append(passage.cut(room))
            room -= len(found[-1].tokens)
        return found

    def _in_turns(self, vocabulary: Vocabulary, context: int) -> Iterator[Passage]:
        windows = (w for text in self.texts for w in _windows(text, vocabulary, context))
        chats = (chat_passage(chat, vocabulary).cut(context) for chat in self.chats)
        for pair in zip_longest(windows, chats):
            yield from (passage for passage in pair if passage is not None and len(passage) > 1)


def _windows(text: str, vocabulary: Vocabulary, context: int) -> Iterator[Passage]:
    front = vocabulary.front
    tokens = vocabulary.tokenize(text, add_special=False)
    room = context - len(front)
    for start in range(0, len(tokens), room):
        yield Passage((*front, *tokens[start : start + room]), 1)


def chat_passage(chat: Chat, vocabulary: Vocabulary) -> Passage:
    """A chat as the model reads it; the answer's tokens count, with the one that ends it.

    Raises:
        ConversionError: the model has no chat template, or it refuses the turns.
    """
    turns: Sequence[dict[str, str]] = [{"role": r, "content": c} for r, c in chat.turns]
    prompt = vocabulary.tokenize(vocabulary.apply_template(turns), add_special=True)
    if not chat.answer:
        return Passage(prompt, 1)
    end = vocabulary.end_token
    answer = vocabulary.tokenize(chat.answer, add_special=False)
    return Passage((*prompt, *answer, *((end,) if end >= 0 else ())), len(prompt))
