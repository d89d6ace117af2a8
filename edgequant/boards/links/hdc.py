"""A board behind OpenHarmony's device connector: ``hdc -t TARGET shell`` and ``hdc file send``.

Its shell passes no stdin, tells no exit status, and mixes stderr into stdout. Written from hdc's
documentation and source, and tested against a program that plays it: no device was there.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgequant.boards.links.frame import Framed, framed, new_token
from edgequant.boards.links.link import LinkBrokenError, LinkSection, Running
from edgequant.boards.links.program import Program, tool, words_of
from edgequant.core.errors import BoardUnreachableError
from edgequant.core.fields import RemotePath, TimeoutSeconds, Word
from edgequant.core.process import dying_with_us

if TYPE_CHECKING:
    from edgequant.boards.profile import BoardProfile

INSTALL = "hdc comes with OpenHarmony's SDK, in its folder toolchains: put that on the PATH"
KILL_SECONDS = 10.0
SEND_SECONDS = 600.0

# $1 is the framed command. Its stdin stays open for as long as this shell lives: the feeder looks
# for it each second, and a command whose stdin ends is ended by its leash.
_FED = """\
feeder() { while kill -0 $$; do sleep 1; done; }
feeder 3>&- 2>/dev/null | { sh -c "$1"; kill $$; }
"""


class HdcSection(LinkSection):
    """A board that OpenHarmony's device connector reaches."""

    target: Word
    """As ``hdc list targets`` lists it: a serial number, or ADDRESS:PORT after ``hdc tconn``."""
    temporary_folder: RemotePath = "/data/local/tmp"
    """On the board: pieces of files lie there for a moment."""
    connect_timeout_seconds: TimeoutSeconds = 15.0

    def identity(self) -> dict[str, object]:
        """The target alone."""
        return {"target": self.target}


class HdcLink:
    """A :class:`~edgequant.boards.links.link.Link` over ``hdc``."""

    section: ClassVar[type[LinkSection]] = HdcSection
    # A piece of a file: what a cut connection costs at most.
    stdin_bytes: ClassVar[int | None] = 32 << 20

    def __init__(self, profile: BoardProfile) -> None:
        section = profile.link_section
        assert isinstance(section, HdcSection)
        self._section = section
        self._subject = f"board {profile.name}"

    @staticmethod
    def default_folder(board: str) -> str:
        """Where hdc's shell may write."""
        return "/data/local/tmp/edgequant"

    def connect(self) -> None:
        """See :meth:`edgequant.boards.links.link.Link.connect`."""
        said = words_of(
            [tool("hdc", INSTALL), "list", "targets"], self._section.connect_timeout_seconds
        )
        if self._section.target not in said.split():
            raise BoardUnreachableError(
                f"hdc does not list {self._section.target} ({said or 'no answer'})",
                subject=self._subject,
                next_step="compare hdc.target in the profile with what `hdc list targets` prints",
            )

    def start(self, command: str, *, data: bool = False) -> Running:
        """See :meth:`edgequant.boards.links.link.Link.start`."""
        if data:
            return _Spooled(self, command)
        token = new_token()
        fed = f"exec sh -c {shlex.quote(_FED)} edgequant {shlex.quote(framed(command, token))}"
        return self._start(fed, token)

    def start_with(self, command: str, stdin: Path) -> Framed:
        """Start a command whose stdin is a file of this machine.

        Raises:
            LinkBrokenError: the file did not arrive.
        """
        token = new_token()
        folder = self._section.temporary_folder.rstrip("/")
        there = shlex.quote(f"{folder}/edgequant-{token}")
        argv = [*self._hdc(), "file", "send", str(stdin), f"{folder}/edgequant-{token}"]
        said = words_of(argv, SEND_SECONDS)
        if "FileTransfer finish" not in said:
            raise LinkBrokenError(said.splitlines()[-1] if said else "hdc file send said nothing")
        fed = f"({command}) <{there}; status=$?; rm -f {there}; exit $status"
        return self._start(framed(fed, token), token)

    def _start(self, command: str, token: str) -> Framed:
        program = Program(dying_with_us([*self._hdc(), "shell", command]))
        return Framed(program, token, on_abandon=self._kill)

    def _kill(self, pid: int) -> None:
        """End a frame on the board, and with it what keeps its command's stdin open."""
        words_of([*self._hdc(), "shell", f"kill {pid}"], KILL_SECONDS)

    def _hdc(self) -> list[str]:
        return [tool("hdc", INSTALL), "-t", self._section.target]

    def close(self) -> None:
        """The connection is hdc's server's to hold."""


class _Spooled:
    """A command that starts when all of its stdin is there, and was sent as a file."""

    def __init__(self, link: HdcLink, command: str) -> None:
        self._link = link
        self._command = command
        self._file = tempfile.NamedTemporaryFile(prefix="edgequant-hdc-")  # noqa: SIM115
        self._running: Framed | None = None

    def _started(self) -> Framed:
        if self._running is None:
            self.close_stdin()
        assert self._running is not None
        return self._running

    def write(self, data: bytes) -> None:
        """See :meth:`edgequant.boards.links.link.Running.write`."""
        self._file.write(data)

    def close_stdin(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close_stdin`."""
        self._file.flush()
        self._running = self._link.start_with(self._command, Path(self._file.name))

    def read(self, seconds: float) -> bytes | None:
        """See :meth:`edgequant.boards.links.link.Running.read`."""
        return self._started().read(seconds)

    def status(self) -> int:
        """See :meth:`edgequant.boards.links.link.Running.status`."""
        return self._started().status()

    def stderr(self) -> str:
        """See :meth:`edgequant.boards.links.link.Running.stderr`."""
        return self._started().stderr()

    def close(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close`."""
        self._file.close()
        if self._running is not None:
            self._running.close()
