"""Have a Python program run by a process that has imported what it needs; end as it ends.

    python -I -S warm_client.py SOCKET PYTHON ARGUMENTS...

Standard streams, environment and working folder are handed over. Where nobody answers, this process
becomes the program itself."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
from pathlib import Path


def ask(place: str, command: list[str]) -> int | None:
    """The program's status as :mod:`subprocess` gives it; None where nobody has started it."""
    request = json.dumps(
        {"command": command, "environment": dict(os.environ), "folder": str(Path.cwd())}
    ).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(place)
            streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (0, 1, 2)))
            connection.sendmsg([len(request).to_bytes(8, "little")], [streams])
            connection.sendall(request)
            answer = connection.makefile("r", encoding="ascii")
            # From the first line on the program runs: nobody may start it a second time.
            if answer.readline() != "started\n":
                return None
            return int(answer.readline() or -signal.SIGKILL)
        except OSError:
            return None


def main() -> None:
    """Run, and end in the same way."""
    place, command = sys.argv[1], sys.argv[2:]
    status = ask(place, command)
    if status is None:
        os.execv(command[0], command)
    if status < 0:
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
