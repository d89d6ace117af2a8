"""What the models read, as token ids: windows of a text, or answers behind their prompts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgequant.core.errors import DataFrameError, DataSetError
from edgequant.core.hashing import sha256_json

Tokenize = Callable[[str], Sequence[int]]
"""A text's token ids: special tokens count as such; BOS is in front where the model wants it."""

UNCAPPED = "truncate"
"""The strategy whose answers are the model's own from the first token to the last."""
FAILED = "failed"


@dataclass(frozen=True)
class Passage:
    """One stretch of tokens that a model reads from an empty cache.

    Attributes:
        tokens: all of them, context first.
        counted: the places of those that count; never 0, which nothing stands before.
    """

    tokens: tuple[int, ...]
    counted: tuple[int, ...]


@dataclass(frozen=True)
class Text:
    """What the variants are compared on.

    Attributes:
        name: as the table calls it.
        passages: at least one, each with at least one counted token.
    """

    name: str
    passages: tuple[Passage, ...]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of all token ids and of what counts."""
        return sha256_json([[list(p.tokens), list(p.counted)] for p in self.passages])

    @property
    def longest(self) -> int:
        """Tokens of the longest passage."""
        return max(len(passage.tokens) for passage in self.passages)

    @property
    def counted_runs(self) -> list[list[int]]:
        """The counted tokens of each passage."""
        return [[passage.tokens[i] for i in passage.counted] for passage in self.passages]


def windows(name: str, tokens: Sequence[int], *, context: int, bos: int | None) -> Text:
    """A text in windows that overlap by half: every token but the first counts once.

    A token has at least half a window before it, but for those of the first half window.

    Args:
        name: of the text.
        tokens: without BOS.
        context: tokens of a window, at least 4.
        bos: put in front of every window; None where the model wants none.

    Raises:
        DataSetError: the text has too few tokens to predict any.
    """
    if context < 4:
        raise ValueError(f"a window of {context} tokens is too short")
    front = () if bos is None else (bos,)
    room = context - len(front)
    step = room // 2
    passages: list[Passage] = []
    done = 0 if front else 1
    while done < len(tokens):
        start = max(0, done - (room - step)) if passages else 0
        end = min(start + room, len(tokens))
        own = (*front, *tokens[start:end])
        passages.append(Passage(own, tuple(range(done - start + len(front), len(own)))))
        done = end
    if not passages:
        raise DataSetError("has too few tokens to predict any", subject=name)
    return Text(name, tuple(passages))


def answers(
    rows: Iterable[Mapping[str, Any]], *, name: str, tokenize: Tokenize, limit: int
) -> Text:
    """Answers of one model behind their prompts; what counts are the answers' own tokens.

    Answers of strategies that crop or close are beginnings of the uncropped one, and are left out;
    so are a closing text's tokens, which no model chose.

    Args:
        rows: of the table of answers, of one quantization.
        name: as the table will call the text.
        tokenize: for the prompts.
        limit: at most so many answers are taken, in the order of their tokens' SHA-256.

    Raises:
        DataFrameError: there are none, or a prompt is not the tokens that the mirror was given.
    """
    found: dict[str, Passage] = {}
    for row in rows:
        if row["stop_reason"] == FAILED or row["closing_tokens"]:
            continue
        answer = tuple(row["token_ids"])
        if row["rendered_prompt"] is None or not answer:
            continue
        prompt = _prompt_ids(row, tokenize)
        passage = Passage((*prompt, *answer), tuple(range(len(prompt), len(prompt) + len(answer))))
        found[sha256_json(list(passage.tokens))] = passage
    if not found:
        raise DataFrameError("no answers with their prompts in it", subject=name)
    return Text(name, tuple(found[key] for key in sorted(found)[:limit]))


def _prompt_ids(row: Mapping[str, Any], tokenize: Tokenize) -> tuple[int, ...]:
    ids = tuple(tokenize(row["rendered_prompt"]))
    if len(ids) > 1 and ids[0] == ids[1]:
        # The text has the BOS that is put in front, too: the mirror leaves one out as well.
        ids = ids[1:]
    if len(ids) != row["prompt_tokens"]:
        raise DataFrameError(
            f"the prompt of question {row['question_id']} has {row['prompt_tokens']} tokens there "
            f"and {len(ids)} here: the answers are another tokenizer's",
            next_step="use answers to questions that this very model was asked",
        )
    return ids
