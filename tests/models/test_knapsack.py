"""Choices within a limit: by hand, and against every combination."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from edgequant.models.knapsack import Option, choose

OPTIONS = st.lists(
    st.builds(Option, st.just("x"), st.integers(1, 30), st.floats(0, 10)), min_size=1, max_size=4
)


def test_bytes_go_where_they_save_most() -> None:
    things = {
        "dull": [Option("small", 10, 1.0), Option("large", 20, 0.9)],
        "keen": [Option("small", 10, 5.0), Option("middle", 15, 2.0), Option("large", 20, 1.0)],
    }

    def chosen(limit: int) -> dict[str, str]:
        found = choose(things, limit)
        assert found is not None
        return {name: option.name for name, option in found.items()}

    assert chosen(20) == {"dull": "small", "keen": "small"}
    assert chosen(25) == {"dull": "small", "keen": "middle"}
    assert chosen(30) == {"dull": "small", "keen": "large"}
    assert chosen(40) == {"dull": "large", "keen": "large"}
    assert choose(things, 19) is None


def test_what_is_worse_and_larger_is_never_taken() -> None:
    things = {"one": [Option("good", 10, 1.0), Option("bad", 20, 2.0)]}
    assert choose(things, 100) == {"one": Option("good", 10, 1.0)}


@given(st.dictionaries(st.sampled_from("abcd"), OPTIONS, min_size=1), st.integers(1, 120))
def test_it_fits_and_is_near_the_best(things: dict[str, list[Option]], limit: int) -> None:
    found = choose(things, limit)
    combinations = [
        options
        for options in product(*things.values())
        if sum(option.bytes for option in options) <= limit
    ]
    if found is None:
        assert not combinations
        return
    assert all(found[name] in options for name, options in things.items())
    assert sum(option.bytes for option in found.values()) <= limit
    best = min(sum(option.cost for option in options) for options in combinations)
    cost = sum(option.cost for option in found.values())
    # The relaxed problem's optimum is passed over by one change at most.
    largest = max(max(o.cost for o in own) - min(o.cost for o in own) for own in things.values())
    assert cost <= best + largest + 1e-9
