"""Ways to quantize, side by side: bytes, perplexity and divergence of each type with each.

    python benchmarks/quantization.py MODEL --calibration-questions train.jsonl \
        --questions test.jsonl --types Q2_K,Q3_K_M --out DIR

Of MODEL (a Hugging Face folder) every type is made plain and with each way, and all are compared
with the 16-bit file on questions with worked answers that nothing was calibrated on. Prints tables
in Markdown; ``quality.csv`` has every figure. What was made and compared before is found again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgequant.answers.calibration import load_calibration, load_chats
from edgequant.answers.generate import generate
from edgequant.answers.mirrors.registry import make_mirrors
from edgequant.answers.prompts import load_prompt
from edgequant.answers.questions import Question, load_questions
from edgequant.build.build import Build, build
from edgequant.core.artefact import Store
from edgequant.core.errors import EdgequantError
from edgequant.core.schemas import QUALITY
from edgequant.core.tables import records, write_csv
from edgequant.matching.graders.boxed import Boxed
from edgequant.matching.graders.grader import last_value
from edgequant.matching.intervals import wilson_interval
from edgequant.models.folder import check_model_folder
from edgequant.models.make import convert_folder, make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import StepContext
from edgequant.models.variant import Variant
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary
from edgequant.quality.inputs import chats_text, refuse_calibration
from edgequant.quality.measure import measure_quality
from edgequant.report.style import significant

MAX_TOKENS = 320
TYPES = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M")
WAYS: Mapping[str, tuple[str, ...]] = {
    "plain": ("{type}",),
    "imatrix": ("imatrix", "{type}"),
    "awq": ("awq", "{type}"),
    "awq+imatrix": ("awq", "imatrix", "{type}"),
    "gptq": ("gptq:{type}",),
    "rotate": ("rotate", "{type}"),
    "mix": ("mix:{type}",),
    "imatrix+mix": ("imatrix", "mix:{type}"),
    "awq+imatrix+mix": ("awq", "imatrix", "mix:{type}"),
    "imatrix+gptq": ("imatrix", "gptq:{type}"),
    "awq+imatrix+gptq": ("awq", "imatrix", "gptq:{type}"),
    "imatrix+gptq+mix": ("imatrix", "gptq:mix:{type}"),
    "awq+imatrix+gptq+mix": ("awq", "imatrix", "gptq:mix:{type}"),
}


def main() -> None:
    """Make, compare, print."""
    arguments = _parse()
    host, store = build("host"), Store()
    folder = check_model_folder(arguments.model)
    base = convert_folder(folder, host=host, output_type=arguments.output_type, store=store)
    calibration = load_calibration(
        questions=arguments.calibration_questions, tokens=arguments.calibration_tokens
    )
    context = StepContext(folder.name, host, store, calibration)
    files = list(_made(arguments.types, arguments.ways, base, context))
    chats = load_chats(arguments.questions)
    with Vocabulary(base.path, host.binary(LIBRARY_NAME)) as vocabulary:
        texts = [
            chats_text(chats, vocabulary, name=n, limit=arguments.tokens, answers_only=only)
            for n, only in (("questions and answers", False), ("answers", True))
            if n in arguments.texts
        ]
        refuse_calibration(calibration, texts, vocabulary)
    table = measure_quality(base, files, texts, host=host, threads=arguments.threads, store=store)
    for text in texts:
        rows = {r["quantization"]: r for r in records(table) if r["text"] == text.name}
        print(markdown(text.name, rows))
    if arguments.asked:
        questions = load_questions(arguments.questions, arguments.asked)
        print(accuracy([base, *files], questions, host))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_csv(table, arguments.out / QUALITY.file, QUALITY)


def _parse() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibration-questions", type=Path, required=True)
    parser.add_argument("--calibration-tokens", type=int, default=16384)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192, help="of the questions and answers")
    parser.add_argument("--texts", type=words, default=["questions and answers", "answers"])
    parser.add_argument(
        "--asked", type=int, default=0, help="ask so many questions, too, and grade the answers"
    )
    parser.add_argument("--types", type=words, default=list(TYPES))
    parser.add_argument("--ways", type=words, default=list(WAYS))
    parser.add_argument("--output-type", choices=("auto", "f16", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _made(
    types: Sequence[str], ways: Sequence[str], base: ModelFile, context: StepContext
) -> Iterator[ModelFile]:
    for type in types:
        for way in ways:
            steps = [step.format(type=type) for step in WAYS[way]]
            try:
                yield make_variant(Variant.of_steps(f"{type}-{way}", steps), base, context)
            except EdgequantError as error:
                # One that cannot be made is told, and the others are compared all the same.
                print(f"{type} {way}: {error}\n")


def accuracy(files: Sequence[ModelFile], questions: Sequence[Question], host: Build) -> str:
    """How many questions each file answers rightly: one slot, no prompt cache, greedy.

    Args:
        files: of one model.
        questions: asked in the prompt ``cot``.
        host: build of this machine's tools.
    """
    answers = generate(
        files,
        mirrors=make_mirrors("llama-server", host),
        prompts=[load_prompt("cot")],
        questions=questions,
        max_tokens=MAX_TOKENS,
    )
    expected = {question.id: question.answer for question in questions}
    grader = Boxed()
    right = dict.fromkeys([file.name for file in files], 0)
    for row in records(answers.frame()):
        value = last_value(grader.readings(row["text"]))
        right[row["quantization"]] += value is not None and grader.agrees(
            value, expected[row["question_id"]]
        )
    lines = [f"{len(questions)} questions, step by step", "", "| variant | right | 95 % |"]
    lines.append("| --- | ---: | ---: |")
    for name, count in right.items():
        low, high = wilson_interval(count, len(questions))
        lines.append(f"| {name} | {count / len(questions):.1%} | {low:.1%} to {high:.1%} |")
    return "\n".join([*lines, ""])


def markdown(text: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of one text.

    Args:
        text: its name.
        rows: of the table of quality, by ``TYPE-WAY``.
    """
    first = next(iter(rows.values()))
    lines = [
        f"{text}: {first['tokens']} tokens in {first['passages']} passages; perplexity of the "
        f"16-bit file {first['reference_perplexity']:.4g}",
        "",
        "| type | way | bytes | against plain | perplexity | mean divergence | against plain "
        "| against imatrix | same top |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        type, _, way = name.partition("-")
        plain, imatrix = rows.get(f"{type}-plain"), rows.get(f"{type}-imatrix")
        error = row["divergence_error"]
        cells = [
            *(type, way, f"{row['bytes']:,}".replace(",", " ")),
            _change(row, plain, "bytes", 2),
            f"{row['perplexity']:.4g}",
            f"{significant(row['divergence'])} ± {significant(error, 2)}",
            _change(row, plain, "divergence", 0),
            _change(row, imatrix, "divergence", 0),
            f"{row['same_top']:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _change(row: Mapping[str, Any], other: Mapping[str, Any] | None, name: str, digits: int) -> str:
    if other is None or other is row:
        return ""
    return f"{row[name] / other[name] - 1:+.{digits}%}"


if __name__ == "__main__":
    main()
