"""One choice for each of many things, so that the costs are least and the bytes fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One of the choices for a thing."""

    name: str
    bytes: int
    cost: float


def choose(things: Mapping[str, Sequence[Option]], limit: int) -> dict[str, Option] | None:
    """The choices with nearly the least sum of costs in so many bytes.

    From the smallest choices on, always that change is made which saves most cost for each byte it
    adds, along each thing's lower convex hull; what is left then goes to the changes that fit.

    Args:
        things: each with at least one choice.
        limit: of the sum of bytes.

    Returns:
        A choice for each thing; None where even the smallest do not fit.
    """
    hulls = {name: _hull(options) for name, options in things.items()}
    taken = dict.fromkeys(hulls, 0)
    left = limit - sum(hull[0].bytes for hull in hulls.values())
    if left < 0:
        return None
    steps = sorted(
        (_slope(hull[place], hull[place + 1]), name, place)
        for name, hull in hulls.items()
        for place in range(len(hull) - 1)
    )
    for _, name, place in steps:
        hull = hulls[name]
        added = hull[place + 1].bytes - hull[place].bytes
        if taken[name] == place and added <= left:
            taken[name] += 1
            left -= added
    chosen = {name: hulls[name][place] for name, place in taken.items()}
    return _fill(chosen, things, left)


def _fill(
    chosen: dict[str, Option], things: Mapping[str, Sequence[Option]], left: int
) -> dict[str, Option]:
    """Take the change that saves most and fits, as long as there is one."""
    while True:
        changes = [
            (option.cost - chosen[name].cost, name, option)
            for name, options in things.items()
            for option in options
            if option.cost < chosen[name].cost and option.bytes - chosen[name].bytes <= left
        ]
        if not changes:
            return chosen
        _, name, option = min(changes, key=lambda change: change[:2])
        left -= option.bytes - chosen[name].bytes
        chosen[name] = option


def _hull(options: Sequence[Option]) -> list[Option]:
    """The choices that are best for some price of a byte, from small to large."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (o.bytes, o.cost)):
        if hull and option.cost >= hull[-1].cost:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], option):
            hull.pop()
        if hull and hull[-1].bytes == option.bytes:
            continue
        hull.append(option)
    return hull


def _slope(small: Option, large: Option) -> float:
    return (large.cost - small.cost) / (large.bytes - small.bytes)
