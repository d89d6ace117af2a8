"""The line as a graph: what stands in it, and what a plan says of it."""

from __future__ import annotations

from typing import Any

import pytest

from edgequant.experiment.graph import Graph, Outcome, Results, Stage, plan


def stage(name: str, *needs: Stage[Any], **more: Any) -> Stage[str]:
    return Stage(
        name=name,
        title=name,
        needs=needs,
        run=lambda results: Outcome("+".join([name, *(results[needed] for needed in needs)])),
        **more,
    )


def test_a_stage_comes_after_what_it_needs() -> None:
    first = stage("first")
    second = stage("second", first)
    assert [s.name for s in Graph([first, second])] == ["first", "second"]
    with pytest.raises(ValueError, match="second needs first, which does not come before"):
        Graph([second, first])
    with pytest.raises(ValueError, match="two stages are called first"):
        Graph([first, stage("first")])


def test_a_stage_sees_only_what_it_says_it_needs() -> None:
    first = stage("first")
    second = stage("second")
    outcomes = {"first": Outcome("made")}
    assert Results(stage("third", first), outcomes)[first] == "made"
    with pytest.raises(KeyError, match="second does not say that it needs first"):
        Results(second, outcomes)[first]


def test_a_plan_runs_nothing_and_stops_looking_behind_what_is_missing() -> None:
    def refuse(results: Results) -> Outcome[str]:
        raise AssertionError("a plan runs nothing")

    looked: list[str] = []

    def finds(name: str, outcome: Outcome[str] | None) -> Any:
        def find(results: Results) -> Outcome[str] | None:
            looked.append(name)
            return outcome

        return find

    there = Stage("there", "there", refuse, find=finds("there", Outcome("x", key="k1")))
    absent = Stage(
        "absent", "absent", refuse, (there,), find=finds("absent", None), cost=lambda r: "9 s"
    )
    behind = Stage(
        "behind", "behind", refuse, (absent,), find=finds("behind", None), cost=lambda r: "1 s"
    )
    beside = Stage("beside", "beside", refuse, (there,), find=finds("beside", Outcome("y", "k2")))
    planned = plan(Graph([there, absent, behind, beside]))
    assert [(p.stage.name, p.state, p.key, p.cost) for p in planned] == [
        ("there", "found", "k1", ""),
        ("absent", "would run", "", "9 s"),
        ("behind", "would run", "", ""),
        ("beside", "found", "k2", ""),
    ]
    assert looked == ["there", "absent", "beside"]
