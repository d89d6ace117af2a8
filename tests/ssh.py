"""Boards behind an SSH server that tests start."""

from __future__ import annotations

from edgequant.boards.board import Board
from edgequant.boards.links.ssh import SshLink
from edgequant.boards.profile import BoardProfile


def over_ssh(profile: BoardProfile) -> Board:
    """A board that the user's own SSH configuration has no say in; it connects when it is used."""
    return Board(profile, SshLink(profile, use_ssh_config=False))
