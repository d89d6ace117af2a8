"""The real llama-server by its URL: the very tokens of the mirror that is started here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from edgequant.answers.mirrors.llama_server.process import ServerPolicy
from edgequant.answers.mirrors.llama_server.server import LlamaServer
from edgequant.answers.mirrors.mirror import Completion, Mirror, MirrorPool
from edgequant.answers.mirrors.openai.pool import AHEAD
from edgequant.answers.mirrors.openai.speech import Form
from edgequant.answers.mirrors.registry import make_mirrors
from edgequant.answers.mirrors.tokenizer import tokenizers_of
from edgequant.answers.prompts import chatml, load_prompt, render
from edgequant.build.source.lock import load_lock
from edgequant.core.errors import MirrorRefusedError
from edgequant.models.model_file import ModelFile
from tests.answers.mirrors.llama_server.tiny_llama import write_tiny_llama

pytestmark = pytest.mark.integration

QUESTIONS = ["What is 1 + 1?", "hello e", "Why é 日?", "x" * 90]


class Tools(Protocol):
    """What these tests need of a build."""

    def binary(self, name: str) -> Path: ...


class Host:
    """A build with its library."""

    def __init__(self, tools: Tools) -> None:
        self.llama_cpp_commit = load_lock().llama_cpp_commit
        self.source: Any = None
        self.binary = tools.binary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openai")


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelFile:
    return ModelFile.of_path("F16", write_tiny_llama(folder / "tiny.gguf"))


@pytest.fixture(scope="module")
def server(host_build: Tools, model: ModelFile, folder: Path) -> Iterator[LlamaServer]:
    binary, log = host_build.binary("llama-server"), folder / "server.log"
    policy = ServerPolicy(slots=2)
    with (
        tokenizers_of(Host(host_build))(model) as tokenizer,
        LlamaServer(binary, model.path, log=log, policy=policy, tokenizer=tokenizer) as running,
    ):
        yield running


def prompts() -> list[str]:
    return [chatml([{"role": "user", "content": question}]) for question in QUESTIONS]


def answers(mirrors: Sequence[Mirror], prompts: Sequence[str | Sequence[int]]) -> list[Completion]:
    return [mirrors[0].complete(prompt, 60, stop=("<|im_end|>",)) for prompt in prompts]


@contextlib.contextmanager
def opened(pool: MirrorPool, model: ModelFile, logs: Path) -> Iterator[Sequence[Mirror]]:
    with pool.open(model, wanted=8, logs=logs) as mirrors:
        yield mirrors


def test_the_same_tokens_as_the_mirror_that_is_started_here(
    host_build: Tools, server: LlamaServer, model: ModelFile, folder: Path
) -> None:
    host = Host(host_build)
    ours = make_mirrors("llama-server", host, workers=1)
    theirs = make_mirrors("openai", host, urls=[server.url])
    with opened(ours, model, folder) as mirrors:
        expected = answers(mirrors, prompts())
        messages = render(load_prompt("cot"), "Why?")[1:]
        template = mirrors[0].apply_template(messages)
    with opened(theirs, model, folder) as mirrors:
        assert len(mirrors) == 2 + AHEAD, "as many as the server has slots, and the next"
        assert mirrors[0].gives_token_ids
        assert mirrors[0].apply_template(messages) == template
        got = answers(mirrors, prompts())
    for one, other in zip(expected, got, strict=True):
        assert (one.token_ids, one.pieces, one.text) == (other.token_ids, other.pieces, other.text)
        assert (one.stop_reason, one.prompt_tokens) == (other.stop_reason, other.prompt_tokens)
    (told,) = theirs.details["servers"]["F16"]  # type: ignore[index]
    assert told["checked"] == "SHA-256 of its file"
    assert told["llama_cpp_commit"] == host.llama_cpp_commit
    assert told["differs"] == []


def test_another_file_is_refused_unless_the_experiment_says_otherwise(
    host_build: Tools, server: LlamaServer, folder: Path
) -> None:
    other = folder / "other.gguf"
    other.write_bytes(server.gguf.read_bytes() + b"\0" * 32)
    model = ModelFile.of_path("F16", other)
    host = Host(host_build)
    with (
        pytest.raises(MirrorRefusedError, match="another SHA-256"),
        opened(make_mirrors("openai", host, urls=[server.url]), model, folder),
    ):
        pass
    trusting = make_mirrors("openai", host, urls=[server.url], check=False)
    with opened(trusting, model, folder) as mirrors:
        assert answers(mirrors, prompts()[:1])


def test_sizes_tell_a_model_of_another_machine(
    host_build: Tools,
    server: LlamaServer,
    model: ModelFile,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgequant.answers.mirrors.openai.endpoint import Endpoint

    monkeypatch.setattr(Endpoint, "is_loopback", property(lambda self: False))
    pool = make_mirrors("openai", Host(host_build), urls=[server.url])
    with opened(pool, model, folder) as mirrors:
        assert answers(mirrors, prompts()[:1])
    (told,) = pool.details["servers"]["F16"]  # type: ignore[index]
    assert told["checked"] == "size, number of parameters and vocabulary"


@pytest.mark.parametrize("ask", ["completions", "chat"])
def test_asked_as_any_other_server_it_says_the_same_text(
    host_build: Tools,
    server: LlamaServer,
    model: ModelFile,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: str,
) -> None:
    from edgequant.answers.mirrors.openai import pool as pool_module

    monkeypatch.setattr(pool_module, "is_llama_server", lambda props: False)
    monkeypatch.setattr(pool_module, "find_form", lambda *_: Form(ask))  # type: ignore[arg-type]
    turns = [render(load_prompt("cot"), question)[1:] for question in QUESTIONS[:2]]
    with opened(make_mirrors("openai", Host(host_build), urls=[server.url]), model, folder) as some:
        assert not some[0].gives_token_ids
        for messages in turns:
            text = some[0].apply_template(messages)
            assert text == server.apply_template(messages)
            ours = some[0].complete(text, 30, messages=messages)
            expected = server.complete(text, 30)
            assert ours.counted
            # Weights are random, so most bytes are no characters: compare what is left.
            assert ours.text.replace("\ufffd", "") == expected.text.replace("\ufffd", "")
            assert ours.prompt_tokens == expected.prompt_tokens
            assert b"".join(ours.pieces).decode() == ours.text
