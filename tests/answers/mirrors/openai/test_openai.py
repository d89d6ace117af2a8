"""Mirrors by URL: what servers do wrong ends no run, what the user did wrong ends it at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgequant.answers.generate import find_answers, generate
from edgequant.answers.mirrors.openai.check import build_commit, check_llama_server, same_commit
from edgequant.answers.mirrors.openai.counting import count
from edgequant.answers.mirrors.openai.endpoint import Endpoint, Patience, retry_after
from edgequant.answers.mirrors.openai.pool import OpenAiServers, OpenAiSettings
from edgequant.answers.mirrors.registry import make_mirrors
from edgequant.answers.mirrors.tokenizer import pieces_of_ids
from edgequant.answers.prompts import load_prompt
from edgequant.answers.questions import Question
from edgequant.answers.strategies.early_stop import EarlyStop
from edgequant.answers.strategies.stated import Stated
from edgequant.answers.strategies.truncate import Truncate
from edgequant.answers.table import Answers
from edgequant.core.artefact import Store
from edgequant.core.errors import (
    ExperimentError,
    MirrorError,
    MirrorGoneError,
    MirrorRefusedError,
)
from edgequant.core.tables import records
from edgequant.models.model_file import ModelFile
from tests.answers.mirrors.openai.stand_in import END, StandIn, Words, stand_in

Run = Callable[..., Answers]
QUICK: dict[str, Any] = {
    "tries": 3,
    "pause_seconds": 0.01,
    "answer_seconds": 5.0,
    "loading_seconds": 0.2,
}


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as running:
        yield running


@contextlib.contextmanager
def words_of(_: ModelFile) -> Iterator[Words]:
    yield Words()


def pool(*urls: str, **settings: Any) -> OpenAiServers:
    values = {**QUICK, "urls": [*urls], "parallel": 2, **settings}
    return OpenAiServers(OpenAiSettings.model_validate(values), "0c1e57098", words_of)


@pytest.fixture
def run(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))

    def call(mirrors: OpenAiServers, questions: list[Question], **changes: Any) -> Answers:
        arguments: dict[str, Any] = {
            "mirrors": mirrors,
            "prompts": [load_prompt("cot")],
            "questions": questions,
            "max_tokens": 64,
            "store": Store(tmp_path / "store"),
            **changes,
        }
        models = [ModelFile.of_path("Q8_0", model)]
        made = generate(models, **arguments)
        found = find_answers(models, **arguments)
        failed = made.artefact.manifest.details["failed_answers"]
        assert (found is None) == bool(failed), "a table with failed answers is made again"
        return made

    return call


def seconds(fault: str) -> float:
    """How long an answer may take: little where a test waits for the end of it."""
    return 1.0 if fault in ("stall", "stall-in-body", "trickle") else 30.0


def many(count: int) -> list[Question]:
    return [Question(f"{n:04d}-aaaaaaaa", "What?" + "!" * n, str(n), "") for n in range(count)]


def test_a_prompt_is_continued_and_its_ids_are_the_server_s(
    server: StandIn, run: Run, questions: list[Question]
) -> None:
    answers = run(pool(server.url), questions, strategies=[Truncate(), Stated(budgets=(2,))])
    frame = answers.frame()
    assert frame["stop_reason"].to_list() == ["eos"] * 5 + ["limit"] * 5
    for ids, texts, text in zip(
        frame["token_ids"], frame["token_texts"], frame["text"], strict=True
    ):
        assert "".join(texts) == text
        assert [f"w{i - 1} " for i in ids if i != END] == [t for t in texts if t]
    assert (frame["token_ids"].map(len)[5:] == 2).all()
    assert frame["prompt_seconds"].isna().all(), "the server does not tell"
    assert (frame["prompt_tokens"] > 0).all()
    assert frame["rendered_prompt"].str.endswith("[assistant]").all()
    assert {*server.prompts} == {*frame["rendered_prompt"]}
    details = answers.artefact.manifest.details
    assert details["counted_token_ids"] == 0
    (told,) = details["mirrors"]["servers"]["Q8_0"]  # type: ignore[index]
    assert told["token_ids"] == "the server's own"
    assert (told["answers"], told["checked"]) == (10, None)
    assert {(b["temperature"], b["seed"]) for b in server.asked} == {(0.0, 0)}


@pytest.mark.parametrize(
    ("settings", "asked_by", "counted"),
    [
        ({"ids": "token_ids"}, "completions", 0),
        ({"ids": "logprobs"}, "completions", 0),
        ({"ids": ""}, "completions", 5),
        ({"strict": True}, "completions", 5),
        ({"forms": {"/v1/chat/completions"}}, "chat", 0),
        ({"forms": {"/v1/chat/completions"}, "ids": ""}, "chat", 5),
    ],
)
def test_a_server_is_asked_in_the_form_that_it_takes(
    run: Run, questions: list[Question], settings: dict[str, Any], asked_by: str, counted: int
) -> None:
    with stand_in(**settings) as server:
        answers = run(pool(server.url), questions)
    details = answers.artefact.manifest.details
    assert details["counted_token_ids"] == counted
    (told,) = details["mirrors"]["servers"]["Q8_0"]  # type: ignore[index]
    assert told["asked_by"] == asked_by
    assert told["answers_of_other_length"] == 0, "as many tokens as the server itself counts"
    frame = answers.frame()
    assert frame["text"].str.startswith("w0 w1 w2 ").all()
    assert frame["token_ids"].map(lambda ids: list(ids)[-1] == END).all()


@pytest.mark.parametrize(
    "fault",
    [
        *("503", "429", "wait", "500", "502", "cut-json", "cut-body", "reset", "stall"),
        *("stall-in-body", "trickle", "huge", "gzip", "not-utf-8", "[1, 2]", "[" * 100_000),
        *('{"choices": []}', '{"choices": [{"text": 5, "finish_reason": "stop"}]}'),
        '{"choices": [{"text": "\\ud800", "finish_reason": "stop"}]}',
        '{"choices": [{"text": "w0 ", "finish_reason": "content_filter"}]}',
        '{"choices": [{"text": "w0 ", "finish_reason": "stop", "token_ids": [-1]}]}',
        '{"choices": [{"text": "w0 ", "finish_reason": "stop", "token_ids": [1e99]}]}',
        '{"choices": [{"text": "", "finish_reason": "length"}]}',
        f'{{"choices": [{{"text": "{"w0 " * 1000}", "finish_reason": "stop"}}]}}',
    ],
    ids=lambda fault: fault[:24],
)
def test_one_fault_costs_nothing(
    server: StandIn, run: Run, questions: list[Question], fault: str
) -> None:
    server.faults = ["", fault, ""]
    frame = run(pool(server.url, answer_seconds=seconds(fault)), questions).frame()
    assert (frame["stop_reason"] == "eos").all()
    assert len({*server.prompts}) == 5
    assert server.tried >= 6


@pytest.mark.parametrize("fault", ["503", "cut-json", "reset", "stall", '{"choices": 1}'])
def test_an_answer_that_always_fails_is_failed_and_asked_again_by_the_next_run(
    server: StandIn,
    run: Run,
    questions: list[Question],
    fault: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = questions[1].question
    plain = server.answer

    def answer(handler: Any, path: str, body: dict[str, Any], key: str | None) -> None:
        if bad in str(body.get("prompt")) and server.faults != ["mended"]:
            server.misbehave(handler, fault, body)
        else:
            server.faults = []
            plain(handler, path, body, key)

    server.answer = answer  # type: ignore[method-assign]
    settings = {"answer_seconds": seconds(fault), "tries": 2}
    answers = run(pool(server.url, **settings), questions)
    frame = answers.frame()
    assert frame["stop_reason"].to_list() == ["eos", "failed", "eos", "eos", "eos"]
    failed = frame.iloc[1]
    assert (list(failed["token_ids"]), list(failed["token_texts"]), failed["text"]) == ([], [], "")
    assert answers.artefact.manifest.details["failed_answers"] == 1
    said = capsys.readouterr().err
    assert f"No answer to question {questions[1].id}" in said
    assert "1 of 5 answers could not be had" in said
    server.asked.clear()
    server.answer = plain  # type: ignore[method-assign]
    frame = run(pool(server.url, **settings), questions).frame()
    assert (frame["stop_reason"] == "eos").all()
    assert len({*server.prompts}) == 1, "only what had failed is asked again"


def test_a_server_that_dies_is_left_out_and_its_work_done_elsewhere(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with stand_in() as dying, stand_in() as living:
        dying.faults = ["", "", "die"]
        answers = run(pool(dying.url, living.url), many(40))
        frame = answers.frame()
        assert (frame["stop_reason"] == "eos").all()
        assert len({*dying.prompts, *living.prompts}) == 40
        assert len(dying.prompts) <= 3
    assert capsys.readouterr().err.count("the server is gone") == 1
    first, second = answers.artefact.manifest.details["mirrors"]["servers"]["Q8_0"]  # type: ignore[index]
    assert "the server is gone" in first["gone"]
    assert "gone" not in second
    assert first["answers"] + second["answers"] == 40


def test_a_server_that_only_fails_is_left_out_too(run: Run) -> None:
    with stand_in() as bad, stand_in() as good:
        bad.always = "500"
        frame = run(pool(bad.url, good.url), many(30)).frame()
        assert (frame["stop_reason"] == "eos").all()
        assert len(good.prompts) == 30


def test_with_every_server_gone_the_run_ends_and_loses_nothing(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with stand_in() as one, stand_in() as two:
        one.faults = ["", "die"]
        two.faults = ["", "", "", "die"]
        with pytest.raises(MirrorGoneError, match="the server is gone") as caught:
            run(pool(one.url, two.url), many(20))
        had = {*one.prompts, *two.prompts}
        assert 0 < len(had) < 20
        assert "are kept" in str(caught.value)
    with stand_in() as third:
        frame = run(pool(third.url), many(20)).frame()
        assert len(frame) == 20
        assert len(third.prompts) == 20 - len(had), "another server goes on where they stopped"


def test_no_server_at_all_is_said_at_once(run: Run, questions: list[Question]) -> None:
    with stand_in() as server:
        url = server.url
    with pytest.raises(MirrorGoneError, match="nothing answers there") as caught:
        run(pool(url), questions)
    assert caught.value.subject == url


@pytest.mark.parametrize(
    ("settings", "named", "cause"),
    [
        ({"key": "right"}, {"api_key_env": "STAND_IN_KEY"}, "refuses the key"),
        ({"key": "right"}, {}, "refuses to answer without a key"),
        ({}, {"model": "unheard-of"}, "The model `unheard-of` does not exist"),
        ({"always": "too-long"}, {}, "maximum context length is 10 tokens"),
        ({"models": ["a", "b"]}, {}, r"several models \(a, b\)"),
        ({"models": []}, {}, "does not say what models"),
        ({"forms": {"/v1/chat/completions"}}, {"ask": "completions"}, "Not Found"),
    ],
)
def test_what_the_user_did_wrong_ends_the_run_at_once(
    run: Run,
    questions: list[Question],
    settings: dict[str, Any],
    named: dict[str, Any],
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STAND_IN_KEY", "wrong-and-secret")
    with stand_in(**settings) as server:
        with pytest.raises(MirrorRefusedError, match=cause) as caught:
            run(pool(server.url, **named), questions)
        assert server.tried <= 3, "no more than were at it"
    assert caught.value.next_step is not None
    assert "wrong-and-secret" not in str(caught.value) + capsys.readouterr().err


def test_a_key_is_sent_and_stands_nowhere(
    run: Run, questions: list[Question], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_KEY", "sk-very-secret")
    with stand_in(key="sk-very-secret") as server:
        run(pool(server.url, api_key_env="STAND_IN_KEY"), questions)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"sk-very-secret" not in path.read_bytes()
    monkeypatch.delenv("STAND_IN_KEY")
    with pytest.raises(ExperimentError, match="STAND_IN_KEY is empty"):
        run(pool("http://127.0.0.1:1", api_key_env="STAND_IN_KEY", label="x"), questions)


def test_turns_are_not_asked_for_what_they_cannot_say(run: Run, questions: list[Question]) -> None:
    with (
        stand_in(forms={"/v1/chat/completions"}) as server,
        pytest.raises(MirrorRefusedError, match="its own template"),
    ):
        run(pool(server.url), questions, wrapper="chatml")


def test_an_answer_is_closed_behind_its_very_tokens(
    server: StandIn, run: Run, questions: list[Question]
) -> None:
    strategy = EarlyStop(budgets=(2,), closing="So: ")
    frame = run(pool(server.url), questions[:1], strategies=[strategy]).frame()
    (row,) = records(frame)
    plain, continued = server.prompts
    kept = [1, 2]  # w0 w1
    ids = Words().tokenize(plain, add_special=True)
    closing = Words().tokenize("So: ", add_special=False)
    assert continued == [*ids, *kept, *closing]
    assert row["text"].startswith("w0 w1 So: w0 ")
    assert row["token_ids"][:6] == [*kept, *closing]
    assert (row["closing_start"], row["closing_tokens"]) == (2, len(closing))
    assert row["prompt_tokens"] == len(ids)


def test_turns_cannot_be_gone_on_from(run: Run, questions: list[Question]) -> None:
    with (
        stand_in(forms={"/v1/chat/completions"}) as server,
        pytest.raises(MirrorRefusedError, match="takes turns alone") as caught,
    ):
        run(pool(server.url), questions, strategies=[EarlyStop(budgets=(2,))])
    assert "leave out the strategies" in str(caught.value.next_step)


def test_a_run_that_is_interrupted_wakes_whoever_waits(server: StandIn, model: Path) -> None:
    with pool(server.url, answer_seconds=600.0).open(
        ModelFile.of_path("Q8_0", model), wanted=1, logs=model.parent
    ) as (mirror,):
        server.always = "stall-in-body"
        ended = threading.Event()

        def ask() -> None:
            with pytest.raises(MirrorError):
                mirror.complete("What?", 8)
            ended.set()

        threading.Thread(target=ask, daemon=True).start()
        while not server.tried:
            time.sleep(0.01)
        mirror.stop()
        assert ended.wait(10), "it must not wait for the server"


def test_a_llama_server_that_loads_is_waited_for(run: Run, questions: list[Question]) -> None:
    loading = iter([(503, {"error": {"message": "Loading model"}})] * 3)
    with stand_in() as server:
        server.props = lambda: next(loading, (404, {}))
        assert len(run(pool(server.url), questions).frame()) == 5
        server.props = lambda: (503, {"error": {"message": "Loading model"}})
        with pytest.raises(MirrorGoneError, match="not ready within 0 s: Loading model"):
            run(pool(server.url, label="again"), questions)


def test_no_more_is_asked_at_once_than_is_allowed(server: StandIn, run: Run) -> None:
    at_once, most = [0], [0]
    lock = threading.Lock()
    plain = server.answer

    def answer(handler: Any, path: str, body: dict[str, Any], key: str | None) -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.01)
        with lock:  # Before the answer goes out: the next may be asked as soon as it is there.
            at_once[0] -= 1
        plain(handler, path, body, key)

    server.answer = answer  # type: ignore[method-assign]
    run(pool(server.url, parallel=3), many(30))
    assert 1 < most[0] <= 3


def test_each_variant_can_have_servers_of_its_own(run: Run, questions: list[Question]) -> None:
    with stand_in() as server:
        assert len(run(pool(urls={"Q8_0": [server.url]}), questions).frame()) == 5
        with pytest.raises(ExperimentError, match="no server for Q8_0"):
            run(pool(urls={"Q2_K": [server.url]}, label="x"), questions)


def test_the_pause_doubles_and_is_the_same_every_time() -> None:
    patience = Patience(pause_seconds=1.0)
    assert [patience.pause(n, None) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert patience.pause(1, 17.0) == 17.0
    assert patience.pause(6, 17.0) == 32.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("999999999", 300.0),
        ("-3", None),
        ("soon", None),
        ("nan", None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("9" * 5000, None),
    ],
)
def test_how_long_a_server_asks_to_wait(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, 100.0) == seconds


@pytest.mark.parametrize(
    "url", ["", "host:80", "ftp://host", "http://", "http://h:99999", "http://h:x", "/tmp"]
)
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(ExperimentError, match="is no URL"):
        Endpoint(url, patience=Patience())


def test_a_url_is_shown_without_its_password() -> None:
    endpoint = Endpoint("https://me:secret@host:1/api/v1/", patience=Patience())
    assert endpoint.url == "https://host:1/api"
    endpoint.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "urls"),
        ({"urls": []}, "urls"),
        ({"urls": ["nowhere"]}, "is no URL"),
        ({"urls": ["http://h"], "tires": 3}, "tires: Extra inputs"),
        ({"urls": ["http://h"], "api_key_env": "sk-123 456"}, "api_key_env"),
        ({"urls": ["http://h"], "ask": "nicely"}, "ask"),
    ],
)
def test_wrong_settings_are_seen_before_anything_is_asked(
    settings: dict[str, Any], message: str
) -> None:
    class Host:
        llama_cpp_commit = "0c1e57098"

    with pytest.raises(ExperimentError, match=message):
        make_mirrors("openai", Host(), **settings)  # type: ignore[arg-type]


def test_a_llama_server_is_held_to_model_and_commit(model: Path) -> None:
    file = ModelFile.of_path("Q8_0", model)
    header = file.header
    props = {
        "build_info": "b4321-0c1e57098",
        "model_path": str(model),
        "chat_template": header.metadata["tokenizer.chat_template"],
    }
    meta = {"size": header.tensor_bytes, "n_params": header.parameter_count}
    models = {"data": [{"meta": meta}]}

    def problems(
        same_machine: bool = False, models: dict[str, Any] = models, **changes: object
    ) -> str:
        found = check_llama_server(
            {**props, **changes}, models, file, "0c1e57098abc", same_machine=same_machine
        )
        return "; ".join(found.problems)

    assert problems() == problems(same_machine=True) == ""
    assert "commit 1111111, not from" in problems(build_info="b1-1111111")
    assert "does not say" in problems(build_info=None)
    assert "another chat template" in problems(chat_template="other")
    assert "5 parameters" in problems(models={"data": [{"meta": {**meta, "n_params": 5}}]})
    assert "does not say what model" in problems(models={"data": 3})
    other = model.with_name("other.gguf")
    other.write_bytes(model.read_bytes() + b"\0")
    assert "another SHA-256" in problems(same_machine=True, model_path=str(other))
    assert problems(model_path=str(other)) == "", "its paths are another machine's"
    assert build_commit("b1-unknown") == ""
    assert not same_commit("", "")


def test_counted_pieces_join_to_the_text() -> None:
    words = Words()
    assert count(words, "w1 w2 ", ended=True) == ([2, 3, END], [b"w1 ", b"w2 ", b""])

    class Spaced(Words):
        def tokenize(self, text: str, *, add_special: bool) -> tuple[int, ...]:
            return super().tokenize(" " + text, add_special=add_special)

        def piece(self, token: int) -> bytes:
            return super().piece(token)

    for text in ("w1 w2 ", "é", "日本", ""):
        ids, pieces = count(Spaced(), text, ended=False)
        assert b"".join(pieces).decode() == text
        assert len(ids) == len(pieces)


def test_ids_of_another_vocabulary_are_not_taken() -> None:
    words = Words()
    assert pieces_of_ids(words, [2, 3, END], text="w1 w2", cut=False) == [b"w1 ", b"w2 ", b""]
    assert pieces_of_ids(words, [2, 4], text="w1 w2", cut=False) is None
    assert pieces_of_ids(words, [2, 9999], text="w1 w2", cut=False) is None
    assert pieces_of_ids(words, [2, 3], text="w1", cut=True) == [b"w1 ", b"w2 "]
