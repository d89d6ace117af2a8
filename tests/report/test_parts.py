"""Smaller parts of the page: steps, the Pareto set, agreement, what a board has."""

from __future__ import annotations

from typing import Any

from edgequant.report.agreement import agreements
from edgequant.report.facts import cores_words, flatten
from edgequant.report.figures.steps import accuracy_at, envelope, telling_times, thinned
from edgequant.report.pareto import pareto


def step(strategy: str, seconds: float, accuracy: float) -> dict[str, Any]:
    return {
        "prompt": "cot",
        "strategy": strategy,
        "budget_tokens": None,
        "seconds": seconds,
        "accuracy": accuracy,
    }


def test_the_best_of_several_configurations_is_the_highest_of_their_steps() -> None:
    steps = [
        step("a", 1, 0.2), step("a", 4, 0.6), step("a", 6, 0.5),
        step("b", 2, 0.4), step("b", 3, 0.3), step("b", 5, 0.3),
    ]  # fmt: skip
    best = [(row["seconds"], row["accuracy"], row["strategy"]) for row in envelope(steps)]
    # A right answer can be overwritten: then the other configuration, or less, is the best.
    assert best == [(1, 0.2, "a"), (2, 0.4, "b"), (3, 0.3, "b"), (4, 0.6, "a"), (6, 0.5, "a")]
    assert [accuracy_at(envelope(steps), t) for t in (0.5, 1, 3.5, 99)] == [0.0, 0.2, 0.3, 0.5]


def test_a_thinned_line_ends_where_the_whole_one_does() -> None:
    line = [step("a", 1 + k / 1000, k / 5000) for k in range(5000)]
    drawn = thinned(line, 1.0, 6.0)
    assert len(drawn) < 200
    assert drawn[-1] == line[-1]
    assert all(row in line for row in drawn)
    assert telling_times([line[:10]], 5) == [line[k]["seconds"] for k in (1, 3, 5, 7, 9)]


def test_the_pareto_set_is_what_nothing_beats_in_everything() -> None:
    def whole(name: str, accuracy: float, seconds: float) -> dict[str, Any]:
        return {
            "latency_source": "measured", "quantization": name, "cut_tokens": None,
            "accuracy": accuracy, "mean_seconds": seconds,
        }  # fmt: skip

    rows = [whole("small", 0.5, 2.0), whole("large", 0.5, 2.0), whole("quick", 0.4, 1.0),
            whole("poor", 0.3, 1.5), {**whole("cut", 0.9, 0.1), "cut_tokens": 8}]  # fmt: skip
    sizes = {"small": 10, "large": 20, "quick": 30, "poor": 30}
    kept = {p.row["quantization"]: p.kept for p in pareto(rows, "measured", sizes)}
    assert kept == {"quick": True, "poor": False, "small": True, "large": False}


def test_agreement_is_found_wherever_a_manifest_counts_it() -> None:
    counted = {"answers": 32, "same": 31, "share_of_tokens": 0.995, "different": [], "groups": []}
    found = agreements(
        {
            "answers": 6400,
            "policy": {"slots": 4},
            "reference": counted,
            "mirror_check": {"board": "rk3568", "source": "measured", **counted},
        }
    )
    assert [(view.title, view.same, view.answers) for view in found.values()] == [
        ("Reference mode: one answer at a time, no prompt kept", 31, 32),
        ("The board rk3568 (MEASURED)", 31, 32),
    ]


def test_a_board_with_fewer_cores_than_its_profile_says_why() -> None:
    profile: dict[str, object] = {"cpu": {"cores": 4}}
    said = cores_words(profile, {"cores": 1}, counts_instructions=True)
    assert said is not None
    assert "4 cores, the board had 1" in said
    assert "counts instructions" in said
    plain = cores_words(profile, {"cores": 2}, counts_instructions=False)
    assert plain is not None
    assert "instructions" not in plain
    assert cores_words(profile, {"cores": 4}, counts_instructions=True) is None
    assert cores_words({}, {"cores": 4}, counts_instructions=True) is None


def test_nested_settings_are_flat_and_missing_ones_are_left_out() -> None:
    values = {"a": {"ram_bytes": 2_000_000_000, "none": None}, "flag": True, "list": [1, 2]}
    assert flatten(values) == [("a.ram_bytes", "2.00 GB"), ("flag", "yes"), ("list", "1, 2")]
