"""What a llama-server is asked for, whoever started it and wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgequant.answers.mirrors.mirror import MAX_TOKEN_ID, SAMPLING, Completion
from edgequant.answers.mirrors.tokenizer import (
    Tokenizer,
    apply_template,
    pieces_of_ids,
    token_ids,
)
from edgequant.answers.prompts import Message
from edgequant.core.errors import MirrorError, MirrorRefusedError

RESPONSE_FIELDS = ("content", "tokens", "stop_type", "tokens_evaluated", "truncated", "timings")
Request = Callable[[str, str, object], dict[str, Any]]


class LlamaServerApi:
    """llama-server's own interface, which gives the ids of all tokens.

    Args:
        request: sends method, path and body, and gives the answer.
        subject: what errors are about.
        context: tokens that a slot holds.
        tokenizer: the model's own.
        prompt_cache: let the server keep prompts between answers.
    """

    def __init__(
        self,
        request: Request,
        *,
        subject: object,
        context: int,
        tokenizer: Tokenizer,
        prompt_cache: bool = False,
    ) -> None:
        self.context = context
        self._request = request
        self._subject = subject
        self._tokenizer = tokenizer
        self._prompt_cache = prompt_cache

    def apply_template(self, messages: Sequence[Message]) -> str:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.apply_template`."""
        return apply_template(self._tokenizer, messages)

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.tokenize`."""
        return token_ids(self._tokenizer, text, add_special=add_special)

    def complete(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        stop: Sequence[str] = (),
        messages: Sequence[Message] = (),
    ) -> Completion:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.complete`; needs no messages."""
        ids = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        if len(ids) + max_tokens + 1 > self.context:
            raise MirrorRefusedError(
                f"a prompt of {len(ids)} tokens and an answer of up to {max_tokens} do not fit "
                f"into the context of {self.context} tokens",
                subject=self._subject,
                next_step="lower max_tokens, or raise the context if the model was trained for it",
            )
        body = {
            **SAMPLING,
            "prompt": ids,
            "n_predict": max_tokens,
            "stop": list(stop),
            "cache_prompt": self._prompt_cache,
            "return_tokens": True,
            "response_fields": list(RESPONSE_FIELDS),
        }
        answer = self._request("POST", "/completion", body)
        try:
            return self._completion(answer, len(ids))
        except UNREADABLE as error:
            raise unreadable(self._subject, error) from error

    def _completion(self, answer: Mapping[str, Any], prompt_tokens: int) -> Completion:
        ids = checked_ids(answer["tokens"])
        if int(answer["tokens_evaluated"]) != prompt_tokens or answer["truncated"]:
            raise ValueError("the prompt or the answer was cut")
        stop_type = answer["stop_type"]
        if stop_type not in ("eos", "limit", "word") or not ids:
            raise ValueError(f"stopped by {stop_type!r} after {len(ids)} tokens")
        timings, text = answer["timings"], str(answer["content"])
        pieces = pieces_of_ids(self._tokenizer, ids, text=text, cut=stop_type == "word")
        if pieces is None:
            raise ValueError("its tokens are not those of its text")
        return Completion(
            token_ids=ids,
            pieces=pieces,
            text=text,
            stop_reason="limit" if stop_type == "limit" else "eos",
            prompt_tokens=prompt_tokens,
            prompt_seconds=float(timings["prompt_ms"]) / 1e3,
            decode_seconds=float(timings["predicted_ms"]) / 1e3,
        )


def checked_ids(value: object) -> list[int]:
    """Token ids as a server gave them.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(value, list) or not all(
        type(i) is int and 0 <= i <= MAX_TOKEN_ID for i in value
    ):
        raise ValueError("there is something else where token ids should be")
    return value


UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What comes of reading an answer that has another form than it should."""


def unreadable(subject: object, error: Exception) -> MirrorError:
    """The error for an answer that is not what was asked for."""
    return MirrorError(
        f"the server's answer cannot be read ({type(error).__name__}: {error})", subject=subject
    )
