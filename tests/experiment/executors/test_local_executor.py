"""The walk of a graph on one machine: order, places side by side, failures, Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from edgequant.core.errors import BoardUnreachableError
from edgequant.experiment.executors.local import LocalExecutor
from edgequant.experiment.graph import Graph, Outcome, Results, Stage

WAIT_SECONDS = 30.0


def stage(
    name: str, work: Callable[[], object], *needs: Stage[Any], place: str = "host"
) -> Stage[Any]:
    def run(results: Results) -> Outcome[Any]:
        return Outcome(work(), key=f"key of {name}")

    return Stage(name, name, run, needs, place)


def wait(event: threading.Event) -> None:
    assert event.wait(WAIT_SECONDS), "what should have happened at the same time did not"


def test_values_flow_along_the_needs_and_runs_come_in_the_graphs_order() -> None:
    one = Stage("one", "one", lambda results: Outcome(1))
    two = Stage("two", "two", lambda results: Outcome(results[one] + 1), (one,), "board a")
    four = Stage("four", "four", lambda results: Outcome(results[two] * 2, reused=True), (two,))
    runs = LocalExecutor().run(Graph([one, two, four]))
    assert [(run.stage.name, run.outcome.value) for run in runs] == [
        ("one", 1),
        ("two", 2),
        ("four", 4),
    ]
    assert [run.outcome.reused for run in runs] == [False, False, True]


def test_a_board_and_the_host_work_at_the_same_time() -> None:
    on_board, on_host = threading.Event(), threading.Event()

    def board_work() -> None:
        on_board.set()
        wait(on_host)

    def host_work() -> None:
        wait(on_board)
        on_host.set()

    LocalExecutor().run(
        Graph([stage("measure", board_work, place="board a"), stage("answers", host_work)])
    )


def test_stages_of_one_board_run_one_after_another_in_one_thread() -> None:
    threads: list[int] = []
    running = threading.Lock()

    def work() -> None:
        assert running.acquire(blocking=False), "two stages at once on one board"
        threads.append(threading.get_ident())
        time.sleep(0.05)
        running.release()

    names = ("a", "b", "c")
    LocalExecutor().run(Graph([stage(name, work, place="board x") for name in names]))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_the_hosts_stages_run_in_the_callers_thread() -> None:
    found = LocalExecutor().run(Graph([stage("here", threading.get_ident)]))
    assert found[0].outcome.value == threading.get_ident()


def test_a_failing_host_stage_ends_the_boards_and_lets_them_clean_up() -> None:
    started, cleaned = threading.Event(), threading.Event()

    def board_work() -> None:
        started.set()
        try:
            while True:
                time.sleep(0.01)
        finally:
            cleaned.set()

    def host_work() -> None:
        wait(started)
        raise BoardUnreachableError("no", subject="x")

    with pytest.raises(BoardUnreachableError):
        LocalExecutor().run(
            Graph([stage("measure", board_work, place="board a"), stage("answers", host_work)])
        )
    assert cleaned.is_set()


def test_a_failing_board_ends_what_the_host_waits_for() -> None:
    started, cleaned = threading.Event(), threading.Event()

    def board_work() -> None:
        wait(started)
        raise BoardUnreachableError("it went away", subject="board a")

    def host_work() -> None:
        started.set()
        try:
            time.sleep(WAIT_SECONDS)
            raise AssertionError("the host's stage was not ended")
        finally:
            cleaned.set()

    with pytest.raises(BoardUnreachableError, match="it went away"):
        LocalExecutor().run(
            Graph([stage("measure", board_work, place="board a"), stage("answers", host_work)])
        )
    assert cleaned.is_set()


def test_ctrl_c_reaches_the_host_and_the_boards() -> None:
    started, cleaned = threading.Event(), threading.Event()

    def board_work() -> None:
        started.set()
        try:
            while True:
                time.sleep(0.01)
        finally:
            cleaned.set()

    def host_work() -> None:
        wait(started)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(WAIT_SECONDS)

    with pytest.raises(KeyboardInterrupt):
        LocalExecutor().run(
            Graph([stage("measure", board_work, place="board a"), stage("answers", host_work)])
        )
    assert cleaned.is_set()


def test_what_needs_a_failed_stage_never_runs() -> None:
    ran: list[str] = []

    def fail() -> None:
        raise BoardUnreachableError("no", subject="x")

    first = stage("first", fail, place="board a")
    then = stage("then", lambda: ran.append("then"), first)
    with pytest.raises(BoardUnreachableError):
        LocalExecutor().run(Graph([first, then]))
    assert ran == []
