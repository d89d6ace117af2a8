"""All strategies by their names: ours, and those that other packages bring."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib import metadata

from pydantic import ValidationError

from edgequant.answers.strategies.early_stop import EarlyStop
from edgequant.answers.strategies.loop_stop import LoopStop
from edgequant.answers.strategies.stated import Stated
from edgequant.answers.strategies.strategy import Strategy
from edgequant.answers.strategies.truncate import Truncate
from edgequant.core.errors import ExperimentError

ENTRY_POINTS = "edgequant.strategies"
"""Group of entry points; each names a class of a package's own."""
BUILT_IN: tuple[type[Strategy], ...] = (Truncate, Stated, EarlyStop, LoopStop)


@functools.cache
def strategies() -> Mapping[str, type[Strategy]]:
    """Name to class: ours first, then those of other packages by their names.

    Raises:
        ExperimentError: two have the same name, or one is none.
    """
    found: dict[str, type[Strategy]] = {_name(kind): kind for kind in BUILT_IN}
    for point in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        kind = point.load()
        if not (isinstance(kind, type) and issubclass(kind, Strategy)):
            raise ExperimentError(f"the entry point {point.name} ({point.value}) is no strategy")
        if _name(kind) in found:
            raise ExperimentError(f"two strategies are called {_name(kind)!r}")
        found[_name(kind)] = kind
    return found


def base_name(label: str) -> str:
    """The strategy's own name in its label: ``stated`` in ``stated:0.75``."""
    return label.partition(":")[0]


def strategy_named(label: str) -> type[Strategy]:
    """The class of a strategy, by its name or its label.

    Raises:
        ExperimentError: there is none of that name.
    """
    known, name = strategies(), base_name(label)
    if name not in known:
        raise ExperimentError(
            f"no strategy {name!r}; there are {', '.join(known)}",
            next_step="install the package that brings it, or correct the name",
        )
    return known[name]


def make_strategy(settings: Mapping[str, object]) -> Strategy:
    """A strategy from plain values: its ``name`` and its settings.

    Raises:
        ExperimentError: unknown, or a wrong or missing setting.
    """
    kind = strategy_named(str(settings.get("name", "")))
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ExperimentError(f"strategy {kind.__name__}: {where}: {problem['msg']}") from error


def default_strategies(stated_budgets: Sequence[int]) -> tuple[Strategy, ...]:
    """Cut at any budget, and tell some of them."""
    if not stated_budgets:
        return (Truncate(),)
    return (Truncate(), Stated(budgets=tuple(stated_budgets)))


def _name(kind: type[Strategy]) -> str:
    return str(kind.model_fields["name"].default)
