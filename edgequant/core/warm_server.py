"""Import some modules once, then fork a child for each Python program that is asked for.

    python -m edgequant.core.warm_server SOCKET_DESCRIPTOR MODULE...

A child has what was imported, and nothing else of this process: streams, environment, folder and
arguments are those of :mod:`edgequant.core.warm_client`. It is ended when its client is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

STREAMS = 3


@dataclass
class Child:
    """A program that runs, and who asked for it."""

    pid: int
    handle: int
    """Readable once it has ended."""
    client: socket.socket


def serve(listening: socket.socket) -> None:
    """Answer until we are ended."""
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listening:
                client, _ = listening.accept()
                if (child := _start(client, listening)) is None:
                    client.close()
                    continue
                selector.register(child.handle, selectors.EVENT_READ, child)
                selector.register(child.client, selectors.EVENT_READ, child)
            elif key.data.client.fileno() >= 0:
                _finish(key.data, selector)


def _finish(child: Child, selector: selectors.BaseSelector) -> None:
    """It has ended, or its client has: then it ends now."""
    for watched in (child.handle, child.client):
        selector.unregister(watched)
    with contextlib.suppress(ProcessLookupError):
        # Its own children, too; it leads a group, and nobody has waited for it.
        os.killpg(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    os.close(child.handle)
    with contextlib.suppress(OSError):
        child.client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    child.client.close()


def _start(client: socket.socket, listening: socket.socket) -> Child | None:
    streams: Sequence[int] = ()
    try:
        head, streams, _, _ = socket.recv_fds(client, 8, STREAMS)
        if len(head) != 8 or len(streams) != STREAMS:
            return None
        data = client.makefile("rb", buffering=0)
        length, content = int.from_bytes(head, "little"), b""
        while len(content) < length and (part := data.read(length - len(content))):
            content += part
        request = json.loads(content)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            listening.close()
            _become(request, streams, parent)
    except (OSError, ValueError):
        return None
    finally:
        for stream in streams:
            os.close(stream)
    # The child does the same; whoever comes first. It may have ended, and the client too.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    with contextlib.suppress(OSError):
        client.sendall(b"started\n")
    return Child(pid, os.pidfd_open(pid), client)


def _become(request: dict[str, Any], streams: Sequence[int], parent: int) -> NoReturn:
    """The child's whole life."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        for output in (sys.stdout, sys.stderr):
            output.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        status = _run(request["command"][1:])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(arguments: list[str]) -> int:
    """Run ``-m MODULE ARGUMENTS`` or ``SCRIPT ARGUMENTS`` as the interpreter does it."""
    path = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:0] = [place for place in path if place not in sys.path]
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).absolute().parent))
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Import, then serve."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
    # Where the kernel has no such handles it ends here, and programs run by themselves.
    os.close(os.pidfd_open(os.getpid()))
    listening = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        # What is missing is told by the program that needs it.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    serve(listening)


if __name__ == "__main__":
    main()
