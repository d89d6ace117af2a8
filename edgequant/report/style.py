"""How the report looks: colours that everyone can tell apart, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

INK = "#1f2328"
MUTED = "#59636e"
GRID = "#d7dde3"
PAPER = "#fefefe"

# Paul Tol's vibrant scheme: told apart with every common colour blindness. Red for few bits
# to blue for many.
_COLOURS: dict[int, tuple[str, ...]] = {
    1: ("#0077bb",),
    2: ("#cc3311", "#0077bb"),
    3: ("#cc3311", "#009988", "#0077bb"),
    4: ("#cc3311", "#ee7733", "#009988", "#0077bb"),
    5: ("#cc3311", "#ee7733", "#009988", "#33bbee", "#0077bb"),
    6: ("#cc3311", "#ee3377", "#ee7733", "#009988", "#33bbee", "#0077bb"),
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.2)),
    (0, (1.2, 1)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (3, 1, 1, 1, 1, 1)),
)


@dataclass(frozen=True, slots=True)
class SeriesStyle:
    """One quantization's colour, marker and dash: never told by colour alone."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]


def series_styles(quantizations: Sequence[str]) -> dict[str, SeriesStyle]:
    """A style for each quantization; the same in every figure.

    Args:
        quantizations: ordered from few bits to many.
    """
    count = len(quantizations)
    palette = _COLOURS.get(count) or _COLOURS[6]
    return {
        name: SeriesStyle(
            palette[i % len(palette)],
            _MARKERS[i % len(_MARKERS)],
            _DASHES[(count - 1 - i) % len(_DASHES)],
        )
        for i, name in enumerate(quantizations)
    }


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent in the usual range."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    value = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(decimals, 0)}f}"


def duration(seconds: float | None) -> str:
    """Seconds as people read them: 46 ms, 5.2 s, 12.9 min, 3.26 h; a dash for None."""
    if seconds is None:
        return "–"
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size < 0.9995e-3:
        return f"{significant(seconds * 1e6)} µs"
    if size < 0.09995:
        return f"{significant(seconds * 1e3)} ms"
    if size < 120:
        return f"{significant(seconds)} s"
    if size < 7200:
        return f"{significant(seconds / 60)} min"
    return f"{significant(seconds / 3600)} h"


def span(low: float, high: float) -> str:
    """Two times, the unit once where it is the same: ``33.9 to 54.1 ms``."""
    first, last = duration(low), duration(high)
    if first.rpartition(" ")[2] == last.rpartition(" ")[2]:
        first = first.rpartition(" ")[0]
    return f"{first} to {last}"


def tick_duration(seconds: float) -> str:
    """A round time without superfluous zeros: 50 ms, 2 s, 10 min."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:g} µs"
    if seconds < 0.0995:
        return f"{seconds * 1e3:g} ms"
    if seconds < 60:
        return f"{seconds:g} s"
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def rounded(value: float, digits: int) -> str:
    """So many digits behind the point, halves away from zero: 48.5 is 49, where Python says 48."""
    # What a float nearly is, people take it to be: 0.145 * 100 is 14.499999999999998.
    exact = Decimal(repr(round(value, 9)))
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"


def percent(share: float | None) -> str:
    """A share as a percentage with one digit; a dash for None."""
    return "–" if share is None else f"{rounded(share * 100, 1)} %"


def points(share: float | None) -> str:
    """A difference of shares in percentage points with one digit; a dash for None."""
    return "–" if share is None else rounded(share * 100, 1)


def byte_size(size: float | None) -> str:
    """Bytes in decimal units, as storage is sold; a dash for None."""
    if size is None:
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= factor:
            return f"{significant(size / factor)} {unit}"
    return f"{size:.0f} B"
