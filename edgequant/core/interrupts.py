"""Ctrl-C ends a wait in the kernel, whatever libraries did to signals."""

from __future__ import annotations

import signal


def keep_interruptible() -> None:
    """Let SIGINT cut a blocking call short; called before every wait that may be long.

    Importing polars installs a handler under which the kernel takes up a blocking read again as if
    nothing had happened, so that Ctrl-C would be noticed only when the read ends by itself.
    """
    signal.siginterrupt(signal.SIGINT, True)
