"""A connected board for as long as it is needed: what it needs is started, and ended again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgequant.boards.board import Board, open_board
from edgequant.boards.profile import BoardProfile, Clock
from edgequant.core.errors import VirtualBoardError


def clock_of(profile: BoardProfile, asked: Clock | None) -> Clock:
    """The clock that a session has: what is asked of a virtual board, by default "instructions".

    Any other board has but its own.
    """
    return (asked or "instructions") if profile.kind == "virtual" else "host"


@contextlib.contextmanager
def session(profile: BoardProfile, clock: Clock | None = None) -> Iterator[Board]:
    """A connected board for the block; a virtual one that is down is started, and stopped after it.

    Args:
        profile: the board.
        clock: what a virtual board's time is to be, see :func:`clock_of`.

    Raises:
        BoardUnreachableError: it does not answer.
        HostKeyError: its host key is unknown or has changed.
        AuthenticationError: it refuses the key.
        VirtualBoardError: it did not start, or another run uses it with the other clock.
    """
    with contextlib.ExitStack() as stack:
        if profile.kind == "virtual":
            from edgequant.boards.virtual.machine import virtual_board

            stack.enter_context(virtual_board(profile, clock_of(profile, clock)))
        yield stack.enter_context(open_board(profile))


def require_clock(board: Board, clock: Clock) -> None:
    """Refuse a virtual board that runs with the other clock.

    Raises:
        VirtualBoardError: it does.
    """
    if board.clock != clock:
        raise VirtualBoardError(
            f"runs with the {board.clock} clock, and this needs the {clock} clock",
            subject=board.profile.name,
            next_step=f"edgequant board up {board.profile.name} --clock {clock}",
        )
