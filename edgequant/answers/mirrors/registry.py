"""All kinds of mirror by their names: ours, and those that other packages bring."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edgequant.answers.mirrors.llama_server.pool import LlamaServers
from edgequant.answers.mirrors.mirror import MirrorPool
from edgequant.answers.mirrors.openai.pool import OpenAiServers
from edgequant.core.errors import ExperimentError
from edgequant.models.steps.step import HostBuild, HostSource

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


def make_mirrors(
    name: str, host: HostBuild, *, defaults: Mapping[str, Any] | None = None, **settings: Any
) -> MirrorPool:
    """The mirrors of a kind.

    Args:
        name: the kind.
        host: this machine's build.
        defaults: settings of the whole experiment, given to kinds that know them.
        settings: its own.

    Raises:
        ExperimentError: there is no such kind, or a setting is wrong or missing.
    """
    known = _kind(name)
    parameters = inspect.signature(known).parameters.values()
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters}
    given = {k: v for k, v in (defaults or {}).items() if takes_all or k in names}
    given |= settings
    try:
        inspect.signature(known).bind(host, **given)
    except TypeError as error:
        raise ExperimentError(f"mirror {name}: {error}") from error
    return known(host, **given)


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """See that mirrors can be made with some settings, as far as that can be told without a build.

    Raises:
        ExperimentError: as :func:`make_mirrors`.
    """
    if _kind(name) is BUILT_IN.get(name):
        make_mirrors(name, _NoHost(), **settings)
        return
    try:
        inspect.signature(_kind(name)).bind(None, **settings)
    except TypeError as error:
        raise ExperimentError(f"mirror {name}: {error}") from error


def _kind(name: str) -> MakePool:
    known = mirror_kinds()
    if name not in known:
        raise ExperimentError(
            f"no mirror {name!r}; there are {', '.join(known)}",
            next_step="install the package that brings it, or correct the name",
        )
    return known[name]


class _NoHost:
    """Stands for a build that is not there yet: our own kinds look at none before they open."""

    llama_cpp_commit = ""

    @property
    def source(self) -> HostSource:
        raise AssertionError("no kind of ours needs the source")

    def binary(self, name: str) -> Path:
        return Path(name)
