"""Python programs that import much, run by one process that has imported it.

Importing torch and transformers takes several seconds, and several programs of a conversion need
them, each a process of its own, so that none can harm another. They are forked from one that has
imported both.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgequant.core import warm_client
from edgequant.core.process import dying_with_us, stop_group

WAITING = 16


class WarmPython:
    """Where programs are run for as long as it is open; it starts with the first of them.

    Args:
        modules: what is imported.
        environment: that the modules are imported in, beside ours; a program has its own.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._modules = tuple(modules)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def start(self) -> Path:
        """Begin to import, unless that has begun; returns the socket."""
        with self._lock:
            if self._place is None:
                self._place = tempfile.TemporaryDirectory(prefix="edgequant-")
                self._process = self._serve(Path(self._place.name) / "socket")
            return Path(self._place.name) / "socket"

    def _serve(self, place: Path) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(place))
            # A client that comes before the imports are done waits.
            listening.listen(WAITING)
            number = str(listening.fileno())
            module = f"{__package__}.warm_server"
            return subprocess.Popen(
                dying_with_us([sys.executable, "-m", module, number, *self._modules]),
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )

    def command(self, command: Sequence[object]) -> list[str]:
        """A command line that does what one of this interpreter's does.

        Args:
            command: :data:`sys.executable`, then ``-m MODULE`` or a script, then arguments.
        """
        words = [str(word) for word in command]
        return [sys.executable, "-I", "-S", str(warm_client.__file__), str(self.start()), *words]

    def close(self) -> None:
        """End it, and whatever it runs."""
        with self._lock:
            if self._process is not None:
                stop_group(self._process)
                self._process = None
            if self._place is not None:
                self._place.cleanup()
                self._place = None


_local = threading.local()
"""What is open in this thread: a server ends with the thread that started it."""


@contextlib.contextmanager
def warm_python(modules: Sequence[str], environment: Mapping[str, str]) -> Iterator[WarmPython]:
    """Keep one open for the time of the block; one that is open already serves for both."""
    if (there := getattr(_local, "open", None)) is not None:
        yield there
        return
    _local.open = warm = WarmPython(modules, environment)
    try:
        yield warm
    finally:
        _local.open = None
        warm.close()


def warmed(command: Sequence[object]) -> list[str]:
    """A command line of this interpreter's, or what does the same where one is open."""
    there: WarmPython | None = getattr(_local, "open", None)
    return [str(word) for word in command] if there is None else there.command(command)
