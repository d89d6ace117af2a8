"""The grader ``math-verify``: the last box as the package math-verify understands it."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from edgequant.core.errors import ToolMissingError
from edgequant.core.process import dying_with_us
from edgequant.matching.graders.boxes import has_box, last_boxes
from edgequant.matching.graders.grader import Reading, changes_only
from edgequant.matching.graders.numbers import MAX_CONTENT_CHARACTERS, holds_number

START_SECONDS = 120.0
"""Importing sympy takes long on a small or a busy machine."""
VERDICT_SECONDS = 10.0
"""A content that takes longer is not the expected answer."""
_PLAIN = re.compile(r"-?[1-9]\d*|0", re.ASCII)


class MathVerify:
    """The content of the last closed box; equal is what math-verify holds equal, gold first."""

    name = "math-verify"

    def readings(self, text: str, wanted: str | None = None) -> list[Reading]:
        """As :meth:`.grader.Grader.readings`; a value is a box's content as it stands."""
        return changes_only(
            Reading(box.end, _content(box.content)) for box in last_boxes(text, holds_number)
        )

    def agrees(self, value: str, expected: str) -> bool:
        """The package's verdict; each pair is asked for once.

        Raises:
            ToolMissingError: the package is not installed.
        """
        if _PLAIN.fullmatch(value) and _PLAIN.fullmatch(expected):
            return value == expected
        return _verdict(value, expected)

    def basis(self, text: str) -> str:
        """As :meth:`.grader.Grader.basis`."""
        if last_boxes(text, holds_number):
            return "the last box"
        return "no closed box with a number" if has_box(text) else "no closed box"


def is_installed() -> bool:
    """The package is there."""
    return importlib.util.find_spec("math_verify") is not None


def _content(content: str) -> str | None:
    return content.strip() if len(content) <= MAX_CONTENT_CHARACTERS else None


@functools.lru_cache(maxsize=65_536)
def _verdict(content: str, expected: str) -> bool:
    if not is_installed():
        raise ToolMissingError(
            "the grader math-verify needs the package math-verify",
            next_step="pip install 'edgequant[grading]'",
        )
    return _WORKER.ask(content, expected)


@dataclass
class _Worker:
    """A process that verifies.

    The package stops long calculations by signals, which only a main thread can take, and which a
    single long operation of big numbers does not notice. A process has a main thread and can be
    killed.
    """

    process: subprocess.Popen[bytes] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, content: str, expected: str) -> bool:
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self._start()
            line = self._exchange(json.dumps([expected, content]), VERDICT_SECONDS)
            if line is None:
                self._stop()
            return line == "true"

    def _start(self) -> None:
        self._stop()
        module = "edgequant.matching.graders.math_verify_worker"
        self.process = subprocess.Popen(
            dying_with_us([sys.executable, "-m", module]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        # Its first verdict comes when everything is imported. A late one must not be taken for the
        # answer to the next question.
        if self._exchange(json.dumps(["1", "1"]), START_SECONDS) is None:
            self._stop()

    def _exchange(self, question: str, seconds: float) -> str | None:
        """Ask and wait for a line; None: it did not come."""
        process = self.process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        answer = b""
        deadline = time.monotonic() + seconds
        try:
            process.stdin.write(question.encode() + b"\n")
            while not answer.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                    return None
                part = os.read(process.stdout.fileno(), 64)
                if not part:
                    return None
                answer += part
        except OSError:
            return None
        return answer.decode("ascii", "replace").strip()

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
            self.process = None


_WORKER = _Worker()
