"""Grade configurations on all cores, in processes that take one after another.

Processes of our own and not multiprocessing's, which would run a caller's script again.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from edgequant.core.process import dying_with_us
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.grading import Gold, Ungraded, grade

SHARED_ANSWERS = 4000
"""With fewer, a process costs more than it saves."""


def grade_all(
    members: Sequence[Ungraded], gold: Gold, graders: Collection[str] | None
) -> list[AnswerGroup]:
    """Grade every configuration, in order; raises as :func:`edgequant.matching.grading.grade`."""
    processes = min(len(os.sched_getaffinity(0)), len(members))
    if processes < 2 or sum(len(member.frame) for member in members) < SHARED_ANSWERS:
        # Group by group: as Python objects the tokens of all of them would fill the memory.
        return [grade(member, gold, graders) for member in members]
    with ThreadPoolExecutor(processes) as pool:
        waiting, lock = iter(enumerate(members)), threading.Lock()
        shares = [pool.submit(_share, waiting, lock, gold, graders) for _ in range(processes)]
        graded = dict(pair for share in shares for pair in share.result())
    return [graded[place] for place in range(len(members))]


def _share(
    waiting: Iterator[tuple[int, Ungraded]],
    lock: threading.Lock,
    gold: Gold,
    graders: Collection[str] | None,
) -> list[tuple[int, AnswerGroup]]:
    """What one process grades of those that wait."""
    graded = []
    with subprocess.Popen(
        dying_with_us([sys.executable, "-m", __name__]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        with contextlib.suppress(OSError):
            _send(process, (gold, graders))
        while (taken := _take(waiting, lock)) is not None:
            place, member = taken
            try:
                group = cast(AnswerGroup, _exchange(process, member))
            except (OSError, EOFError, pickle.UnpicklingError):
                # What is wrong with the answers is told by the error itself, which is raised here.
                group = grade(member, gold, graders)
            graded.append((place, group))
        process.kill()
    return graded


def _take(
    waiting: Iterator[tuple[int, Ungraded]], lock: threading.Lock
) -> tuple[int, Ungraded] | None:
    with lock:
        return next(waiting, None)


def _exchange(process: subprocess.Popen[bytes], member: Ungraded) -> Any:
    assert process.stdout is not None
    _send(process, member)
    return pickle.load(process.stdout)


def _send(process: subprocess.Popen[bytes], value: object) -> None:
    assert process.stdin is not None
    pickle.dump(value, process.stdin)
    process.stdin.flush()


def main() -> None:
    """Grade what comes on stdin behind the right answers, until it ends."""
    gold, graders = pickle.load(sys.stdin.buffer)
    while True:
        try:
            member = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(grade(member, gold, graders), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
