"""A running virtual board as a :class:`~edgequant.boards.board.Board`."""

from __future__ import annotations

from edgequant.boards.links.ssh import SshBoard
from edgequant.boards.profile import BoardProfile
from edgequant.boards.virtual.machine import find_instance
from edgequant.core.errors import VirtualBoardError


def open_virtual_board(profile: BoardProfile) -> SshBoard:
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
    board = SshBoard(instance.reachable_profile(state), use_ssh_config=False)
    board.clock = state.clock
    board.connect()
    return board
