"""All kinds of mirror by their names: ours, and those that other packages bring."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from edgequant.answers.mirrors.llama_server.pool import LlamaServers
from edgequant.answers.mirrors.mirror import MirrorPool
from edgequant.answers.mirrors.openai.pool import OpenAiServers
from edgequant.core.errors import ExperimentError
from edgequant.models.steps.step import HostBuild

ENTRY_POINTS = "edgequant.mirrors"
"""Group of entry points; each names what makes a pool from a host build and settings."""
MakePool = Callable[..., MirrorPool]
"""Called with this machine's build, and with the settings by their names."""
BUILT_IN: Mapping[str, MakePool] = {
    "llama-server": LlamaServers.of_host,
    "openai": OpenAiServers.of_host,
}


@functools.cache
def mirror_kinds() -> Mapping[str, MakePool]:
    """Name to what makes a pool: ours first, then those of other packages by their names.

    Raises:
        ExperimentError: two have the same name, or one cannot be called.
    """
    found = dict(BUILT_IN)
    for point in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        make = point.load()
        if not callable(make):
            raise ExperimentError(f"the entry point {point.name} ({point.value}) makes no mirrors")
        if point.name in found:
            raise ExperimentError(f"two kinds of mirror are called {point.name!r}")
        found[point.name] = make
    return found


def make_mirrors(name: str, host: HostBuild, **settings: Any) -> MirrorPool:
    """The mirrors of a kind.

    Raises:
        ExperimentError: there is no such kind, or a setting is wrong or missing.
    """
    known = mirror_kinds()
    if name not in known:
        raise ExperimentError(
            f"no mirror {name!r}; there are {', '.join(known)}",
            next_step="install the package that brings it, or correct the name",
        )
    try:
        inspect.signature(known[name]).bind(host, **settings)
    except TypeError as error:
        raise ExperimentError(f"mirror {name}: {error}") from error
    return known[name](host, **settings)
