"""Which links there are: our own, and those of other packages by their entry points."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from edgequant.boards.links.link import Link
from edgequant.core.errors import ProfileError

GROUP = "edgequant.links"
BUILT_IN = {
    "ssh": "edgequant.boards.links.ssh:SshLink",
    "local": "edgequant.boards.links.local:LocalLink",
    "adb": "edgequant.boards.links.adb:AdbLink",
    "hdc": "edgequant.boards.links.hdc:HdcLink",
}
"""Found without entry points, too: a checkout that is only on the path has none."""


def link_names() -> list[str]:
    """Every link's name, ours first."""
    return list(dict.fromkeys([*BUILT_IN, *(point.name for point in _others())]))


def find_link(name: str) -> type[Link]:
    """A link's class by its name.

    Raises:
        ValueError: there is no such link.
        ProfileError: the package that brings it cannot be imported.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return cast(type[Link], getattr(importlib.import_module(module), attribute))
    point = next((point for point in _others() if point.name == name), None)
    if point is None:
        raise ValueError(f"there is no link {name!r}; known are {', '.join(link_names())}")
    try:
        return cast(type[Link], point.load())
    except Exception as error:
        raise ProfileError(
            f"the link {name!r} cannot be loaded ({type(error).__name__}: {error})",
            subject=point.value,
            next_step="correct or remove the package that brings it",
        ) from error


def _others() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))
