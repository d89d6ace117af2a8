"""Walk a graph on this machine: host and boards at the same time, each one stage after another.

The host's stages run in the calling thread, so that Ctrl-C reaches what they wait for; each other
place has a thread of its own, which lives as long as the walk: programs that it starts are ended
by the kernel when it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgequant.core.progress import say
from edgequant.experiment.graph import HOST, Graph, Results, Stage, StageRun

POLL_SECONDS = 0.2
STOP_SECONDS = 60.0
"""How long a board may take to let go: a virtual one is shut down."""


@dataclass(frozen=True)
class _Ended:
    """What a place hands back."""

    stage: Stage[Any]
    run: StageRun | None = None
    error: BaseException | None = None


class _Cancelled(BaseException):
    """Raised inside a place's thread when the walk is over before it is done."""


class LocalExecutor:
    """Runs every place's stages here."""

    def run(self, graph: Graph) -> list[StageRun]:
        """See :meth:`edgequant.experiment.graph.Executor.run`."""
        return _Walk(graph).run()


class _Walk:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._runs: dict[str, StageRun] = {}
        self._started: set[str] = set()
        self._ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        self._caller = threading.get_ident()
        self._failure_lock = threading.Lock()
        self._failure: BaseException | None = None
        """Why a place's stage failed: it ends what the caller's thread does."""
        self._over = False
        self._places = {
            place: _Place(place, self._run_one, self._take)
            for place in dict.fromkeys(stage.place for stage in graph)
            if place != HOST
        }

    def run(self) -> list[StageRun]:
        try:
            while len(self._runs) < len(self._graph):
                self._collect(wait=False)
                self._start_places()
                host = next((stage for stage in self._ready() if stage.place == HOST), None)
                if host is None:
                    self._collect(wait=True)
                else:
                    self._started.add(host.name)
                    self._runs[host.name] = self._run_one(host)
        except BaseException as error:
            self._end(cancel=True)
            if isinstance(error, KeyboardInterrupt) and self._failure is not None:
                # It was not the user who interrupted: see _take.
                raise self._failure from None
            raise
        self._end(cancel=False)
        return [self._runs[stage.name] for stage in self._graph]

    def _ready(self) -> list[Stage[Any]]:
        return [
            stage
            for stage in self._graph
            if stage.name not in self._started
            and all(needed.name in self._runs for needed in stage.needs)
        ]

    def _start_places(self) -> None:
        for stage in self._ready():
            if stage.place != HOST and not self._places[stage.place].busy:
                self._started.add(stage.name)
                self._places[stage.place].start(stage)

    def _run_one(self, stage: Stage[Any]) -> StageRun:
        number = self._graph.stages.index(stage) + 1
        say(f"[{number}/{len(self._graph)}] {stage.title}")
        outcomes = {needed.name: self._runs[needed.name].outcome for needed in stage.needs}
        start = time.monotonic()
        outcome = stage.run(Results(stage, outcomes))
        return StageRun(stage, outcome, round(time.monotonic() - start, 2))

    def _take(self, ended: _Ended) -> None:
        """Called in a place's thread when its stage has ended."""
        self._ended.put(ended)
        with self._failure_lock:
            if ended.error is None or self._over:
                return
            self._failure = ended.error
            if self._caller == threading.main_thread().ident:
                # The user is told now, not when the host's stage has come to its end.
                signal.pthread_kill(self._caller, signal.SIGINT)

    def _collect(self, *, wait: bool) -> None:
        """Take in what places have finished."""
        with contextlib.suppress(queue.Empty):
            while True:
                ended = self._ended.get(timeout=POLL_SECONDS) if wait else self._ended.get_nowait()
                if ended.run is None:
                    assert ended.error is not None
                    raise ended.error
                self._runs[ended.stage.name] = ended.run
                self._places[ended.stage.place].busy = False
                wait = False

    def _end(self, *, cancel: bool) -> None:
        with self._failure_lock:
            self._over = True
        for place in self._places.values():
            if cancel:
                place.cancel()
            place.end()


class _Place:
    """A board's thread: takes one stage at a time."""

    def __init__(
        self,
        name: str,
        run_one: Callable[[Stage[Any]], StageRun],
        take: Callable[[_Ended], None],
    ) -> None:
        self.busy = False
        self._run_one = run_one
        self._take = take
        self._stages: queue.SimpleQueue[Stage[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self, stage: Stage[Any]) -> None:
        """Hand over the next stage."""
        if not self._thread.is_alive():
            self._thread.start()
        self.busy = True
        self._stages.put(stage)

    def cancel(self) -> None:
        """End what runs: its waits are short, and what it holds is let go on the way out."""
        if self.busy and self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(_Cancelled)
            )

    def end(self) -> None:
        """Let the thread come to its end."""
        if self._thread.is_alive():
            self._stages.put(None)
            self._thread.join(STOP_SECONDS)

    def _serve(self) -> None:
        try:
            while (stage := self._stages.get()) is not None:
                try:
                    run = self._run_one(stage)
                except BaseException as error:
                    self._take(_Ended(stage, error=error))
                    return
                self._take(_Ended(stage, run=run))
        except _Cancelled:
            return
