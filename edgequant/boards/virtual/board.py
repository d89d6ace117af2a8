"""A running virtual board as a :class:`~edgequant.boards.board.Board`."""

from __future__ import annotations

from edgequant.boards.board import Board
from edgequant.boards.profile import BoardProfile
from edgequant.boards.virtual.machine import find_instance
from edgequant.core.errors import VirtualBoardError


def open_virtual_board(profile: BoardProfile) -> Board:
    """Connect to a virtual board that is up, over real SSH.

    Raises:
        VirtualBoardError: it is not up.
        BoardUnreachableError: it is up but does not answer.
    """
    instance = find_instance(profile)
    state = instance.state()
    if state is None:
        raise VirtualBoardError(
            "the virtual board is not up",
            subject=profile.name,
            next_step=f"edgequant board up {profile.name}",
        )
    board = instance.board(state)
    board.link.connect()
    return board
