"""Generation: every answer once, none lost, none asked twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.answers.agreement import sample
from edgequant.answers.cache import AnswerCache, cache_file, decode_pieces, make_answer
from edgequant.answers.generate import find_answers, generate
from edgequant.answers.mirrors.llama_server.pool import (
    FastLlamaServers,
    LlamaServers,
    default_workers,
)
from edgequant.answers.mirrors.llama_server.process import ServerPolicy
from edgequant.answers.mirrors.mirror import Completion, Identity
from edgequant.answers.prompts import Prompt, load_prompt
from edgequant.answers.questions import Question
from edgequant.answers.strategies.stated import Stated
from edgequant.answers.strategies.truncate import Truncate
from edgequant.answers.table import Answers, questions_table
from edgequant.core.artefact import Store
from edgequant.core.errors import (
    ArtefactError,
    ExperimentError,
    GgufError,
    MirrorError,
    PromptError,
    ToolMissingError,
)
from edgequant.core.hashing import sha256_json
from edgequant.core.tables import values
from edgequant.matching.graders.grader import last_value
from edgequant.matching.graders.registry import headline
from edgequant.matching.groups import group_answers
from edgequant.models.model_file import ModelFile
from tests.answers.conftest import write_model
from tests.answers.mirrors.llama_server.fake_tokenizer import FakeTokenizer, fake_tokenizer

GIGABYTE = 10**9
Run = Callable[..., Answers]
POLICY = ("context", "threads", "cache_type_k", "flash_attention", "slots", "prompt_cache")
FAST: dict[str, object] = {"kind": FastLlamaServers, "slots": 4, "prompt_cache": True}


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has one line for each answer that the servers were asked for."""
    path = tmp_path / "requests"
    path.touch()
    monkeypatch.setenv("FAKE_REQUESTS", str(path))
    return path


@pytest.fixture
def run(
    tmp_path: Path,
    fake_server: Path,
    model: Path,
    questions: list[Question],
    requests: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """``generate`` with small defaults; any argument can be given anew."""
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    defaults: dict[str, object] = {
        "models": {"Q8_0": model},
        "server_binary": fake_server,
        "llama_cpp_commit": "0c1e57098",
        "prompts": [load_prompt("cot")],
        "strategies": [Truncate(), Stated(budgets=(8,))],
        "questions": questions,
        "max_tokens": 64,
        "workers": 1,
        "store": Store(tmp_path / "store"),
    }

    def call(**changes: object) -> Answers:
        values = {**defaults, **changes}
        named = cast(dict[str, Path], values.pop("models"))
        policy = {key: values.pop(key) for key in POLICY if key in values}
        kind = cast(type[LlamaServers], values.pop("kind", LlamaServers))
        values["mirrors"] = kind(
            values.pop("server_binary"),  # type: ignore[arg-type]
            values.pop("llama_cpp_commit"),  # type: ignore[arg-type]
            values.pop("tokenizer", fake_tokenizer),  # type: ignore[arg-type]
            ServerPolicy(**policy),  # type: ignore[arg-type]
            values.pop("workers"),  # type: ignore[arg-type]
        )
        models = [ModelFile.of_path(name, path) for name, path in named.items()]
        made = generate(models, **values)  # type: ignore[arg-type]
        found = find_answers(models, **values)  # type: ignore[arg-type]
        assert found is not None
        assert found.artefact.key == made.artefact.key
        return made

    return call


def asked(requests: Path) -> int:
    return len(requests.read_text().splitlines())


def test_the_table(run: Run, questions: list[Question], model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "Q2_K.gguf", name="other")
    answers = run(
        models={"Q2_K": other, "Q8_0": model},
        prompts=[load_prompt("cot"), load_prompt("aav")],
        workers=2,
    )
    frame = answers.frame()
    assert len(frame) == 2 * 2 * 2 * len(questions)
    key = ["quantization", "prompt", "strategy", "budget_tokens", "question_id"]
    assert not frame.duplicated(key).any()
    assert set(zip(frame["strategy"], values(frame["budget_tokens"]), strict=True)) == {
        ("truncate", None),
        ("stated", 8),
    }
    assert "expected_answer" not in frame.columns
    assert frame["quantization"].to_list() == ["Q2_K"] * 20 + ["Q8_0"] * 20
    assert frame["token_ids"].dtype == pd.ArrowDtype(pa.list_(pa.int32()))
    stated = frame[frame["strategy"] == "stated"]
    assert max(map(len, stated["token_ids"])) == 8
    assert (stated["max_tokens"] == 8).all()
    assert stated["rendered_prompt"].str.contains("UNDER 4 tokens", regex=False).all()
    free = frame[frame["strategy"] == "truncate"]
    assert (free["stop_reason"] == "eos").all()
    assert not free["rendered_prompt"].str.contains("UNDER").any()
    assert ["".join(texts) for texts in frame["token_texts"]] == frame["text"].to_list()
    assert [*map(len, frame["token_texts"])] == [*map(len, frame["token_ids"])]
    assert (frame["slots"] == 1).all()
    assert not frame["prompt_cache"].any()
    manifest = answers.artefact.manifest
    assert manifest.inputs["model Q2_K"] == frame["model_sha256"][0]
    assert manifest.llama_cpp_commit == "0c1e57098"


def test_any_number_of_workers_gives_the_same_rows(run: Run, tmp_path: Path) -> None:
    one = run(workers=1, store=Store(tmp_path / "one")).frame()
    assert run(workers=3, store=Store(tmp_path / "three")).frame().equals(one)


def test_nothing_is_asked_twice(run: Run, requests: Path, questions: list[Question]) -> None:
    first = run()
    assert asked(requests) == 10
    assert run().artefact.key == first.artefact.key
    assert asked(requests) == 10
    more = [*questions, Question("0006-aaaaaaaa", "What is 6 + 6?", "12", "")]
    run(questions=more)
    assert asked(requests) == 12
    run(strategies=[Truncate(), Stated(budgets=(8, 16))])
    assert asked(requests) == 17
    run(prompts=[load_prompt("cot"), load_prompt("aav")])
    assert asked(requests) == 27
    run(questions=questions[:2], strategies=[Truncate()])
    assert asked(requests) == 27


def test_a_corrected_right_answer_changes_nothing_that_was_generated(
    run: Run, requests: Path, questions: list[Question]
) -> None:
    first = run()
    count = asked(requests)
    (group, _) = group_answers(first.frame(), questions_table(questions))
    assert not group.correct([1000]).any(), "what the server says is never right"
    said = last_value(headline("integer").readings(first.frame()["text"].iloc[0]))
    assert said is not None
    corrected = [dataclasses.replace(questions[0], answer=said), *questions[1:]]
    again = run(questions=corrected)
    assert asked(requests) == count
    assert again.artefact.key == first.artefact.key
    (group, _) = group_answers(again.frame(), questions_table(corrected))
    assert group.correct([1000]).sum() == 1


def test_what_can_change_an_answer_is_asked_anew(
    run: Run, requests: Path, tmp_path: Path, model: Path
) -> None:
    run()
    count = asked(requests)
    for change in (
        {"llama_cpp_commit": "1111111"},
        {"context": 2048},
        {"threads": 2},
        {"cache_type_k": "q8_0"},
        {"flash_attention": "off"},
        {"wrapper": "chatml"},
        {"models": {"Q8_0": write_model(tmp_path / "changed.gguf", name="changed")}},
    ):
        run(**change)
        assert asked(requests) == count + 10, f"{change} must not take the answers kept"
        count += 10
    run(max_tokens=32)
    assert asked(requests) == count + 5, "answers to stated budgets have their own limit"


def test_the_same_question_twice_is_in_the_table_twice(run: Run, questions: list[Question]) -> None:
    again = Question("0009-aaaaaaaa", questions[0].question, "2", "")
    frame = run(questions=[questions[0], again], strategies=[Truncate()]).frame()
    assert frame["question_id"].to_list() == [questions[0].id, again.id]
    assert frame["text"].nunique() == 1


def test_a_task_is_asked_in_its_own_prompts(run: Run, questions: list[Question]) -> None:
    arc = Question("arc-0001-aaaaaaaa", "Which?\nA. x\nB. y", "B", "", "choice", "arc")
    gsm8k = dataclasses.replace(questions[0], id="gsm8k-0001-aaaaaaaa", task="gsm8k")
    frame = run(
        questions=[gsm8k, arc],
        prompts=[load_prompt("cot"), load_prompt("choice")],
        strategies=[Truncate()],
        task_prompts={"arc": ["choice"]},
    ).frame()
    asked_in = set(zip(frame["question_id"], frame["prompt"], strict=True))
    assert asked_in == {(gsm8k.id, "cot"), (gsm8k.id, "choice"), (arc.id, "choice")}


def test_a_broken_run_goes_on_where_it_stopped(
    run: Run, requests: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_MODE", "die-after-3")
    with pytest.raises(MirrorError, match="out of memory") as caught:
        run(workers=1)
    assert "question 0004-aaaaaaaa, prompt cot, Q8_0" in caught.value.cause
    assert asked(requests) == 3
    assert not list((tmp_path / "store" / "answers").glob("*/answers.parquet"))
    monkeypatch.setenv("FAKE_MODE", "")
    assert len(run(workers=1).frame()) == 10
    assert asked(requests) == 10
    assert not list((tmp_path / "store" / "answers").glob("*.work"))


def test_chatml_is_rendered_here(run: Run, tmp_path: Path) -> None:
    bare = write_model(tmp_path / "bare.gguf", template=False)

    def tokenizer(_model: ModelFile) -> AbstractContextManager[FakeTokenizer]:
        return nullcontext(FakeTokenizer(has_template=False))

    frame = run(models={"Q8_0": bare}, tokenizer=tokenizer, wrapper="chatml").frame()
    assert frame["rendered_prompt"].str.startswith("<|im_start|>system\n").all()
    with pytest.raises(MirrorError, match="no chat template"):
        run(models={"Q8_0": bare}, tokenizer=tokenizer, wrapper="template")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"models": {}}, ExperimentError),
        ({"questions": []}, ExperimentError),
        ({"prompts": []}, ExperimentError),
        ({"max_tokens": 0}, ExperimentError),
        ({"workers": 0}, ExperimentError),
        ({"threads": 0}, ExperimentError),
        ({"strategies": [Stated(budgets=(1,))]}, PromptError),
        ({"strategies": []}, ExperimentError),
        ({"strategies": [Truncate(), Truncate()]}, ExperimentError),
        ({"prompts": [Prompt(name="a", system="x")]}, PromptError),
        ({"prompts": [load_prompt("cot"), load_prompt("cot")]}, ExperimentError),
        ({"models": {"Q8_0": Path("/absent.gguf")}}, GgufError),
        ({"server_binary": Path("/absent")}, ToolMissingError),
    ],
)
def test_wrong_inputs_are_seen_before_anything_starts(
    run: Run, requests: Path, change: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(**change)
    assert asked(requests) == 0


def test_kept_answers_that_are_damaged_are_not_trusted(run: Run, tmp_path: Path) -> None:
    run()
    (kept,) = (tmp_path / "store" / ".cache" / "answers").glob("*.sqlite")
    kept.write_bytes(b"this was a data base once" * 100)
    with pytest.raises(ArtefactError, match="kept answers") as caught:
        run(max_tokens=63)
    assert caught.value.subject == str(kept)


def test_answers_kept_by_the_first_releases_are_found() -> None:
    policy = ServerPolicy()
    identity = Identity({"policy": policy.as_dict()}, {"llama-server": "b" * 64}, "0c1e57098")
    then = {
        "slots": 1,
        "prompt_cache": False,
        "threads": 1,
        "context": 4096,
        "cache_type_k": "f16",
        "cache_type_v": "f16",
    }
    was = sha256_json([1, "a" * 64, "0c1e57098", "b" * 64, then])
    assert cache_file(Path(), model_sha256="a" * 64, identity=identity).stem == was[:24]


def test_a_half_written_row_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with AnswerCache(path) as cache:
        cache.put_rendering("whole", "text")
        # As after kill -9: the log of what was written is cut in the middle of its last row.
        cache.put_rendering("torn", "x" * 20_000)
        log = path.with_name(path.name + "-wal").read_bytes()
        data = path.read_bytes()
    killed = tmp_path / "killed.sqlite"
    killed.write_bytes(data)
    killed.with_name(killed.name + "-wal").write_bytes(log[:-1000])
    with AnswerCache(killed) as cache:
        assert cache.get_rendering("whole") == "text"
        assert cache.get_rendering("torn") is None


def test_a_text_that_ends_an_answer_is_no_part_of_it() -> None:
    pieces = [b"Six.", b"<|im", b"_end", b"|>"]
    completion = Completion([7, 8, 9, 10], pieces, "Six.", "eos", 3, 0.1, 0.2)
    answer = make_answer(completion, stop=["<|im_end|>"])
    assert answer.text == "Six."
    assert answer.token_texts == ["Six.", "", "", ""]
    assert answer.token_ids == [7, 8, 9, 10], "they took their time, so they count"
    assert make_answer(completion).text == "Six.<|im_end|>"


def test_the_fast_mode_is_compared_with_the_reference(
    run: Run,
    requests: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_MODE", "drift")
    many = [Question(f"{n:04d}-aaaaaaaa", f"What is {n}?", str(n), "") for n in range(40)]
    other = write_model(tmp_path / "Q2_K.gguf", name="other")
    models = {"Q2_K": other, "Q8_0": model}
    answers = run(models=models, questions=many, workers=None, **FAST)
    frame, reference = answers.frame(), answers.reference
    assert reference is not None
    assert (len(frame), len(reference)) == (2 * 2 * 40, 2 * 2 * 32)
    assert (frame["slots"] == 4).all()
    assert frame["prompt_cache"].all()
    assert (reference["slots"] == 1).all()
    assert not reference["prompt_cache"].any()
    key = ["quantization", "prompt", "strategy", "budget_tokens", "question_id"]
    joined = reference.merge(frame, on=key, suffixes=("", "_fast"), validate="one_to_one")
    assert len(joined) == len(reference)
    same = [
        [*a] == [*b] for a, b in zip(joined["token_ids"], joined["token_ids_fast"], strict=True)
    ]
    found = cast(dict[str, Any], answers.artefact.manifest.details["reference"])
    assert (found["answers"], found["same"]) == (128, sum(same))
    assert 0 < sum(same) < 128
    assert len(found["different"]) == 128 - sum(same)
    assert {entry["common_tokens"] for entry in found["different"]} == {3}
    assert sum(group["answers"] for group in found["groups"]) == 128
    assert len(found["groups"]) == 4
    count = asked(requests)
    assert count == 160 + 128
    run(models=models, questions=many, workers=None)
    assert asked(requests) == count + 32, "answers of the reference mode are kept as its own"


def test_with_few_questions_all_are_compared(run: Run, questions: list[Question]) -> None:
    answers = run(workers=None, **FAST)
    assert answers.reference is not None
    assert len(answers.reference) == len(answers.frame()) == 10
    found = cast(dict[str, Any], answers.artefact.manifest.details["reference"])
    assert (found["same"], found["share_of_tokens"], found["different"]) == (10, 1.0, [])
    assert run(workers=None).reference is None


def test_what_is_compared_is_chosen_by_hash_and_stays() -> None:
    many = [Question(f"{n:04d}-aaaaaaaa", "", str(n), "") for n in range(100)]
    chosen = sample(many, 32)
    assert len(chosen) == 32
    assert chosen == [q for q in many if q in chosen], "in their order"
    assert len({*sample(many[:90], 32)} & {*chosen}) >= 32 - 10
    assert sample(many[:5], 32) == many[:5]


def test_a_folder_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").mkdir()
    with pytest.raises(ArtefactError, match="cannot be read or written"):
        AnswerCache(tmp_path / "answers.sqlite")


@given(st.text(), st.data())
def test_pieces_cut_anywhere_join_to_the_text(text: str, data: st.DataObject) -> None:
    raw = text.encode("utf-8", "surrogatepass") if text.isascii() else text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    texts = decode_pieces(pieces)
    assert "".join(texts) == text
    assert len(texts) == len(pieces)
    for count in range(len(pieces) + 1):
        prefix = b"".join(pieces[:count]).decode(errors="ignore")
        assert "".join(texts[:count]) == prefix, "a character not yet whole adds nothing"


def test_workers_are_bounded_by_cores_and_memory() -> None:
    assert default_workers(1, GIGABYTE, cores=2, available_bytes=64 * GIGABYTE) == 2
    assert default_workers(4, GIGABYTE, cores=8, available_bytes=64 * GIGABYTE) == 2
    assert default_workers(1, 8 * GIGABYTE, cores=16, available_bytes=64 * GIGABYTE) == 3
    assert default_workers(1, 8 * GIGABYTE, cores=16, available_bytes=GIGABYTE) == 1
    assert default_workers(8, GIGABYTE, cores=2, available_bytes=64 * GIGABYTE) == 1


def test_the_manifest_names_all_inputs(run: Run, requests: Path) -> None:
    answers = run()
    manifest = json.loads((answers.artefact.folder / "manifest.json").read_text())
    assert set(manifest["inputs"]) == {"model Q8_0", "prompt cot", "questions", "llama-server"}
    assert manifest["parameters"]["sampling"]["temperature"] == 0.0
    assert manifest["parameters"]["policy"]["slots"] == 1
