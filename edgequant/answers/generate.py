"""Ask every question of every quantization, and keep the raw answers.

What is asked of a question is its strategies' business (:mod:`edgequant.answers.strategies`);
here every request becomes one answer. Right answers play no part: grading joins them later.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.answers.cache import (
    FORMAT as CACHE_FORMAT,
)
from edgequant.answers.cache import (
    Answer,
    AnswerCache,
    answer_key,
    cache_file,
    make_answer,
)
from edgequant.answers.mirrors.llama_server.process import ServerPolicy
from edgequant.answers.mirrors.llama_server.server import LlamaServer
from edgequant.answers.mirrors.mirror import SAMPLING
from edgequant.answers.prompts import CHATML_END, Prompt, Wrapper, chatml
from edgequant.answers.questions import Question, questions_sha256
from edgequant.answers.strategies.strategy import Request, Strategy
from edgequant.answers.strategies.truncate import Truncate
from edgequant.answers.table import ANSWERS_NAME, FORMAT, Answers
from edgequant.core.artefact import ArtefactDraft, Recipe, Store
from edgequant.core.errors import EdgequantError, ExperimentError, ToolMissingError
from edgequant.core.hashing import sha256_file, sha256_json
from edgequant.core.host import available_memory_bytes
from edgequant.core.progress import Task, task
from edgequant.core.schemas import ANSWERS
from edgequant.core.tables import make_table, write_table

STAGE = "answers"
MEMORY_SHARE = 0.8
"""Of the memory that is available, how much the mirrors may take together."""
SLOW_TO_HASH_BYTES = 1 << 30


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

    quantization: str
    job: _Job
    rendered_prompt: str | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class _Done:
    """What a worker hands back: an answer, or why there is none."""

    row: _Row
    rendered_prompt: str = ""
    answer: Answer | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class _Experiment:
    """What the steps of one generation share."""

    server_binary: Path
    server_sha256: str
    llama_cpp_commit: str
    policy: ServerPolicy
    wrapper: Wrapper
    workers: int | None
    answers_folder: Path
    log_folder: Path

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer: ChatML's mark is none of most models' own tokens."""
        return (CHATML_END,) if self.wrapper == "chatml" else ()


def generate(
    models: Mapping[str, Path],
    *,
    server_binary: Path,
    llama_cpp_commit: str,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    max_tokens: int,
    strategies: Sequence[Strategy] = (Truncate(),),
    wrapper: Wrapper = "template",
    threads: int = 1,
    workers: int | None = None,
    context: int = 4096,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    store: Store | None = None,
    model_sha256: Mapping[str, str] | None = None,
) -> Answers:
    """Generate all answers in reference mode, or find them where they were generated before.

    An interrupted call is taken up where it stopped by calling again.

    Args:
        models: quantization to its GGUF.
        server_binary: llama-server, built from ``llama_cpp_commit``.
        llama_cpp_commit: recorded, and part of every key.
        prompts: how questions are put.
        questions: what is asked of every prompt in every strategy.
        max_tokens: where answers without a limit of their own are stopped.
        strategies: what is asked of a question.
        wrapper: the model's own chat template, or the study's ChatML.
        threads: of each server. One is the quickest for small models.
        workers: servers at once, each with one slot and no prompt cache; by default as many as
            the host's cores and memory allow.
        context: tokens that prompt and answer may have together.
        cache_type_k: type of the key cache.
        cache_type_v: type of the value cache.
        store: where the artefact goes.
        model_sha256: hex SHA-256 of the models where they are known already.

    Raises:
        ExperimentError: nothing to ask, or a number below 1.
        PromptError: a prompt cannot be asked in one of the strategies.
        GgufError: a model is missing or damaged.
        MirrorError: a server failed, a model has no chat template, or the context is too small.
        DiskFullError: this machine's disk filled up.
    """
    _check(
        models,
        prompts,
        questions,
        strategies,
        {"max_tokens": max_tokens, "threads": threads},
        workers,
    )
    store = store if store is not None else Store()
    jobs = _jobs(prompts, strategies, questions, max_tokens)
    policy = ServerPolicy(
        threads=threads, context=context, cache_type_k=cache_type_k, cache_type_v=cache_type_v
    )
    hashes = _model_hashes(models, model_sha256 or {})
    recipe = _recipe(
        hashes, server_binary, llama_cpp_commit, prompts, questions, strategies, max_tokens,
        wrapper, policy,
    )  # fmt: skip

    def make(draft: ArtefactDraft) -> None:
        shared = _Experiment(
            server_binary=server_binary,
            server_sha256=recipe.inputs["llama-server"],
            llama_cpp_commit=llama_cpp_commit,
            policy=policy,
            wrapper=wrapper,
            workers=workers,
            answers_folder=store.cache / "answers",
            log_folder=draft.work_folder(),
        )
        rows: list[_Row] = []
        with task("Answers", total=len(models) * len(jobs)) as bar:
            for name, path in models.items():
                with draft.timed(name):
                    rows += _ask_model(shared, name, path, hashes[name], jobs, bar)
            bar.describe("Answers")
        _write(rows, shared, hashes, draft.folder / ANSWERS_NAME)
        draft.manifest.details["answers"] = len(rows)

    return Answers(store.get_or_make(recipe, make))


def find_answers(
    models: Mapping[str, Path],
    *,
    server_binary: Path,
    llama_cpp_commit: str,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    max_tokens: int,
    strategies: Sequence[Strategy] = (Truncate(),),
    wrapper: Wrapper = "template",
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    store: Store | None = None,
    model_sha256: Mapping[str, str] | None = None,
) -> Answers | None:
    """What :func:`generate` would return with these arguments, where all of it is there."""
    policy = ServerPolicy(cache_type_k=cache_type_k, cache_type_v=cache_type_v)
    hashes = _model_hashes(models, model_sha256 or {})
    recipe = _recipe(
        hashes, server_binary, llama_cpp_commit, prompts, questions, strategies, max_tokens,
        wrapper, policy,
    )  # fmt: skip
    found = (store if store is not None else Store()).find(recipe)
    return None if found is None else Answers(found)


def _recipe(
    hashes: Mapping[str, str],
    server_binary: Path,
    llama_cpp_commit: str,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    strategies: Sequence[Strategy],
    max_tokens: int,
    wrapper: Wrapper,
    policy: ServerPolicy,
) -> Recipe:
    if not server_binary.is_file():
        raise ToolMissingError(
            "no llama-server here",
            subject=server_binary,
            next_step="run edgequant build --target host",
        )
    inputs = {
        **{f"model {name}": digest for name, digest in hashes.items()},
        **{f"prompt {prompt.name}": prompt.sha256 for prompt in prompts},
        "questions": questions_sha256(questions),
        "llama-server": sha256_file(server_binary),
    }
    parameters: dict[str, object] = {
        "format": FORMAT,
        "cache_format": CACHE_FORMAT,
        "llama_cpp_commit": llama_cpp_commit,
        "strategies": [strategy.model_dump(mode="json") for strategy in strategies],
        "max_tokens": max_tokens,
        "wrapper": wrapper,
        "sampling": SAMPLING,
        "policy": policy.as_dict(),
    }
    return Recipe(STAGE, inputs, parameters, llama_cpp_commit)


def default_workers(threads: int, model_bytes: int, cores: int, available_bytes: int) -> int:
    """Servers to run at once: as many as the cores feed and the memory holds, at least one.

    A server is taken to need twice its model: llama.cpp repacks weights into a second copy.
    """
    by_memory = int(available_bytes * MEMORY_SHARE // max(2 * model_bytes, 1))
    return max(1, min(cores // threads, by_memory))


def _check(
    models: Mapping[str, Path],
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    strategies: Sequence[Strategy],
    numbers: Mapping[str, int],
    workers: int | None,
) -> None:
    for what, values in (
        ("model", models),
        ("prompt", prompts),
        ("question", questions),
        ("strategy", strategies),
    ):
        if not values:
            raise ExperimentError(f"there is no {what} to ask")
    named: dict[str, Sequence[Prompt | Strategy]] = {"prompts": prompts, "strategies": strategies}
    for what, members in named.items():
        names = [member.name for member in members]
        if len(set(names)) != len(names):
            raise ExperimentError(f"two {what} have the same name: {', '.join(names)}")
    for name, number in {**numbers, "workers": 1 if workers is None else workers}.items():
        if number < 1:
            raise ExperimentError(f"{name} is {number}, it must be at least 1")


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


def _model_hashes(models: Mapping[str, Path], known: Mapping[str, str]) -> dict[str, str]:
    from edgequant.models.formats.gguf import read_gguf

    hashes: dict[str, str] = {}
    for name, path in models.items():
        read_gguf(path)
        if name in known:
            hashes[name] = known[name]
        else:
            large = path.stat().st_size > SLOW_TO_HASH_BYTES
            with task(f"Hashing {path.name}") if large else contextlib.nullcontext():
                hashes[name] = sha256_file(path)
    return hashes


def _ask_model(
    shared: _Experiment, name: str, gguf: Path, model_sha256: str, jobs: Sequence[_Job], bar: Task
) -> list[_Row]:
    """All answers of one model, in the order of the jobs."""
    rows = [_Row(name, job) for job in jobs]
    file = cache_file(
        shared.answers_folder,
        model_sha256=model_sha256,
        llama_cpp_commit=shared.llama_cpp_commit,
        server_sha256=shared.server_sha256,
        policy=shared.policy,
    )
    with AnswerCache(file) as cache:
        missing = [row for row in rows if not _take_kept(shared, row, cache)]
        bar.advance(len(rows) - len(missing))
        if missing:
            bar.describe(f"Answers of {name}: loading")
            _generate_missing(shared, gguf, missing, cache, bar)
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
    shared: _Experiment, gguf: Path, missing: Sequence[_Row], cache: AnswerCache, bar: Task
) -> None:
    count = shared.workers or default_workers(
        shared.policy.threads,
        gguf.stat().st_size,
        len(os.sched_getaffinity(0)),
        available_memory_bytes(),
    )
    name = missing[0].quantization
    count = min(count, len(missing))
    started = time.monotonic()
    tokens = 0
    with contextlib.ExitStack() as stack:
        mirrors = stack.enter_context(_mirrors(shared, gguf, name, count))
        finished = stack.enter_context(contextlib.closing(_work(shared, mirrors, missing)))
        for number, done in enumerate(finished, start=1):
            if done.error is not None:
                raise done.error
            assert done.answer is not None
            row = done.row
            row.rendered_prompt, row.answer = done.rendered_prompt, done.answer
            if shared.wrapper == "template":
                cache.put_rendering(sha256_json(row.job.request.messages), done.rendered_prompt)
            cache.put(
                answer_key(done.rendered_prompt, row.job.request.max_tokens, shared.stop),
                done.answer,
            )
            tokens += len(done.answer.token_ids)
            seconds = time.monotonic() - started
            bar.describe(
                f"Answers of {name} ({count} x {shared.policy.threads} threads): "
                f"{number / seconds:.1f} answers/s, {tokens / seconds:.0f} tokens/s"
            )
            bar.advance()


@contextlib.contextmanager
def _mirrors(shared: _Experiment, gguf: Path, name: str, count: int) -> Iterator[list[LlamaServer]]:
    """Several servers of one model, loading side by side."""
    with contextlib.ExitStack() as stack:
        mirrors = []
        for number in range(count):
            mirror = LlamaServer(
                shared.server_binary,
                gguf,
                log=shared.log_folder / f"llama-server-{name}-{number}.log",
                policy=shared.policy,
            )
            stack.callback(mirror.stop)
            mirror.start()
            mirrors.append(mirror)
        for mirror in mirrors:
            mirror.wait_until_ready()
        yield mirrors


def _work(
    shared: _Experiment, mirrors: Sequence[LlamaServer], rows: Sequence[_Row]
) -> Generator[_Done, None, None]:
    """Hand the rows to the mirrors, one at a time each, and yield what comes back."""
    waiting: queue.SimpleQueue[_Row] = queue.SimpleQueue()
    for row in rows:
        waiting.put(row)
    finished: queue.SimpleQueue[_Done] = queue.SimpleQueue()
    stopped = threading.Event()

    def serve(mirror: LlamaServer) -> None:
        while not stopped.is_set():
            try:
                row = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put(_ask(shared, mirror, row))
            except BaseException as error:
                finished.put(_Done(row, error=error))
                return

    threads = [threading.Thread(target=serve, args=(m,), daemon=True) for m in mirrors]
    for thread in threads:
        thread.start()
    try:
        for _ in rows:
            yield finished.get()
    except BaseException:
        # On Ctrl-C or a failure the others must not be waited for: their servers end first.
        stopped.set()
        for mirror in mirrors:
            mirror.stop()
        raise
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _ask(shared: _Experiment, mirror: LlamaServer, row: _Row) -> _Done:
    job = row.job
    try:
        rendered = row.rendered_prompt or mirror.apply_template(job.request.messages)
        completion = mirror.complete(rendered, job.request.max_tokens, stop=shared.stop)
    except EdgequantError as error:
        raise _with_question(error, row) from error
    return _Done(row, rendered, make_answer(completion, shared.stop))


def _with_question(error: EdgequantError, row: _Row) -> EdgequantError:
    where = f"question {row.job.question.id}, prompt {row.job.prompt.name}, {row.quantization}"
    return type(error)(f"{error.cause} ({where})", subject=error.subject, next_step=error.next_step)


def _write(
    rows: Sequence[_Row], shared: _Experiment, hashes: Mapping[str, str], path: Path
) -> None:
    def record(row: _Row) -> dict[str, object]:
        answer, job = row.answer, row.job
        assert answer is not None, "every row has been asked"
        return {
            "quantization": row.quantization,
            "prompt": job.prompt.name,
            "strategy": job.strategy.name,
            "budget_tokens": job.request.budget_tokens,
            "question_id": job.question.id,
            "question_sha256": job.question.sha256,
            "rendered_prompt": row.rendered_prompt,
            "token_ids": answer.token_ids,
            "token_texts": answer.token_texts,
            "text": answer.text,
            "stop_reason": answer.stop_reason,
            "prompt_tokens": answer.prompt_tokens,
            "max_tokens": job.request.max_tokens,
            "prompt_seconds": answer.prompt_seconds,
            "decode_seconds": answer.decode_seconds,
            "model_sha256": hashes[row.quantization],
            "llama_cpp_commit": shared.llama_cpp_commit,
            "slots": shared.policy.slots,
            "prompt_cache": shared.policy.prompt_cache,
        }

    write_table(make_table(map(record, rows), ANSWERS), path, ANSWERS)
