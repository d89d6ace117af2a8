"""The mirror with the real llama-server: plain greedy decoding, and no trace of it afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from edgequant.answers.cache import make_answer
from edgequant.answers.mirrors.llama_server import process as process_module
from edgequant.answers.mirrors.llama_server.process import ServerPolicy
from edgequant.answers.mirrors.llama_server.server import LlamaServer
from edgequant.answers.prompts import chatml, load_prompt, render
from edgequant.core.errors import MirrorError, PortInUseError
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary
from tests.answers.mirrors.llama_server.tiny_llama import BOS, CONTEXT, IM_START, write_tiny_llama

pytestmark = pytest.mark.integration

QUESTIONS = ["What is 1 + 1?", "hello e", "Why é 日?", "x" * 90]


class Tools(Protocol):
    """What these tests need of a build."""

    def binary(self, name: str) -> Path: ...


@pytest.fixture(scope="module")
def server(host_build: Tools) -> Path:
    return host_build.binary("llama-server")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def mirror(
    server: Path, model: Path, host_build: Tools, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaServer]:
    log = tmp_path_factory.mktemp("mirror") / "server.log"
    with (
        Vocabulary(model, host_build.binary(LIBRARY_NAME)) as tokenizer,
        LlamaServer(server, model, log=log, tokenizer=tokenizer) as running,
    ):
        yield running


def ask(question: str) -> str:
    return chatml([{"role": "user", "content": question}])


def test_the_context_is_what_the_model_was_trained_for(mirror: LlamaServer) -> None:
    assert mirror.policy.context > CONTEXT
    assert mirror.context == CONTEXT


def test_special_tokens_are_read_as_such_and_bos_stands_once(mirror: LlamaServer) -> None:
    messages = render(load_prompt("cot"), "Why?")[1:]
    text = mirror.apply_template(messages)
    for prompt in (text, "<s>" + text.removeprefix("<s>"), chatml(messages)):
        ids = mirror.tokenize(prompt)
        assert ids[:2] == [BOS, IM_START]
        assert ids.count(BOS) == 1
        assert ids.count(IM_START) == 2


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_shorter_answer_is_the_beginning_of_a_longer_one(
    mirror: LlamaServer, question: str
) -> None:
    whole = mirror.complete(ask(question), 60)
    for count in (1, 2, 7, 31):
        cut = mirror.complete(ask(question), count)
        assert cut.token_ids == whole.token_ids[:count]
        assert cut.stop_reason == ("eos" if len(whole.token_ids) < count else "limit") or (
            len(whole.token_ids) == count
        )


def test_an_answer_does_not_depend_on_the_ones_before(mirror: LlamaServer) -> None:
    first = [mirror.complete(ask(q), 50).token_ids for q in QUESTIONS]
    second = [mirror.complete(ask(q), 50).token_ids for q in reversed(QUESTIONS)]
    assert first == second[::-1]
    assert len({tuple(ids) for ids in first}) == len(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_pieces_join_to_the_text_of_the_server(mirror: LlamaServer, question: str) -> None:
    completion = mirror.complete(ask(question), 100)
    answer = make_answer(completion)
    assert len(answer.token_texts) == len(answer.token_ids)
    assert "".join(answer.token_texts) == answer.text
    # Weights are random, so most bytes are no characters, and how many U+FFFD stand for them
    # is anyone's choice: compare what is left.
    assert answer.text.replace("\ufffd", "") == completion.text.replace("\ufffd", "")


def test_answers_are_the_probes_greedy_decoding(
    mirror: LlamaServer, model: Path, host_build: Tools, tmp_path: Path
) -> None:
    probe = host_build.binary("edgequant-probe")
    if not probe.is_file():
        pytest.skip("no edgequant-probe: edgequant build --target host")
    prompt = tmp_path / "prompt"
    for question in QUESTIONS:
        ours = mirror.complete(ask(question), 40)
        prompt.write_text(ask(question))
        run = subprocess.run(
            [
                *(probe, "--model", model, "--prompt-file", prompt, "-n", "40"),
                *("--threads", "1", "--context", str(CONTEXT), "--parse-special", "1"),
                *("--stop-at-eog", "1"),
            ],
            capture_output=True,
            timeout=60,
            check=True,
        )
        events = [json.loads(line) for line in run.stdout.splitlines()]
        theirs = [event["token_id"] for event in events if event["event"] == "token"]
        assert theirs == ours.token_ids


def test_a_port_taken_between_our_look_and_the_start(
    server: Path, model: Path, mirror: LlamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(mirror.url.rpartition(":")[2])
    monkeypatch.setattr(process_module, "check_port", lambda _port: None)
    late = LlamaServer(server, model, log=tmp_path / "log", port=port)
    with pytest.raises(PortInUseError), late:
        pass


def test_a_model_that_llama_cpp_cannot_load(server: Path, tmp_path: Path, model: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(model.read_bytes().replace(b"output_norm", b"output_morn"))
    with (
        pytest.raises(MirrorError, match="output_norm"),
        LlamaServer(server, wrong, log=tmp_path / "log"),
    ):
        pass


def test_the_server_refuses_what_the_policy_gets_wrong(
    server: Path, tmp_path: Path, model: Path
) -> None:
    policy = ServerPolicy(cache_type_k="q3_x")
    with (
        pytest.raises(MirrorError, match="q3_x"),
        LlamaServer(server, model, log=tmp_path / "log", policy=policy),
    ):
        pass
