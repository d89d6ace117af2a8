"""Hand what is to be answered to mirrors, and take back what comes: failures end no run at once.

An answer that its mirror gives up on is tried once more, at the end and by whichever mirror is
free then, and after that it is failed: an answer like any other, without a token. A mirror that
is gone is left out, and what it had in hand is done by the others.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from edgequant.answers.cache import Answer, make_answer
from edgequant.answers.mirrors.mirror import Mirror
from edgequant.answers.prompts import Message
from edgequant.core.errors import EdgequantError, MirrorError, MirrorGoneError
from edgequant.core.progress import say

CHANCES = 2
"""How often an answer is asked of a mirror, which asks its server several times over itself."""
DEATHS = 3
"""An answer in whose midst so many mirrors went is handed to no other."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What is gone on from where an answer is closed.

    Attributes:
        prompt: rendered.
        token_ids: of the answer to it, as far as it is kept.
        text: put behind them.
    """

    prompt: str
    token_ids: Sequence[int]
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer to be had.

    Attributes:
        about: what it is the answer to, in words for messages.
        messages: the turns that ask it; empty where the prompt was made of none.
        max_tokens: where it is stopped.
        prompt: what the mirror continues, as text, or behind an answer; None: what the model's
            chat template makes of the turns.
        stop: texts that end it.
    """

    about: str
    messages: Sequence[Message]
    max_tokens: int
    prompt: str | Continuation | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Had:
    """What came of one that was wanted.

    Attributes:
        index: which of them it was.
        prompt: what was continued; None: the mirror gave up before it was known.
        answer: its ``stop_reason`` says whether it failed.
        text_ids: the tokens of a continuation's text.
    """

    index: int
    prompt: str | Continuation | None
    answer: Answer
    text_ids: Sequence[int] = ()


def failed_answer() -> Answer:
    """What stands for an answer that could not be had; it is never kept for later runs."""
    return Answer(
        token_ids=[],
        token_texts=[],
        text="",
        stop_reason="failed",
        prompt_tokens=0,
        prompt_seconds=0.0,
        decode_seconds=0.0,
    )


def work(mirrors: Sequence[Mirror], wanted: Sequence[Wanted]) -> Generator[Had, None, None]:
    """Have all answers, each mirror one at a time, and yield them as they come.

    Raises:
        MirrorGoneError: no mirror is left.
        EdgequantError: of a fault that is the user's, so that no other try would help.
    """
    loop = _Loop(mirrors, wanted)
    try:
        yield from loop.results()
    except BaseException:
        # On Ctrl-C or a failure the others must not be waited for: their servers end first.
        loop.jobs.close()
        for mirror in mirrors:
            mirror.stop()
        raise
    finally:
        loop.jobs.close()
        loop.join()


@dataclass(slots=True)
class _Job:
    index: int
    wanted: Wanted
    failures: int = 0
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class _Gone:
    error: MirrorGoneError
    job: _Job


class _Jobs:
    """What is not yet had. Who finds nothing waits while another may still give something back."""

    def __init__(self, jobs: Sequence[_Job]) -> None:
        self._waiting = deque(jobs)
        self._open = len(jobs)
        self._changed = threading.Condition()

    def take(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open)
            return self._waiting.popleft() if self._open else None

    def give_back(self, job: _Job) -> None:
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def finish(self) -> None:
        with self._changed:
            self._open = max(0, self._open - 1)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._open = 0
            self._changed.notify_all()


class _Loop:
    def __init__(self, mirrors: Sequence[Mirror], wanted: Sequence[Wanted]) -> None:
        self.jobs = _Jobs([_Job(index, one) for index, one in enumerate(wanted)])
        self._left = len(wanted)
        self._finished: queue.SimpleQueue[Had | _Gone | BaseException] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(m,), daemon=True) for m in mirrors
        ]
        for thread in self._threads:
            thread.start()

    def results(self) -> Generator[Had, None, None]:
        serving = len(self._threads)
        told: set[str] = set()
        while self._left:
            came = self._finished.get()
            if isinstance(came, Had):
                self._left -= 1
                yield came
            elif isinstance(came, _Gone) and serving > 1:
                serving -= 1
                # Several mirrors can stand for one server, which is gone but once.
                if (cause := f"{came.error.subject}: {came.error.cause}") not in told:
                    told.add(cause)
                    say(f"{cause}; the others do its work")
            else:
                raise _with_question(came.error, came.job) if isinstance(came, _Gone) else came

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _serve(self, mirror: Mirror) -> None:
        while (job := self.jobs.take()) is not None:
            try:
                had = _ask(mirror, job)
            except MirrorGoneError as error:
                job.deaths += 1
                if job.deaths < DEATHS:
                    self.jobs.give_back(job)
                else:
                    self._finish(Had(job.index, job.wanted.prompt, failed_answer()))
                self._finished.put(_Gone(error, job))
                return
            except EdgequantError as error:
                if not isinstance(error, MirrorError) or error.fault == "user":
                    self._finished.put(_with_question(error, job))
                    return
                job.failures += 1
                if job.failures < CHANCES:
                    self.jobs.give_back(job)
                    continue
                say(f"No answer to {job.wanted.about}: {error.cause}")
                had = Had(job.index, job.wanted.prompt, failed_answer())
            except BaseException as error:
                self._finished.put(error)
                return
            self._finish(had)

    def _finish(self, had: Had) -> None:
        self._finished.put(had)
        self.jobs.finish()


def _ask(mirror: Mirror, job: _Job) -> Had:
    wanted = job.wanted
    prompt = wanted.prompt
    if isinstance(prompt, Continuation):
        # By ids, so that what is kept is what was said; a model's BOS stands before a prompt only.
        text_ids = mirror.tokenize(prompt.text, add_special=False)
        ids = [*mirror.tokenize(prompt.prompt), *prompt.token_ids, *text_ids]
        completion = mirror.complete(ids, wanted.max_tokens, stop=wanted.stop)
        return Had(job.index, prompt, make_answer(completion, wanted.stop), text_ids)
    if prompt is None:
        prompt = mirror.apply_template(wanted.messages)
    completion = mirror.complete(
        prompt, wanted.max_tokens, stop=wanted.stop, messages=wanted.messages
    )
    return Had(job.index, prompt, make_answer(completion, wanted.stop))


def _with_question(error: EdgequantError, job: _Job) -> EdgequantError:
    return type(error)(
        f"{error.cause} ({job.wanted.about})", subject=error.subject, next_step=error.next_step
    )
