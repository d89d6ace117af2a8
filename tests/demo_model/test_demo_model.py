"""The demo model: its generator, its questions, its tokenizer and its training documents."""

from __future__ import annotations

import json
import operator
import re
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from experiments.demo_model import examples, generator, questions  # noqa: E402

FOLDER = ROOT / "experiments" / "demo_model"
MODEL = FOLDER / "model"
QUESTIONS = FOLDER / "questions.jsonl"
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}

levels = st.sampled_from(generator.LEVELS)
families = st.sampled_from(generator.FAMILIES)
seeds = st.integers(0, 2**63)


def shipped() -> list[dict[str, object]]:
    return [json.loads(line) for line in QUESTIONS.read_text().splitlines()]


@given(seeds, levels, families)
@settings(max_examples=300, deadline=None)
def test_every_step_is_right_and_leads_to_the_answer(seed: int, level: int, family: str) -> None:
    problem = generator.draw(Random(seed), level, family)
    for step in problem.steps:
        assert OPERATORS[step.op](step.left, step.right) == step.result
        assert step.result >= 0
    assert problem.steps[-1].result == problem.answer > 0
    # A step uses only numbers from the question (half and twice are words) or earlier results.
    known = {int(number) for number in re.findall(r"[0-9]+", problem.question)} | {2, 3}
    for step in problem.steps:
        assert {step.left, step.right} <= known, (problem.question, step)
        known.add(step.result)


@given(seeds, levels, families)
@settings(max_examples=200, deadline=None)
def test_solutions_end_in_the_boxed_answer_and_their_equations_hold(
    seed: int, level: int, family: str
) -> None:
    problem = generator.draw(Random(seed), level, family)
    for length in generator.LENGTHS:
        text = problem.solution(length)
        assert re.findall(r"\\boxed\{([0-9]+)\}", text) == [str(problem.answer)]
    for chain in re.findall(r"[0-9][0-9+*/=-]*=[0-9+*/=-]*[0-9]", problem.solution("full")):
        values = {eval(part) for part in chain.split("=")}
        assert len(values) == 1, chain
    assert problem.gsm8k_answer().endswith(f"\n#### {problem.answer}")


@given(seeds, levels)
@settings(max_examples=100, deadline=None)
def test_the_same_seed_gives_the_same_problem(seed: int, level: int) -> None:
    first, second = (generator.draw(Random(seed), level) for _ in range(2))
    assert first == second


@given(seeds, levels, st.permutations(generator.NAMES))
@settings(max_examples=100, deadline=None)
def test_other_names_do_not_make_another_question(seed: int, level: int, names: list[str]) -> None:
    question = generator.draw(Random(seed), level).question
    other = dict(zip(generator.NAMES, names, strict=True))
    renamed = re.sub(r"[A-Z][a-z]+", lambda found: other.get(found[0], found[0]), question)
    assert generator.normalise(renamed) == generator.normalise(question)
    assert generator.normalise(question.upper() + "  !") == generator.normalise(question)


@given(st.text() | seeds.map(str))
def test_every_text_has_one_bucket(text: str) -> None:
    assert generator.bucket(text) == generator.bucket(text) in range(generator.BUCKETS)


@given(seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_generator_never_crosses_the_split(seed: int, held_out: bool) -> None:
    source = generator.problems(seed, held_out=held_out)
    for _ in range(3 if held_out else 40):
        assert generator.is_held_out(next(source).question) is held_out


def test_the_bucket_of_a_question_never_changes() -> None:
    # A changed hash would silently mix the shipped questions into new training data.
    assert generator.bucket("Mia has 3 apples.") == generator.bucket("Tom has 3 apples!") == 2


def test_shipped_questions_are_all_held_out_and_all_different() -> None:
    rows = shipped()
    assert len(rows) >= 500
    keys = {generator.normalise(str(row["question"])) for row in rows}
    assert len(keys) == len(rows)
    assert all(generator.is_held_out(str(row["question"])) for row in rows)


def test_shipped_questions_are_in_gsm8k_form() -> None:
    for row in shipped():
        steps, answer = str(row["answer"]).rsplit("\n#### ", 1)
        assert re.fullmatch(r"[0-9]+", answer)
        assert steps.rstrip(".").endswith(f"={answer}")


def test_shipped_questions_are_what_the_generator_writes() -> None:
    written = [questions.record(problem) for problem in questions.held_out()]
    assert written == shipped()


def test_training_streams_hold_no_shipped_question() -> None:
    held = {generator.normalise(str(row["question"])) for row in shipped()}
    # The seeds of the first two of the worker processes that train.py starts by default.
    for seed in ("train-10-0", "train-10-1"):
        source = generator.problems(seed, held_out=False)
        drawn = {generator.normalise(next(source).question) for _ in range(2000)}
        assert not drawn & held


def test_prompts_are_the_studys_to_the_letter() -> None:
    assert examples.chat_text("cot", 64, "Why?") == (
        "<|im_start|>system\nFollow this pattern to solve the problem:\n"
        "Provide a revised answer through step-by-step reasoning.\n\n"
        "Conclude with your final answer within \\boxed{}.\n\n"
        "You MUST respond in **UNDER 64 tokens**<|im_end|>\n"
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert examples.system_text("aav", None) == (
        "Quick Answer: Give an initial answer via intuition or quick calculation.\n\n"
        "Verification: Provide a revised answer through step-by-step reasoning and correct any "
        "mistakes.\n\nConclude with your final answer within \\boxed{}."
    )


@pytest.fixture(scope="module")
def pieces() -> Any:
    sentencepiece = pytest.importorskip("sentencepiece")
    return sentencepiece.SentencePieceProcessor(model_file=str(MODEL / "tokenizer.model"))


@pytest.fixture(scope="module")
def fast() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(MODEL)


def test_markers_are_control_tokens_and_digits_stand_alone(pieces: Any) -> None:
    assert pieces.get_piece_size() == 1024
    for index, token in enumerate(("<|im_start|>", "<|im_end|>", "<|pad|>"), start=1):
        assert pieces.id_to_piece(index) == token and pieces.is_control(index)
    for index in range(1024):
        piece = pieces.id_to_piece(index)
        if re.search(r"[0-9]", piece) and not pieces.is_byte(index):
            assert len(piece) == 1


def test_documents_are_what_hugging_face_reads(pieces: Any, fast: Any) -> None:
    documents = iter(examples.ExampleMaker(pieces, "test"))
    for _ in range(200):
        document = next(documents)
        text = fast.decode(document.tokens)
        assert fast(text)["input_ids"] == document.tokens
        assert document.tokens[-1] == examples.END_ID


@pytest.mark.parametrize("text", ["a b", "é 漢\n\n \t", "  two  spaces ", "12+3=15", "<s>▁x"])
def test_any_text_survives(pieces: Any, fast: Any, text: str) -> None:
    ids = fast(text)["input_ids"]
    assert ids == pieces.encode(text)
    assert fast.decode(ids).replace("▁", " ") == text.replace("▁", " ")


def test_the_chat_template_is_the_studys_format(fast: Any) -> None:
    messages = [
        {"role": "system", "content": examples.system_text("aav", 30)},
        {"role": "user", "content": "Why?"},
    ]
    text = fast.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == examples.chat_text("aav", 30, "Why?")


def test_stated_budgets_hold_in_the_training_data(pieces: Any) -> None:
    documents = iter(examples.ExampleMaker(pieces, "budgets"))
    seen = 0
    while seen < 300:
        document = next(documents)
        prompt = pieces.decode(document.tokens[: document.prompt_tokens])
        stated = re.search(r"UNDER ([0-9]+) tokens", prompt)
        if stated is None:
            continue
        seen += 1
        answer = document.tokens[document.prompt_tokens :]
        bare = len(re.findall("boxed", pieces.decode(answer))) == 1 and len(answer) < 20
        assert len(answer) <= int(stated[1]) or bare


def test_packing_keeps_documents_whole(pieces: Any) -> None:
    documents = iter(examples.ExampleMaker(pieces, "pack"))
    ids, labels, numbers = examples.pack(documents, rows=3, width=1024)
    for row in range(3):
        for number in range(1, int(numbers[row].max()) + 1):
            at = (numbers[row] == number).nonzero()[0]
            assert ids[row, at[0]] == examples.START_ID
            assert labels[row, at[-1]] == examples.END_ID
            trained = labels[row, at] != examples.NO_LOSS
            assert (labels[row, at][trained] > 0).all()
            inside = at[:-1][trained[:-1]]
            assert (labels[row, inside] == ids[row, inside + 1]).all()
    assert (labels[numbers == 0] == examples.NO_LOSS).all()


def test_the_shipped_model_is_small_and_fits_k_quants() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 16_000_000
    config = json.loads((MODEL / "config.json").read_text())
    assert config["hidden_size"] % 256 == config["intermediate_size"] % 256 == 0
    assert config["vocab_size"] == 1024
