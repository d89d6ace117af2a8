"""Small shell programs that run on a board: only what busybox has is used."""

from __future__ import annotations

import shlex

BLOCK_BYTES = 1 << 16

# $1 is the command. It runs in a session of its own, so that all it starts can be ended at once.
# Our end of the connection is its lifeline: when our side of stdin closes, because we are done,
# interrupted or cut off, the watcher ends the command.
_LEASH = """\
run=
if command -v setsid >/dev/null 2>&1; then run=setsid; fi
exec 3<&0
$run sh -c "$1" </dev/null 3<&- &
child=$!
(
  while read -r line <&3; do :; done
  kill -TERM -$child || kill -TERM $child
  sleep 2
  kill -KILL -$child || kill -KILL $child
) >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait $child
status=$?
kill $watcher 2>/dev/null
exit $status
"""


def leashed(command: str) -> str:
    """The command line that runs ``command`` for as long as the connection's stdin stays open."""
    return f"exec sh -c {shlex.quote(_LEASH)} edgequant {shlex.quote(command)}"


def receive(remote_partial: str, offset_bytes: int) -> str:
    """The command line that writes stdin into a partial file from a block's beginning on.

    Two senders of the same file do not hurt each other: both write the same bytes at the same
    place, where appending would mix them.

    Raises:
        ValueError: the offset is not at a block's beginning.
    """
    if offset_bytes % BLOCK_BYTES:
        raise ValueError(f"{offset_bytes} is not a multiple of {BLOCK_BYTES}")
    return (
        f"exec dd of={shlex.quote(remote_partial)} bs={BLOCK_BYTES} "
        f"seek={offset_bytes // BLOCK_BYTES} conv=notrunc"
    )


def file_size(remote: str) -> str:
    """The command that prints a file's size in bytes, or -1 where there is none.

    Another sender may rename the file at any moment, also between the look and the listing.
    """
    # `wc -c` of busybox reads the whole file, and not every board has `stat`.
    path = shlex.quote(remote)
    listing = f"set --; if [ -f {path} ]; then set -- $(ls -ln {path} 2>/dev/null); fi"
    return f"{listing}; echo ${{5:--1}}"


def hash_and_rename(remote_partial: str, remote: str, sha256: str) -> str:
    """The command that renames a partial file whose hash is right, and prints the hash it has.

    A partial that is gone while the file is there was renamed by another sender: then the file's
    own hash is printed.
    """
    partial, final = shlex.quote(remote_partial), shlex.quote(remote)
    return (
        f"if [ -f {partial} ]; then h=$(sha256sum < {partial}) && h=${{h%% *}} && "
        f'if [ "$h" = {sha256} ]; then sync; mv -f {partial} {final}; fi; '
        f"else h=$(sha256sum < {final}); h=${{h%% *}}; fi; echo $h"
    )


def parse_size(printed: str) -> int:
    """The number that :func:`file_size` printed.

    Raises:
        ValueError: something else was printed.
    """
    return int(printed.strip())
