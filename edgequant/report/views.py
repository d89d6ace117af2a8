"""What the page says of each clock, gathered for its template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgequant.core.tables import records
from edgequant.latency.pace import Pace
from edgequant.matching.match import order_quantizations
from edgequant.report import clocks
from edgequant.report.advice import Advice, Row, advise, in_short
from edgequant.report.crossings import (
    at_the_top,
    describe_crossovers,
    overall,
    pair_of,
    place_words,
    sure_crossovers,
)
from edgequant.report.figures.figure import Figure
from edgequant.report.pareto import Point, pareto
from edgequant.report.run import ReportInputs
from edgequant.report.words import explain_speed


@dataclass(frozen=True)
class ClockView:
    """One latency source as the page shows it.

    Attributes:
        own: it is the clock of the board that the run measured.
        more: leads change hands elsewhere than at the top.
        places: of each sure crossover, where it lies, in words.
        uncertain: pairs whose curves cross by no more than chance.
        notes: what is true of all its paces; ``note_of`` where it differs between them.
    """

    name: str
    label: str
    title: str
    meaning: str
    own: bool
    what_if: bool
    advice: list[Advice]
    in_short: str
    crossovers: list[str]
    more: bool
    crossover_rows: Sequence[Row]
    places: list[str]
    uncertain: list[str]
    why: str | None
    notes: list[str]
    note_of: dict[str, str]
    best: Sequence[Row]
    paces: list[Pace]
    pareto: list[Point]
    overview: list[Figure]
    figures: list[Figure]
    pareto_figures: list[Figure]


def order_of(inputs: ReportInputs) -> list[str]:
    """Quantizations from few bits to many: by their files where known, else by their names."""
    bits = {m.quantization: m.bits_per_weight for m in inputs.manifest.models}
    names = {*bits, *inputs.matched.scores["quantization"].to_list()}
    if names == set(bits):
        return sorted(bits, key=lambda name: (bits[name], name))
    return order_quantizations(names)


def clock_views(
    inputs: ReportInputs, figures: Sequence[Figure], order: Sequence[str]
) -> list[ClockView]:
    """One for each latency source, the board's own first."""
    steps = records(inputs.matched.matched)
    best = records(inputs.matched.best)
    names = clocks.clocks_of([*best, *steps], inputs.manifest)
    return [_view(name, inputs, figures, order, steps, best) for name in names]


def _view(
    name: str,
    inputs: ReportInputs,
    figures: Sequence[Figure],
    order: Sequence[str],
    steps: Sequence[Row],
    best: Sequence[Row],
) -> ClockView:
    manifest = inputs.manifest
    own_steps = [row for row in steps if row["latency_source"] == name]
    own_best = [row for row in best if row["latency_source"] == name]
    crossovers = records(inputs.matched.crossovers)
    sure = sure_crossovers(crossovers, name)
    top = _whole_pairs(overall(sure), at_the_top(overall(sure), own_best))
    advice = advise(own_best, name)
    places = {quantization: place for place, quantization in enumerate(order)}
    paces = sorted(
        (p for p in manifest.paces if p.source == name),
        key=lambda p: places.get(p.quantization, len(places)),
    )
    notes = list(dict.fromkeys(p.note.rstrip(".") for p in paces if p.note))
    # Between two names of the same tensors there is no speed to explain.
    again = {m.quantization for m in manifest.models if m.same_as is not None}
    return ClockView(
        name=name,
        label=clocks.label(name),
        title=clocks.title(name, manifest),
        meaning=clocks.meaning(name, manifest),
        own=name == manifest.board.latency_source,
        what_if=name in clocks.WHAT_IFS,
        advice=advice,
        in_short=in_short(advice),
        crossovers=describe_crossovers(top, own_steps),
        more=len(sure) > len(top),
        crossover_rows=sure,
        places=[place_words(row, own_steps) for row in sure],
        uncertain=_uncertain(crossovers, name),
        why=explain_speed(
            manifest.paces,
            name,
            [quantization for quantization in order if quantization not in again],
            {m.quantization for m in manifest.models if not m.holds_named_type},
        ),
        notes=notes if len(notes) == 1 else [],
        note_of={p.quantization: p.note for p in paces if p.note} if len(notes) > 1 else {},
        best=own_best,
        paces=paces,
        pareto=pareto(
            records(inputs.matched.budgets),
            name,
            {m.quantization: m.bytes for m in manifest.models},
        ),
        overview=[f for f in figures if f.group == f"best-{name}"],
        figures=[f for f in figures if f.group == f"seconds-{name}"],
        pareto_figures=[f for f in figures if f.group == f"pareto-{name}"],
    )


def _whole_pairs(crossovers: Sequence[Row], chosen: Sequence[Row]) -> list[Row]:
    """All changes of lead between the pairs of the chosen ones."""
    pairs = {pair_of(row) for row in chosen}
    return [row for row in crossovers if pair_of(row) in pairs]


def _uncertain(crossovers: Sequence[Row], source: str) -> list[str]:
    """Pairs whose curves cross, over all prompts, but by no more than chance."""
    return [
        f"{row['first_quantization']} and {row['second_quantization']}"
        for row in overall(crossovers)
        if row["latency_source"] == source and not row["confident"]
    ]
