"""Ask every question of every quantization, and keep the raw answers.

What is asked of a question is its strategies' business (:mod:`edgequant.answers.strategies`);
here every request becomes one answer. Right answers play no part: grading joins them later.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgequant.answers.agreement import Pair, agreement, sample
from edgequant.answers.cache import (
    FORMAT as CACHE_FORMAT,
)
from edgequant.answers.cache import (
    Answer,
    AnswerCache,
    answer_key,
    cache_file,
)
from edgequant.answers.mirrors.mirror import SAMPLING, ComparedPool, MirrorPool
from edgequant.answers.prompts import CHATML_END, Prompt, Wrapper, chatml
from edgequant.answers.questions import Question, questions_sha256
from edgequant.answers.strategies.strategy import Request, Strategy
from edgequant.answers.strategies.truncate import Truncate
from edgequant.answers.table import ANSWERS_NAME, FORMAT, REFERENCE_NAME, Answers
from edgequant.answers.work import Had, Wanted, work
from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.errors import ExperimentError
from edgequant.core.hashing import sha256_json
from edgequant.core.progress import Task, say, task
from edgequant.core.schemas import ANSWERS
from edgequant.core.tables import make_table, write_table
from edgequant.models.model_file import ModelFile

STAGE = "answers"


@dataclass(frozen=True, slots=True)
class _Job:
    """One answer to be had, and what it is the answer to."""

    prompt: Prompt
    strategy: Strategy
    question: Question
    request: Request


@dataclass(slots=True)
class _Row:
    """One row of the result on its way."""

    model: ModelFile
    job: _Job
    rendered_prompt: str | None = None
    answer: Answer | None = None


@dataclass(frozen=True)
class _Experiment:
    """What the steps of one generation share."""

    mirrors: MirrorPool
    wrapper: Wrapper
    answers_folder: Path
    log_folder: Path

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer: ChatML's mark is none of most models' own tokens."""
        return (CHATML_END,) if self.wrapper == "chatml" else ()


def generate(
    models: Sequence[ModelFile],
    *,
    mirrors: MirrorPool,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    max_tokens: int,
    strategies: Sequence[Strategy] = (Truncate(),),
    wrapper: Wrapper = "template",
    store: Store | None = None,
) -> Answers:
    """Generate all answers, or find them where they were generated before.

    An interrupted call is taken up where it stopped by calling again.

    Args:
        models: what answers, one after another.
        mirrors: what the models answer in.
        prompts: how questions are put.
        questions: what is asked of every prompt in every strategy.
        max_tokens: where answers without a limit of their own are stopped.
        strategies: what is asked of a question.
        wrapper: the model's own chat template, or the study's ChatML.
        store: where the artefact goes.

    Raises:
        ExperimentError: nothing to ask, or a number below 1.
        PromptError: a prompt cannot be asked in one of the strategies.
        MirrorError: a mirror failed, a model has no chat template, or the context is too small.
        DiskFullError: this machine's disk filled up.
    """
    _check(models, prompts, questions, strategies, max_tokens)
    store = store if store is not None else Store()
    jobs = _jobs(prompts, strategies, questions, max_tokens)

    def make(draft: ArtefactDraft) -> None:
        shared = _Experiment(
            mirrors=mirrors,
            wrapper=wrapper,
            answers_folder=store.cache / "answers",
            log_folder=draft.work_folder(),
        )
        rows: list[_Row] = []
        with task("Answers", total=len(models) * len(jobs)) as bar:
            for model in models:
                with draft.timed(model.name):
                    rows += _ask_model(shared, model, jobs, bar)
            bar.describe("Answers")
        _write(rows, mirrors, draft.folder / ANSWERS_NAME)
        if isinstance(mirrors, ComparedPool):
            draft.manifest.details["reference"] = _compare(shared, mirrors, models, rows, draft)
        draft.manifest.details["answers"] = len(rows)
        failed = sum(row.answer is not None and row.answer.failed for row in rows)
        draft.manifest.details["failed_answers"] = failed
        counted = sum(row.answer is not None and row.answer.counted for row in rows)
        draft.manifest.details["counted_token_ids"] = counted
        draft.manifest.details["mirrors"] = dict(mirrors.details)
        if failed:
            say(f"{failed} of {len(rows)} answers could not be had: they count as wrong.")

    recipe = _recipe(models, mirrors, prompts, questions, max_tokens, strategies, wrapper)
    return Answers(store.get_or_make(recipe, make, accept=_without_failures))


def find_answers(
    models: Sequence[ModelFile],
    *,
    mirrors: MirrorPool,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    max_tokens: int,
    strategies: Sequence[Strategy] = (Truncate(),),
    wrapper: Wrapper = "template",
    store: Store | None = None,
) -> Answers | None:
    """What :func:`generate` would return with these arguments, where all of it is there."""
    recipe = _recipe(models, mirrors, prompts, questions, max_tokens, strategies, wrapper)
    found = (store if store is not None else Store()).find(recipe, accept=_without_failures)
    return None if found is None else Answers(found)


def _without_failures(artefact: Artefact) -> bool:
    failed = artefact.manifest.details.get("failed_answers")
    if failed:
        say(f"An earlier run could not have {failed} answers: they are asked for again.")
    return not failed


def _recipe(
    models: Sequence[ModelFile],
    mirrors: MirrorPool,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    max_tokens: int,
    strategies: Sequence[Strategy],
    wrapper: Wrapper,
) -> Recipe:
    """All that decides what the answers are."""
    identity = mirrors.identity
    inputs = {
        **{f"model {model.name}": model.sha256 for model in models},
        **{f"prompt {prompt.name}": prompt.sha256 for prompt in prompts},
        "questions": questions_sha256(questions),
        **identity.inputs,
    }
    parameters: dict[str, object] = {
        **identity.settings,
        "format": FORMAT,
        "cache_format": CACHE_FORMAT,
        "llama_cpp_commit": identity.llama_cpp_commit,
        "strategies": [strategy.model_dump(mode="json") for strategy in strategies],
        "max_tokens": max_tokens,
        "wrapper": wrapper,
        "sampling": SAMPLING,
    }
    if isinstance(mirrors, ComparedPool):
        parameters["compare"] = mirrors.compare
    return Recipe(STAGE, inputs, parameters, identity.llama_cpp_commit)


def _check(
    models: Sequence[ModelFile],
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    strategies: Sequence[Strategy],
    max_tokens: int,
) -> None:
    members: dict[str, Sequence[ModelFile | Prompt | Question | Strategy]] = {
        "model": models,
        "prompt": prompts,
        "question": questions,
        "strategy": strategies,
    }
    for what, some in members.items():
        if not some:
            raise ExperimentError(f"there is no {what} to ask")
    named: dict[str, Sequence[ModelFile | Prompt | Strategy]] = {
        "models": models,
        "prompts": prompts,
        "strategies": strategies,
    }
    for what, these in named.items():
        names = [member.name for member in these]
        if len(set(names)) != len(names):
            raise ExperimentError(f"two {what} have the same name: {', '.join(names)}")
    if max_tokens < 1:
        raise ExperimentError(f"max_tokens is {max_tokens}, it must be at least 1")


def _jobs(
    prompts: Sequence[Prompt],
    strategies: Sequence[Strategy],
    questions: Sequence[Question],
    max_tokens: int,
) -> list[_Job]:
    return [
        _Job(prompt=prompt, strategy=strategy, question=question, request=request)
        for prompt in prompts
        for strategy in strategies
        for question in questions
        for request in strategy.requests(prompt, question.question, max_tokens)
    ]


def _ask_model(
    shared: _Experiment, model: ModelFile, jobs: Sequence[_Job], bar: Task
) -> list[_Row]:
    """All answers of one model, in the order of the jobs."""
    rows = [_Row(model, job) for job in jobs]
    file = cache_file(
        shared.answers_folder, model_sha256=model.sha256, identity=shared.mirrors.identity
    )
    with AnswerCache(file) as cache:
        missing = [row for row in rows if not _take_kept(shared, row, cache)]
        bar.advance(len(rows) - len(missing))
        if missing:
            bar.describe(f"Answers of {model.name}: loading")
            _generate_missing(shared, model, missing, cache, bar)
    return rows


def _take_kept(shared: _Experiment, row: _Row, cache: AnswerCache) -> bool:
    if shared.wrapper == "chatml":
        row.rendered_prompt = chatml(row.job.request.messages)
    else:
        row.rendered_prompt = cache.get_rendering(sha256_json(row.job.request.messages))
    if row.rendered_prompt is not None:
        row.answer = cache.get(
            answer_key(row.rendered_prompt, row.job.request.max_tokens, shared.stop)
        )
    return row.answer is not None


def _generate_missing(
    shared: _Experiment, model: ModelFile, missing: Sequence[_Row], cache: AnswerCache, bar: Task
) -> None:
    started = time.monotonic()
    tokens = failed = 0
    with contextlib.ExitStack() as stack:
        mirrors = stack.enter_context(
            shared.mirrors.open(model, wanted=len(missing), logs=shared.log_folder)
        )
        wanted = [_wanted(shared, row) for row in missing]
        finished = stack.enter_context(contextlib.closing(work(mirrors, wanted)))
        for number, had in enumerate(finished, start=1):
            row, answer = missing[had.index], had.answer
            _take(shared, row, had, cache)
            failed += answer.failed
            tokens += len(answer.token_ids)
            seconds = time.monotonic() - started
            bar.describe(
                f"Answers of {model.name} ({len(mirrors)} at once): "
                f"{number / seconds:.1f} answers/s, {tokens / seconds:.0f} tokens/s"
                + (f", {failed} failed" if failed else "")
            )
            bar.advance()


def _wanted(shared: _Experiment, row: _Row) -> Wanted:
    job = row.job
    return Wanted(
        about=f"question {job.question.id}, prompt {job.prompt.name}, {row.model.name}",
        messages=job.request.messages,
        max_tokens=job.request.max_tokens,
        prompt=row.rendered_prompt,
        stop=shared.stop,
    )


def _take(shared: _Experiment, row: _Row, had: Had, cache: AnswerCache) -> None:
    """Put what came into its row, and keep it: a failed answer is tried again by the next run."""
    row.answer = had.answer
    if not isinstance(had.prompt, str):
        return
    row.rendered_prompt = had.prompt
    if shared.wrapper == "template":
        cache.put_rendering(sha256_json(row.job.request.messages), had.prompt)
    if not had.answer.failed:
        key = answer_key(had.prompt, row.job.request.max_tokens, shared.stop)
        cache.put(key, had.answer)


def _compare(
    shared: _Experiment,
    mirrors: ComparedPool,
    models: Sequence[ModelFile],
    rows: Sequence[_Row],
    draft: ArtefactDraft,
) -> dict[str, object]:
    """Ask some of the questions in reference mode, too: its rows are kept, agreement is counted."""
    questions = list({row.job.question.id: row.job.question for row in rows}.values())
    chosen = {question.id for question in sample(questions, mirrors.compare)}
    both = [row for row in rows if row.job.question.id in chosen]
    reference = replace(shared, mirrors=mirrors.reference)
    again: list[_Row] = []
    with task("Answers in reference mode", total=len(both)) as bar:
        for model in models:
            jobs = [row.job for row in both if row.model is model]
            with draft.timed(f"{model.name} in reference mode"):
                again += _ask_model(reference, model, jobs, bar)
    _write(again, mirrors.reference, draft.folder / REFERENCE_NAME)
    return agreement(filter(None, itertools.starmap(_pair, zip(both, again, strict=True))))


def _pair(one: _Row, other: _Row) -> Pair | None:
    assert one.answer is not None, "every row has been asked"
    assert other.answer is not None, "every row has been asked"
    if one.answer.failed or other.answer.failed:
        return None
    job = one.job
    group = (one.model.name, job.prompt.name, job.strategy.name, job.request.budget_tokens)
    return Pair(group, job.question.id, one.answer.token_ids, other.answer.token_ids)


def _write(rows: Sequence[_Row], mirrors: MirrorPool, path: Path) -> None:
    def record(row: _Row) -> dict[str, object]:
        answer, job = row.answer, row.job
        assert answer is not None, "every row has been asked"
        return {
            "quantization": row.model.name,
            "prompt": job.prompt.name,
            "strategy": job.strategy.name,
            "budget_tokens": job.request.budget_tokens,
            "question_id": job.question.id,
            "question_sha256": job.question.sha256,
            "rendered_prompt": row.rendered_prompt,
            "token_ids": answer.token_ids,
            "token_ids_counted": answer.counted,
            "token_texts": answer.token_texts,
            "text": answer.text,
            "stop_reason": answer.stop_reason,
            "prompt_tokens": answer.prompt_tokens,
            "max_tokens": job.request.max_tokens,
            "prompt_seconds": answer.prompt_seconds,
            "decode_seconds": answer.decode_seconds,
            "model_sha256": row.model.sha256,
            "llama_cpp_commit": mirrors.identity.llama_cpp_commit,
            **mirrors.columns,
        }

    write_table(make_table(map(record, rows), ANSWERS), path, ANSWERS)
