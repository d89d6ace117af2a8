"""A command whose output is told from all else by marks, for programs that tell no exit status."""

from __future__ import annotations

import re
import secrets
import shlex
import time
from collections.abc import Callable

from edgequant.boards.links.link import LinkBrokenError, Running
from edgequant.boards.links.program import SILENCE_SECONDS

POLL_SECONDS = 0.5

# $1 is the command, $2 the mark's random part, so that a list of processes never has the mark.
# What comes out: MARK PID, a line end, all of stdout, MARK STATUS, a line end, all of stderr, MARK.
_FRAME = """\
mark="[edgequant:$2]"
exec 3>&1
echo "$mark $$"
errors=$(sh -c "$1" 2>&1 1>&3 3>&-)
echo "$mark $?"
echo "$errors$mark"
"""


def framed(command: str, token: str) -> str:
    """The command line that runs ``command`` between marks.

    Args:
        command: for ``sh -c``.
        token: of :func:`new_token`.
    """
    return f"exec sh -c {shlex.quote(_FRAME)} edgequant {shlex.quote(command)} {token}"


def new_token() -> str:
    """The random part of a mark."""
    return secrets.token_hex(8)


class Framed:
    """What a framed command says, as a :class:`~edgequant.boards.links.link.Running` command.

    A terminal in between that turns each line end into two characters shows in the first line; it
    is undone then. An output that ends before its last mark is a connection that broke.
    """

    def __init__(
        self,
        inner: Running,
        token: str,
        *,
        on_abandon: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Take over a started command.

        Args:
            inner: what the frame comes from.
            token: the one that the command was framed with.
            on_abandon: called with the frame's process id on the board, where the command is let
                go of before its end.
        """
        self._inner = inner
        self._mark = f"[edgequant:{token}]".encode()
        self._on_abandon = on_abandon
        self._raw = b""
        self._pid: int | None = None
        self._terminal = False
        self._status: int | None = None
        self._stderr = ""
        self._ended = False

    def read(self, seconds: float) -> bytes | None:
        """See :meth:`edgequant.boards.links.link.Running.read`."""
        if self._status is not None:
            return b""
        chunk = self._inner.read(seconds)
        if chunk is None:
            return None
        if not chunk:
            raise LinkBrokenError(self._last_words())
        self._raw += chunk
        if self._pid is None and not self._begin():
            return None
        return self._payload() or (None if self._status is None else b"")

    def _begin(self) -> bool:
        # What a program says of itself before, such as that it starts a server, is passed over.
        found = re.search(re.escape(self._mark) + rb" (\d+)(\r*)\n", self._raw)
        if found is None:
            return False
        self._pid = int(found[1])
        self._terminal = bool(found[2])
        self._raw = self._raw[found.end() :]
        return True

    def _payload(self) -> bytes:
        """What of stdout has come and is told from a mark's beginning."""
        found = re.search(re.escape(self._mark) + rb" (\d+)\r*\n", self._raw)
        if found is not None:
            self._status = int(found[1])
            stdout, self._raw = self._raw[: found.start()], self._raw[found.end() :]
        else:
            cut = len(self._raw) - self._held_back()
            stdout, self._raw = self._raw[:cut], self._raw[cut:]
        return stdout.replace(b"\r\n", b"\n") if self._terminal else stdout

    def _held_back(self) -> int:
        """How many of the last bytes may be a mark's beginning, or half a line end."""
        at = self._raw.rfind(self._mark)
        if at >= 0:
            return len(self._raw) - at
        for length in range(min(len(self._mark) - 1, len(self._raw)), 0, -1):
            if self._raw.endswith(self._mark[:length]):
                return length
        return 1 if self._terminal and self._raw.endswith(b"\r") else 0

    def write(self, data: bytes) -> None:
        """See :meth:`edgequant.boards.links.link.Running.write`."""
        self._inner.write(data)

    def close_stdin(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close_stdin`."""
        self._inner.close_stdin()

    def status(self) -> int:
        """See :meth:`edgequant.boards.links.link.Running.status`."""
        deadline = time.monotonic() + SILENCE_SECONDS
        while self._status is None or self._mark not in self._raw:
            if self._status is None:
                self.read(POLL_SECONDS)
            else:
                self._read_stderr()
            if time.monotonic() > deadline:
                raise LinkBrokenError(f"it did not end within {SILENCE_SECONDS:.0f} s")
        self._ended = True
        stderr = self._raw.partition(self._mark)[0].decode(errors="replace")
        self._stderr = stderr.replace("\r\n", "\n") if self._terminal else stderr
        return self._status

    def _read_stderr(self) -> None:
        chunk = self._inner.read(POLL_SECONDS)
        if chunk == b"":
            raise LinkBrokenError(self._last_words())
        self._raw += chunk or b""

    def stderr(self) -> str:
        """See :meth:`edgequant.boards.links.link.Running.stderr`."""
        return f"{self._stderr}\n" if self._stderr else ""

    def close(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close`."""
        if not self._ended and self._pid is not None:
            self._on_abandon(self._pid)
        self._inner.close()

    def _last_words(self) -> str:
        said = f"{self._raw.decode(errors='replace')}\n{self._inner.stderr()}".strip()
        return said.splitlines()[-1] if said else "it ended without a word"
