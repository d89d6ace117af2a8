"""Ask every question of every quantization, and keep the raw answers.

What is asked of a question is its strategies' business (:mod:`edgequant.answers.strategies`);
here every request becomes one answer. Right answers play no part: grading joins them later.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from edgequant.answers.agreement import Pair, agreement, sample
from edgequant.answers.cache import (
    FORMAT as CACHE_FORMAT,
)
from edgequant.answers.cache import (
    Answer,
    AnswerCache,
    answer_key,
    cache_file,
    closed_key,
)
from edgequant.answers.closing import close, kept_tokens
from edgequant.answers.mirrors.mirror import SAMPLING, ComparedPool, Mirror, MirrorPool
from edgequant.answers.prompts import CHATML_END, Message, Prompt, Wrapper, chatml
from edgequant.answers.questions import Question, questions_sha256
from edgequant.answers.strategies.strategy import Closing, Request, Strategy
from edgequant.answers.strategies.truncate import Truncate
from edgequant.answers.table import ANSWERS_NAME, FORMAT, REFERENCE_NAME, Answers
from edgequant.answers.work import Continuation, Had, Wanted, work
from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.errors import ExperimentError
from edgequant.core.hashing import sha256_json
from edgequant.core.progress import Task, say, task
from edgequant.core.schemas import ANSWERS
from edgequant.core.tables import make_table, write_table
from edgequant.models.model_file import ModelFile

STAGE = "answers"

TaskPrompts = Mapping[str, Sequence[str]]
EVERY_PROMPT: TaskPrompts = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Job:
    """One answer to be had, and what it is the answer to."""

    prompt: Prompt
    strategy: Strategy
    question: Question
    request: Request


@dataclass(slots=True)
class _Base:
    """One answer to some turns, on its way."""

    about: str
    messages_sha256: str
    max_tokens: int
    messages: Sequence[Message]
    prompt: str | None = None
    """Rendered."""
    answer: Answer | None = None
    rows: int = 0
    """How many rows take it as it is."""


@dataclass(slots=True)
class _Row:
    """One row of the result on its way."""

    model: ModelFile
    job: _Job
    base: _Base
    closed: Answer | None = None

    @property
    def answer(self) -> Answer:
        """Once it was asked."""
        answer = self.closed or self.base.answer
        assert answer is not None
        return answer

    @property
    def max_tokens(self) -> int:
        """Where the answer would have been cut off."""
        request, answer = self.job.request, self.closed
        if request.closing is None or answer is None or answer.closing_start is None:
            return request.max_tokens
        return answer.closing_start + (answer.closing_tokens or 0) + request.closing.max_tokens


@dataclass(frozen=True, slots=True)
class _Closed:
    """A row whose answer is to be closed."""

    row: _Row
    closing: Closing
    kept: int
    key: str
    wanted: Wanted

    def take(self, had: Had) -> None:
        self.row.closed = close(self.row.answer, self.kept, self.closing, had.text_ids, had.answer)


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
    task_prompts: TaskPrompts = EVERY_PROMPT,
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
        task_prompts: of tasks that are asked in some of the prompts only, the names of these.
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
    jobs = _jobs(prompts, strategies, questions, max_tokens, task_prompts)

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
        failed = sum(row.answer.failed for row in rows)
        draft.manifest.details["failed_answers"] = failed
        counted = sum(row.answer.counted for row in rows)
        draft.manifest.details["counted_token_ids"] = counted
        draft.manifest.details["mirrors"] = dict(mirrors.details)
        if failed:
            say(f"{failed} of {len(rows)} answers could not be had: they count as wrong.")

    recipe = _recipe(
        models, mirrors, prompts, questions, max_tokens, strategies, task_prompts, wrapper
    )
    return Answers(store.get_or_make(recipe, make, accept=_without_failures))


def find_answers(
    models: Sequence[ModelFile],
    *,
    mirrors: MirrorPool,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    max_tokens: int,
    strategies: Sequence[Strategy] = (Truncate(),),
    task_prompts: TaskPrompts = EVERY_PROMPT,
    wrapper: Wrapper = "template",
    store: Store | None = None,
) -> Answers | None:
    """What :func:`generate` would return with these arguments, where all of it is there."""
    recipe = _recipe(
        models, mirrors, prompts, questions, max_tokens, strategies, task_prompts, wrapper
    )
    found = (store if store is not None else Store()).find(recipe, accept=_without_failures)
    return None if found is None else Answers(found)


def _without_failures(artefact: Artefact) -> bool:
    failed = artefact.manifest.details.get("failed_answers")
    if failed:
        say(f"An earlier run could not have {failed} answers: they are asked for again.")
    return not failed


def answer_bounds(
    asked: Sequence[tuple[Prompt, Question]], strategies: Sequence[Strategy], max_tokens: int
) -> list[tuple[int, int]]:
    """For a question in a prompt, how many answers a mirror is asked for, and their tokens at most.

    Turns that several strategies ask with the same limit are counted once.

    Raises:
        PromptError: a prompt cannot be asked in one of the strategies.
    """
    bounds = []
    for prompt, question in asked:
        requests = [r for s in strategies for r in s.requests(prompt, question, max_tokens)]
        turns = {(sha256_json(r.messages), r.max_tokens) for r in requests}
        more = [r.closing.max_tokens for r in requests if r.closing is not None]
        tokens = sum(limit for _, limit in turns) + sum(more)
        bounds.append((len(turns) + len(more), tokens))
    return bounds


def _recipe(
    models: Sequence[ModelFile],
    mirrors: MirrorPool,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    max_tokens: int,
    strategies: Sequence[Strategy],
    task_prompts: TaskPrompts,
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
        "task_prompts": {name: list(names) for name, names in task_prompts.items()},
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
    task_prompts: TaskPrompts,
) -> list[_Job]:
    return [
        _Job(prompt=prompt, strategy=strategy, question=question, request=request)
        for prompt in prompts
        for strategy in strategies
        for question in questions
        if prompt.name in task_prompts.get(question.task or "", (prompt.name,))
        for request in strategy.requests(prompt, question, max_tokens)
    ]


def _ask_model(
    shared: _Experiment, model: ModelFile, jobs: Sequence[_Job], bar: Task
) -> list[_Row]:
    """All answers of one model, in the order of the jobs."""
    file = cache_file(
        shared.answers_folder, model_sha256=model.sha256, identity=shared.mirrors.identity
    )
    with AnswerCache(file) as cache, contextlib.ExitStack() as stack:
        return _Asking(shared, model, cache, bar, stack).rows(jobs)


class _Asking:
    """One model's answers: kept ones are taken, the others had from mirrors.

    First come the answers to turns, each asked once however many rows come of it; then those
    that are closed, which need the first.
    """

    def __init__(
        self,
        shared: _Experiment,
        model: ModelFile,
        cache: AnswerCache,
        bar: Task,
        stack: contextlib.ExitStack,
    ) -> None:
        self._shared = shared
        self._model = model
        self._cache = cache
        self._bar = bar
        self._stack = stack
        self._mirrors: Sequence[Mirror] = ()
        self._started = 0.0
        self._answers = self._tokens = self._failed = 0

    def rows(self, jobs: Sequence[_Job]) -> list[_Row]:
        """A row for each job."""
        bases: dict[tuple[str, int], _Base] = {}
        rows: list[_Row] = []
        for job in jobs:
            request = job.request
            key = (sha256_json(request.messages), request.max_tokens)
            base = bases.setdefault(key, _Base(self._about(job), *key, request.messages))
            rows.append(_Row(self._model, job, base))
            base.rows += request.closing is None
        self._have_bases(
            [*bases.values()], sum(row.job.request.closing is not None for row in rows)
        )
        self._have_closed([row for row in rows if row.job.request.closing is not None])
        return rows

    def _about(self, job: _Job) -> str:
        return f"question {job.question.id}, prompt {job.prompt.name}, {self._model.name}"

    # Answers to turns -------------------------------------------------------------------------

    def _have_bases(self, bases: Sequence[_Base], closings: int) -> None:
        missing = [base for base in bases if not self._is_kept(base)]
        self._bar.advance(sum(base.rows for base in bases if base.answer is not None))
        if not missing:
            return
        self._open(len(missing) + closings)
        wanted = [
            Wanted(base.about, base.messages, base.max_tokens, base.prompt, self._shared.stop)
            for base in missing
        ]
        for had in self._work(wanted):
            self._take(missing[had.index], had)
            self._bar.advance(missing[had.index].rows)

    def _is_kept(self, base: _Base) -> bool:
        if self._shared.wrapper == "chatml":
            base.prompt = chatml(base.messages)
        else:
            base.prompt = self._cache.get_rendering(base.messages_sha256)
        if base.prompt is not None:
            base.answer = self._cache.get(
                answer_key(base.prompt, base.max_tokens, self._shared.stop)
            )
        return base.answer is not None

    def _take(self, base: _Base, had: Had) -> None:
        """Keep what came; a failed answer is tried again by the next run."""
        base.answer = had.answer
        if not isinstance(had.prompt, str):
            return
        base.prompt = had.prompt
        if self._shared.wrapper == "template":
            self._cache.put_rendering(base.messages_sha256, had.prompt)
        if not had.answer.failed:
            key = answer_key(had.prompt, base.max_tokens, self._shared.stop)
            self._cache.put(key, had.answer)

    # Answers that are closed ------------------------------------------------------------------

    def _have_closed(self, rows: Sequence[_Row]) -> None:
        closed = [found for row in rows if (found := self._closed(row)) is not None]
        missing: dict[str, list[_Closed]] = {}
        for one in closed:
            one.row.closed = self._cache.get(one.key)
            if one.row.closed is None:
                missing.setdefault(one.key, []).append(one)
        self._bar.advance(len(rows) - sum(map(len, missing.values())))
        if not missing:
            return
        self._open(len(missing))
        same = [*missing.values()]
        for had in self._work([ones[0].wanted for ones in same]):
            for one in same[had.index]:
                one.take(had)
            if not had.answer.failed:
                whole = same[had.index][0].row.answer
                self._cache.put(same[had.index][0].key, whole)
            self._bar.advance(len(same[had.index]))

    def _closed(self, row: _Row) -> _Closed | None:
        closing, base = row.job.request.closing, row.base
        assert closing is not None
        kept = kept_tokens(row.answer, closing)
        if kept is None:
            return None
        assert base.prompt is not None, "what was answered was asked"
        ids = row.answer.token_ids[:kept]
        stop = self._shared.stop
        return _Closed(
            row,
            closing,
            kept,
            closed_key(base.prompt, ids, closing.text, closing.max_tokens, stop),
            Wanted(
                self._about(row.job),
                (),
                closing.max_tokens,
                Continuation(base.prompt, ids, closing.text),
                stop,
            ),
        )

    # Both -------------------------------------------------------------------------------------

    def _open(self, wanted: int) -> None:
        if self._mirrors:
            return
        self._bar.describe(f"Answers of {self._model.name}: loading")
        self._mirrors = self._stack.enter_context(
            self._shared.mirrors.open(self._model, wanted=wanted, logs=self._shared.log_folder)
        )
        self._started = time.monotonic()

    def _work(self, wanted: Sequence[Wanted]) -> Iterator[Had]:
        with contextlib.closing(work(self._mirrors, wanted)) as finished:
            for had in finished:
                self._answers += 1
                self._failed += had.answer.failed
                self._tokens += len(had.answer.token_ids)
                seconds = time.monotonic() - self._started
                self._bar.describe(
                    f"Answers of {self._model.name} ({len(self._mirrors)} at once): "
                    f"{self._answers / seconds:.1f} answers/s, "
                    f"{self._tokens / seconds:.0f} tokens/s"
                    + (f", {self._failed} failed" if self._failed else "")
                )
                yield had


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
    if one.answer.failed or other.answer.failed:
        return None
    job = one.job
    label = job.strategy.label(job.request)
    group = (one.model.name, job.prompt.name, label, job.request.budget_tokens)
    return Pair(group, job.question.id, one.answer.token_ids, other.answer.token_ids)


def _write(rows: Sequence[_Row], mirrors: MirrorPool, path: Path) -> None:
    def record(row: _Row) -> dict[str, object]:
        answer, job = row.answer, row.job
        return {
            "quantization": row.model.name,
            "prompt": job.prompt.name,
            "strategy": job.strategy.label(job.request),
            "budget_tokens": job.request.budget_tokens,
            "question_id": job.question.id,
            "question_sha256": job.question.sha256,
            "rendered_prompt": row.base.prompt,
            "token_ids": answer.token_ids,
            "token_ids_counted": answer.counted,
            "token_texts": answer.token_texts,
            "text": answer.text,
            "closing_start": answer.closing_start,
            "closing_tokens": answer.closing_tokens,
            "stop_reason": answer.stop_reason,
            "prompt_tokens": answer.prompt_tokens,
            "max_tokens": row.max_tokens,
            "prompt_seconds": answer.prompt_seconds,
            "decode_seconds": answer.decode_seconds,
            "model_sha256": row.model.sha256,
            "llama_cpp_commit": mirrors.identity.llama_cpp_commit,
            **mirrors.columns,
        }

    write_table(make_table(map(record, rows), ANSWERS), path, ANSWERS)
