"""A running virtual board as a :class:`~edgequant.boards.board.Board`."""

from __future__ import annotations

from edgequant.boards.links.ssh import SshBoard
from edgequant.boards.profile import BoardProfile
from edgequant.boards.virtual.machine import Instance
from edgequant.core.errors import VirtualBoardError
from edgequant.core.paths import cache_root


def open_virtual_board(profile: BoardProfile) -> SshBoard:
    """Connect to a virtual board that is up, over real SSH.

    Raises:
        VirtualBoardError: it is not up.
        BoardUnreachableError: it is up but does not answer.
    """
    instance = Instance(profile, cache_root() / "virtual" / "instances" / profile.name)
    state = instance.state()
    if state is None:
        raise VirtualBoardError(
            "the virtual board is not up",
            subject=profile.name,
            next_step=f"edgequant board up {profile.name}",
        )
    board = SshBoard(instance.reachable_profile(state), use_ssh_config=False)
    board.connect()
    return board
