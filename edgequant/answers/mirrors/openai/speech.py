"""How a server is asked for an answer, and how its answer is read: whatever takes prompts or turns.

llama-server is asked in its own way, which gives every token's id
(:class:`edgequant.answers.mirrors.llama_server.api.LlamaServerApi`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgequant.answers.mirrors.llama_server.api import UNREADABLE, checked_ids, unreadable
from edgequant.answers.mirrors.mirror import SEED, Completion
from edgequant.answers.mirrors.openai.counting import count
from edgequant.answers.mirrors.openai.endpoint import Endpoint, Reply
from edgequant.answers.mirrors.tokenizer import (
    Tokenizer,
    apply_template,
    pieces_of_ids,
    token_ids,
)
from edgequant.answers.prompts import Message
from edgequant.core.errors import MirrorRefusedError
from edgequant.core.json_file import parse_json

Ask = Literal["auto", "completions", "chat"]
PATHS: Mapping[str, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")
CUT = ("length", "max_tokens")
WITH_IDS: tuple[Mapping[str, object], ...] = (
    {"return_token_ids": True},
    {"return_tokens_as_token_ids": True, "logprobs": 1},
)
"""How vLLM is asked for the ids of tokens, and how older ones are."""
ID_MARK = "token_id:"
TOO_MANY = 2
"""An answer of more than so many times the tokens asked for is none."""


class Speech(Protocol):
    """How one server is asked."""

    def apply_template(self, messages: Sequence[Message]) -> str: ...

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]: ...

    def complete(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        stop: Sequence[str] = (),
        messages: Sequence[Message] = (),
    ) -> Completion: ...


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask: a path, and what makes a server give the ids of tokens."""

    kind: Literal["completions", "chat"]
    extras: Mapping[str, object] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return PATHS[self.kind]

    def body(
        self,
        model: str,
        prompt: str | Sequence[int],
        messages: Sequence[Message],
        max_tokens: int,
        stop: Sequence[str],
    ) -> dict[str, object]:
        """What is sent: greedy decoding."""
        put: dict[str, object] = (
            {"prompt": prompt if isinstance(prompt, str) else list(prompt)}
            if self.kind == "completions"
            else {"messages": list(messages)}
        )
        return {
            "model": model,
            **put,
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "seed": SEED,
            **({"stop": list(stop)} if stop else {}),
            **self.extras,
        }


@dataclass(frozen=True, slots=True)
class Said:
    """An answer in a server's own form."""

    text: str
    ended: bool
    token_ids: list[int] | None
    usage_tokens: int | None
    """Tokens of the answer, as the server counts them."""


def read_answer(answer: Mapping[str, Any]) -> Said:
    """What a server says, in either form.

    Raises:
        one of UNREADABLE: it is no answer.
    """
    choice = answer["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    if not isinstance(text, str):
        raise TypeError("there is something else where the text should be")
    text.encode()  # JSON's escapes can smuggle in half a character.
    reason = choice["finish_reason"]
    if reason not in (*ENDED, *CUT):
        raise ValueError(f"the answer ended for the reason {str(reason)[:40]!r}")
    usage = answer.get("usage")
    counted = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Said(
        text=text,
        ended=reason in ENDED,
        token_ids=_ids(choice),
        usage_tokens=counted if type(counted) is int else None,
    )


def _ids(choice: Mapping[str, Any]) -> list[int] | None:
    given = choice.get("token_ids")
    if given is None:
        logprobs = choice.get("logprobs")
        tokens = logprobs.get("tokens") if isinstance(logprobs, dict) else None
        if not isinstance(tokens, list) or not tokens:
            return None
        if not all(isinstance(token, str) and token.startswith(ID_MARK) for token in tokens):
            return None
        given = [int(token.removeprefix(ID_MARK)) for token in tokens]
    return checked_ids(given) or None


class OpenAiSpeech:
    """A server that is asked in OpenAI's way.

    Args:
        endpoint: the server.
        form: how it is asked.
        model: what it calls the model.
        tokenizer: the model's own.
    """

    def __init__(self, endpoint: Endpoint, *, form: Form, model: str, tokenizer: Tokenizer) -> None:
        self._endpoint = endpoint
        self._form = form
        self._model = model
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self.other_counts = 0
        """Answers of which the server counts other tokens than we do."""

    @property
    def gives_token_ids(self) -> bool:
        """Whether it was asked for them, since it gives them."""
        return bool(self._form.extras)

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
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.complete`."""
        if self._form.kind == "chat":
            self._check_turns(prompt, messages)
        body = self._form.body(self._model, prompt, messages, max_tokens, stop)
        answer = self._endpoint.request("POST", self._form.path, body)
        try:
            return self._completion(read_answer(answer), prompt, max_tokens, bool(stop))
        except UNREADABLE as error:
            raise unreadable(self._endpoint.url, error) from error

    def _completion(
        self, said: Said, prompt: str | Sequence[int], max_tokens: int, may_be_cut: bool
    ) -> Completion:
        ids, pieces, counted = said.token_ids or [], None, False
        if said.token_ids is not None:
            pieces = pieces_of_ids(
                self._tokenizer, said.token_ids, text=said.text, cut=may_be_cut and said.ended
            )
        if pieces is None:
            ids, pieces = count(self._tokenizer, said.text, ended=said.ended)
            counted = True
        if not ids or len(ids) > TOO_MANY * max_tokens + TOO_MANY:
            raise ValueError(f"an answer of {len(ids)} tokens to a request for {max_tokens}")
        if said.usage_tokens is not None and said.usage_tokens != len(ids):
            with self._lock:
                self.other_counts += 1
        ours = self.tokenize(prompt) if isinstance(prompt, str) else prompt
        return Completion(
            token_ids=ids,
            pieces=pieces,
            text=said.text,
            stop_reason="eos" if said.ended else "limit",
            prompt_tokens=len(ours),
            prompt_seconds=None,
            decode_seconds=None,
            counted=counted,
        )

    def _check_turns(self, prompt: str | Sequence[int], messages: Sequence[Message]) -> None:
        if not isinstance(prompt, str) or not messages:
            raise MirrorRefusedError(
                "this server takes turns alone, and no prompt that goes on in an answer",
                subject=self._endpoint.url,
                next_step="leave out the strategies that do that, or ask a server that has "
                "/v1/completions",
            )
        if prompt != self.apply_template(messages):
            raise MirrorRefusedError(
                "this server takes turns alone, which it puts into its own template",
                subject=self._endpoint.url,
                next_step='set wrapper = "template", or ask a server that has /v1/completions',
            )


def find_form(endpoint: Endpoint, model: str, ask: Ask) -> Form:
    """How a server wants to be asked, found out by asking it for one token.

    Raises:
        MirrorError, MirrorGoneError: it does not answer.
        MirrorRefusedError: it takes none of the forms, no such key or model.
    """
    refusal: Reply | None = None
    plain: Form | None = None
    for form in _forms(ask):
        turns: list[Message] = [{"role": "user", "content": "Hello"}]
        reply = endpoint.reply("POST", form.path, form.body(model, "Hello", turns, 1, ()))
        if reply.status in (401, 403):
            raise endpoint.refused(reply, form.path)
        if reply.status != 200:
            refusal = refusal or reply
        elif not form.extras:
            plain = form
            break
        elif _has_ids(reply):
            return form
    if plain is None:
        assert refusal is not None, "every form was refused"
        raise endpoint.refused(refusal, f"the model {model!r}")
    return plain


def _forms(ask: Ask) -> list[Form]:
    kinds: tuple[Literal["completions", "chat"], ...] = (
        ("completions", "chat") if ask == "auto" else (ask,)
    )
    forms: list[Form] = []
    for kind in kinds:
        # Turns have their token probabilities in another form, without ids.
        with_ids = WITH_IDS if kind == "completions" else WITH_IDS[:1]
        forms += [Form(kind, extras) for extras in with_ids] + [Form(kind)]
    return forms


def _has_ids(reply: Reply) -> bool:
    try:
        return _ids(parse_json(reply.body)["choices"][0]) is not None
    except UNREADABLE:
        return False
