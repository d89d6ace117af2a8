"""The line as a graph: stages, what each needs, where it runs, and how its result is found again.

Nothing here knows what the stages do; :mod:`edgequant.experiment.line` draws up the graph of an
experiment, and an executor walks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

Value = TypeVar("Value")

HOST = "host"
"""The place of a stage that runs on this machine; a board's is "board NAME"."""

State = Literal["found", "would run"]


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What a stage gave."""

    value: Value
    key: str = ""
    """Of the artefact that holds it; "" where nothing is kept."""
    reused: bool = False
    """It was found as it is; nothing was run."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each step, when it was made."""


@dataclass(frozen=True, eq=False)
class Stage(Generic[Value]):
    """One step of the line."""

    name: str
    """Short, and the stage's own in its graph."""
    title: str
    """What is shown while it runs."""
    run: Callable[[Results], Outcome[Value]]
    """Makes the result, or finds it made."""
    needs: tuple[Stage[Any], ...] = ()
    """Stages whose results it reads; it sees no others."""
    place: str = HOST
    """Stages of one place run one after another, those of different places side by side."""
    find: Callable[[Results], Outcome[Value] | None] | None = None
    """Looks for the result without making it; None where nothing is kept."""
    cost: Callable[[Results], str] | None = None
    """What is known of the cost of running it, in words."""


class Results:
    """The outcomes that one stage may see: those of the stages it needs."""

    def __init__(self, stage: Stage[Any], outcomes: Mapping[str, Outcome[Any]]) -> None:
        self._stage = stage
        self._outcomes = outcomes

    def __getitem__(self, needed: Stage[Value]) -> Value:
        """The value of a stage that is needed.

        Raises:
            KeyError: it is not among the needs: the graph would not say what depends on what.
        """
        if needed not in self._stage.needs:
            raise KeyError(f"{self._stage.name} does not say that it needs {needed.name}")
        return cast(Value, self._outcomes[needed.name].value)


class Graph:
    """Stages in an order in which they can run."""

    def __init__(self, stages: Sequence[Stage[Any]]) -> None:
        """Take the stages.

        Raises:
            ValueError: a name stands twice, or a stage comes before one that it needs.
        """
        seen: set[str] = set()
        known: set[Stage[Any]] = set()
        for stage in stages:
            if stage.name in seen:
                raise ValueError(f"two stages are called {stage.name}")
            for needed in stage.needs:
                if needed not in known:
                    raise ValueError(
                        f"{stage.name} needs {needed.name}, which does not come before"
                    )
            seen.add(stage.name)
            known.add(stage)
        self.stages = tuple(stages)

    def __iter__(self) -> Iterator[Stage[Any]]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)


@dataclass(frozen=True)
class StageRun:
    """One stage as an executor ran it."""

    stage: Stage[Any]
    outcome: Outcome[Any]
    seconds: float


class Executor(Protocol):
    """Walks a graph."""

    def run(self, graph: Graph) -> list[StageRun]:
        """Run every stage once, after all that it needs.

        Returns:
            The runs in the graph's order.

        Raises:
            EdgequantError: of the first stage that failed; what others finished is kept.
        """
        ...


@dataclass(frozen=True)
class Planned:
    """One stage as it would go, were the graph run now."""

    stage: Stage[Any]
    state: State
    key: str
    """Of the artefact, where it is found."""
    cost: str
    """What is known of the cost; "" where it is found or nobody knows."""


def plan(graph: Graph) -> list[Planned]:
    """Which stages would run and which are found; nothing is run.

    A stage whose needs are not all found would run: its own key is not known yet.
    """
    outcomes: dict[str, Outcome[Any]] = {}
    planned = []
    for stage in graph:
        results = Results(stage, outcomes)
        ready = all(needed.name in outcomes for needed in stage.needs)
        found = stage.find(results) if ready and stage.find is not None else None
        if found is not None:
            outcomes[stage.name] = found
            planned.append(Planned(stage, "found", found.key, ""))
        else:
            cost = stage.cost(results) if ready and stage.cost is not None else ""
            planned.append(Planned(stage, "would run", "", cost))
    return planned
