"""Answers that were cut short and closed: what of an answer is kept, and the whole put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgequant.answers.cache import Answer
from edgequant.answers.strategies.strategy import Closing


def kept_tokens(answer: Answer, closing: Closing) -> int | None:
    """How many of an answer's tokens are kept and closed; None: it stays as it is."""
    if answer.failed:
        return None
    count = closing.crop(answer.token_ids)
    if count is None:
        return None
    count = min(count, len(answer.token_ids))
    kept = "".join(answer.token_texts[:count])
    # Of what ended by itself only the mark of its end may be left out: it says all it has to say.
    has_ended = answer.stop_reason == "eos" and len(kept) >= len(answer.text)
    return None if has_ended else count


def close(
    answer: Answer, kept: int, closing: Closing, closing_ids: Sequence[int], more: Answer
) -> Answer:
    """The whole of a closed answer.

    Args:
        answer: what was cropped.
        kept: how many of its tokens are kept.
        closing: how it was closed.
        closing_ids: the tokens of the closing text.
        more: what the model said behind it; the seconds are of this.
    """
    if more.failed:
        return more
    # The closing text comes in one piece, so all of it is there with its last token.
    closing_texts = [*[""] * (len(closing_ids) - 1), closing.text]
    texts = [*answer.token_texts[:kept], *closing_texts, *more.token_texts]
    return replace(
        more,
        token_ids=[*answer.token_ids[:kept], *closing_ids, *more.token_ids],
        token_texts=texts,
        text="".join(texts),
        prompt_tokens=answer.prompt_tokens,
        counted=answer.counted or more.counted,
        closing_start=kept,
        closing_tokens=len(closing_ids),
    )
