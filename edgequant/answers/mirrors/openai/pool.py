"""Mirrors by URL: servers of others share the work, each asked in the way it understands."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from edgequant.answers.mirrors.llama_server.api import UNREADABLE, LlamaServerApi, unreadable
from edgequant.answers.mirrors.mirror import Completion, Identity
from edgequant.answers.mirrors.openai.check import Checked, check_llama_server, is_llama_server
from edgequant.answers.mirrors.openai.endpoint import TRY_AGAIN, Endpoint, Patience, TryAgainError
from edgequant.answers.mirrors.openai.speech import Ask, OpenAiSpeech, Speech, find_form
from edgequant.answers.mirrors.tokenizer import OpenTokenizer, tokenizers_of
from edgequant.answers.prompts import Message
from edgequant.core.errors import ExperimentError, MirrorError, MirrorGoneError, MirrorRefusedError
from edgequant.core.fields import PositiveInt, Section, TimeoutSeconds
from edgequant.core.json_file import parse_json
from edgequant.core.progress import say
from edgequant.core.text import printable
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import HostBuild

KIND = "openai"
DEFAULT_PARALLEL = 8
"""Of servers that do not say how many answers they give at once."""
LOADING_POLL_SECONDS = 1.0
AHEAD = 1
"""Mirrors of a server beyond the answers it is asked at once: they get the next prompt ready."""


class OpenAiSettings(Section):
    """The keys of ``[mirror]`` beside ``kind``."""

    urls: (
        Annotated[list[str], Field(min_length=1)]
        | dict[str, Annotated[list[str], Field(min_length=1)]]
    )
    """Servers that share the work; of several variants, by their names."""
    model: str | dict[str, str] | None = None
    """What the servers call the model, by its variant where they differ; by default the only one
    that a server has."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that has the key."""
    parallel: PositiveInt | None = None
    """Answers asked of each server at once; by default a llama-server's slots, or 8."""
    ask: Ask = "auto"
    """By prompts, by turns, or whichever a server takes, prompts first."""
    check: bool = True
    """A llama-server has to serve the very model, from the very llama.cpp."""
    label: str = ""
    """Keeps answers of servers apart that are the same but for the machine."""
    tries: PositiveInt = Patience.tries
    pause_seconds: Annotated[float, Field(ge=0, le=3600)] = Patience.pause_seconds
    answer_seconds: TimeoutSeconds = Patience.answer_seconds
    loading_seconds: TimeoutSeconds = Patience.loading_seconds
    cache_type_k: str = "f16"
    """What the servers were started with: it is taken on trust."""
    cache_type_v: str = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"

    @property
    def patience(self) -> Patience:
        return Patience(self.tries, self.pause_seconds, self.answer_seconds, self.loading_seconds)


@dataclass(slots=True)
class OpenAiMirror:
    """One answer at a time from a server of which several may be asked."""

    endpoint: Endpoint
    speech: Speech
    gives_token_ids: bool

    def apply_template(self, messages: Sequence[Message]) -> str:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.apply_template`."""
        return self.speech.apply_template(messages)

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.tokenize`."""
        return self.speech.tokenize(text, add_special=add_special)

    def complete(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        stop: Sequence[str] = (),
        messages: Sequence[Message] = (),
    ) -> Completion:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.complete`."""
        completion = self.speech.complete(prompt, max_tokens, stop=stop, messages=messages)
        self.endpoint.count_answer()
        return completion

    def stop(self) -> None:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.stop`."""
        self.endpoint.stop()


@dataclass(frozen=True, slots=True)
class _Met:
    """A server that was spoken to, and how it is spoken to from now on."""

    endpoint: Endpoint
    speech: Speech
    parallel: int
    gives_token_ids: bool
    facts: Mapping[str, object]

    def as_dict(self) -> dict[str, object]:
        facts = {"url": self.endpoint.url, **self.facts, "answers": self.endpoint.answers}
        if isinstance(self.speech, OpenAiSpeech):
            facts["answers_of_other_length"] = self.speech.other_counts
        if (gone := self.endpoint.gone) is not None:
            facts["gone"] = gone.cause
        return facts


@dataclass(frozen=True)
class OpenAiServers:
    """Any servers that speak OpenAI's protocol.

    Args:
        settings: see there.
        commit: of the llama.cpp that a llama-server should be built from.
        open_tokenizer: the tokenizer of a model file, for a block.
    """

    settings: OpenAiSettings
    commit: str
    open_tokenizer: OpenTokenizer
    _told: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    @classmethod
    def of_host(cls, host: HostBuild, **settings: Any) -> OpenAiServers:
        """Those that settings name; tokens are counted with this machine's build of llama.cpp.

        Raises:
            ExperimentError: a setting is wrong or missing.
        """
        try:
            checked = OpenAiSettings.model_validate(settings)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ExperimentError(f"mirror {KIND}: {where}: {problem['msg']}") from error
        urls = checked.urls
        for url in urls if isinstance(urls, list) else itertools.chain(*urls.values()):
            Endpoint(url, patience=checked.patience).close()

        return cls(checked, host.llama_cpp_commit, tokenizers_of(host))

    @property
    def identity(self) -> Identity:
        """See :attr:`edgequant.answers.mirrors.mirror.MirrorPool.identity`.

        URLs are no part of it: a run whose server died goes on with another.
        """
        told = self.settings
        return Identity(
            settings={
                "mirror": KIND,
                "names": told.model,
                "ask": told.ask,
                "check": told.check,
                "label": told.label,
                "parallel": told.parallel,
                "cache_type_k": told.cache_type_k,
                "cache_type_v": told.cache_type_v,
                "flash_attention": told.flash_attention,
                "checked_commit": self.commit,
            }
        )

    @property
    def columns(self) -> Mapping[str, object]:
        """See :attr:`edgequant.answers.mirrors.mirror.MirrorPool.columns`."""
        return {"slots": self.settings.parallel, "prompt_cache": None}

    @property
    def details(self) -> Mapping[str, object]:
        """See :attr:`edgequant.answers.mirrors.mirror.MirrorPool.details`."""
        return {"kind": KIND, "servers": self._told}

    @contextlib.contextmanager
    def open(
        self, model: ModelFile, *, wanted: int, logs: Path
    ) -> Iterator[Sequence[OpenAiMirror]]:
        """See :meth:`edgequant.answers.mirrors.mirror.MirrorPool.open`."""
        with contextlib.ExitStack() as stack:
            met = self._meet_all(model, stack)
            # One of each server, then a second of each: few answers are shared among all.
            mirrors = [
                OpenAiMirror(server.endpoint, server.speech, server.gives_token_ids)
                for number in range(max(server.parallel for server in met) + AHEAD)
                for server in met
                if number < server.parallel + AHEAD
            ]
            try:
                yield mirrors[:wanted]
            finally:
                told = self._told.setdefault(model.name, [])
                told += [server.as_dict() for server in met]

    def _meet_all(self, model: ModelFile, stack: contextlib.ExitStack) -> list[_Met]:
        key = self._key()
        met: list[_Met] = []
        last: MirrorError | None = None
        for url in self._urls(model):
            endpoint = Endpoint(url, key=key, patience=self.settings.patience)
            stack.callback(endpoint.close)
            try:
                met.append(self._meet(endpoint, model, stack))
            except MirrorRefusedError:
                raise
            except MirrorError as error:
                last = error
                say(f"{error.subject}: {error.cause}; it is left out")
        if not met:
            assert last is not None, "there is at least one URL"
            raise MirrorGoneError(
                "none of the servers answers" if len(self._urls(model)) > 1 else last.cause,
                subject=last.subject,
                next_step="see that a server runs there, and run the same again",
            )
        return met

    def _urls(self, model: ModelFile) -> list[str]:
        urls = self.settings.urls
        if isinstance(urls, list):
            return list(dict.fromkeys(urls))
        if model.name not in urls:
            raise ExperimentError(
                f"no server for {model.name}", next_step=f"add mirror.urls.{model.name}"
            )
        return list(dict.fromkeys(urls[model.name]))

    def _key(self) -> str | None:
        name = self.settings.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not key:
            raise ExperimentError(
                f"the environment variable {name} is empty", next_step=f"put the key into {name}"
            )
        if not key.isascii() or not key.isprintable():
            raise ExperimentError(f"what {name} has is no key: it has unprintable characters")
        return key

    def _meet(self, endpoint: Endpoint, model: ModelFile, stack: contextlib.ExitStack) -> _Met:
        props = _props(endpoint)
        if props is not None:
            return self._meet_llama_server(endpoint, props, model, stack)
        name = self._name(model) or _only_model(endpoint)
        form = find_form(endpoint, name, self.settings.ask)
        tokenizer = stack.enter_context(self.open_tokenizer(model))
        endpoint.allow(self.settings.parallel or DEFAULT_PARALLEL)
        speech = OpenAiSpeech(endpoint, form=form, model=name, tokenizer=tokenizer)
        ids = "the server's own" if speech.gives_token_ids else "counted by the GGUF's tokenizer"
        say(
            f"{endpoint.url}: asked by {form.kind}, token ids {ids}; which file answers there, "
            "from what program, cannot be checked"
        )
        facts = {"asked_by": form.kind, "model": name, "token_ids": ids, "checked": None}
        return _Met(endpoint, speech, endpoint.parallel, speech.gives_token_ids, facts)

    def _meet_llama_server(
        self,
        endpoint: Endpoint,
        props: Mapping[str, Any],
        model: ModelFile,
        stack: contextlib.ExitStack,
    ) -> _Met:
        checked = check_llama_server(
            props,
            endpoint.request("GET", "/v1/models"),
            model,
            self.commit,
            same_machine=endpoint.is_loopback,
        )
        if checked.problems and self.settings.check:
            raise MirrorRefusedError(
                f"this llama-server {'; it '.join(checked.problems)}",
                subject=endpoint.url,
                next_step=f"serve {model.path.name} with the pinned llama.cpp there, or set "
                "check = false in [mirror]",
            )
        try:
            context = int(props["default_generation_settings"]["n_ctx"])
            slots = int(props.get("total_slots", 1))
        except UNREADABLE as error:
            raise unreadable(endpoint.url, error) from error
        endpoint.allow(self.settings.parallel or max(1, min(slots, 1024)))
        api = LlamaServerApi(
            endpoint.request,
            subject=endpoint.url,
            context=context,
            tokenizer=stack.enter_context(self.open_tokenizer(model)),
        )
        return _Met(endpoint, api, endpoint.parallel, True, _facts(checked, slots))

    def _name(self, model: ModelFile) -> str | None:
        names = self.settings.model
        return names.get(model.name) if isinstance(names, dict) else names


def _facts(checked: Checked, slots: int) -> dict[str, object]:
    return {
        "asked_by": "llama-server's own interface",
        "token_ids": "the server's own",
        "llama_cpp_commit": checked.commit,
        "slots": slots,
        "checked": checked.model_by,
        "differs": list(checked.problems),
    }


def _props(endpoint: Endpoint) -> dict[str, Any] | None:
    """What a llama-server says of itself, as soon as its model is loaded; None: it is none.

    Raises:
        MirrorGoneError: nothing answers there.
        MirrorError: it loads for too long.
    """
    patience = endpoint.patience
    waited, silent = 0.0, 0
    while True:
        try:
            reply = endpoint.ask("GET", "/props", seconds=min(60.0, patience.answer_seconds))
        except TryAgainError as error:
            silent += 1
            if silent >= patience.tries:
                raise endpoint.give_up(f"nothing answers there: {error}") from error
            endpoint.pause(patience.pause(silent, None))
            continue
        if reply.status not in TRY_AGAIN:
            break
        if waited >= patience.loading_seconds:
            raise MirrorError(
                f"it was not ready within {patience.loading_seconds:.0f} s: {reply.message}",
                subject=endpoint.url,
            )
        pause = min(LOADING_POLL_SECONDS, patience.pause_seconds or 0.01)
        endpoint.pause(pause)
        waited += pause
    if reply.status != 200:
        return None
    try:
        props = parse_json(reply.body)
    except ValueError:
        return None
    return props if is_llama_server(props) else None


def _only_model(endpoint: Endpoint) -> str:
    reply = endpoint.reply("GET", "/v1/models")
    if reply.status in (401, 403):
        raise endpoint.refused(reply, "/v1/models")
    try:
        names = [str(entry["id"]) for entry in parse_json(reply.body)["data"]]
    except UNREADABLE:
        names = []
    if len(names) != 1:
        some = ", ".join(printable(name)[:80] for name in names[:8])
        raise MirrorRefusedError(
            f"it has several models ({some})" if names else "it does not say what models it has",
            subject=endpoint.url,
            next_step='name one in the experiment: [mirror] model = "..."',
        )
    return names[0]
