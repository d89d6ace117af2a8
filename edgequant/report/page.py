"""The report: one HTML file that needs no network, and the figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from edgequant.core.errors import ToolMissingError
from edgequant.core.files import write_text_whole
from edgequant.core.tables import records, rows_csv_text, values
from edgequant.latency.pace import Pace
from edgequant.latency.statistics import LatencySummary, summarize
from edgequant.matching.match import ANY_PROMPT, order_quantizations
from edgequant.models.contents import describe_tensors
from edgequant.report.figures import Figure, draw_figures
from edgequant.report.run import REPORT_NAME, ReportInputs, RunManifest
from edgequant.report.style import (
    INSTRUCTION_CLOCK_MEANING,
    SOURCE_MEANINGS,
    byte_size,
    duration,
    percent,
    series_styles,
    significant,
    tick_duration,
)
from edgequant.report.words import (
    Row,
    budget_words,
    crossovers_at_the_top,
    describe_crossovers,
    describe_prompt_crossovers,
    explain_speed,
    headline,
    interval_words,
    label,
    nothing_right,
)

FIGURES_FOLDER = "figures"
_WHAT_IFS = ("predicted", "study")


@dataclass(frozen=True)
class SourceView:
    """One latency source as the page shows it."""

    name: str
    label: str
    meaning: str
    what_if: bool
    headline: list[str]
    crossovers: list[str]
    prompt_crossovers: list[str]
    crossover_rows: Sequence[Row]
    uncertain: list[str]
    more: bool
    why: str | None
    notes: list[str]
    note_of: dict[str, str]
    best: Sequence[Row]
    paces: list[Pace]
    overview: list[Figure]
    figures: list[Figure]


def write_report(out: Path, inputs: ReportInputs) -> Path:
    """Draw the figures and write the page.

    Args:
        out: run folder; ``report.html``, ``figures/*.svg`` and ``figures/*.csv`` are written there.
        inputs: what is shown.

    Returns:
        The page's path.

    Raises:
        ToolMissingError: matplotlib or jinja2 is not installed.
        DataFrameError: the latency table lacks what is needed.
    """
    figures = _figures(inputs)
    page = render_page(inputs, figures)
    folder = out / FIGURES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        write_text_whole(folder / f"{figure.name}.svg", figure.svg)
        write_text_whole(folder / f"{figure.name}.csv", rows_csv_text(figure.columns, figure.rows))
    path = out / REPORT_NAME
    write_text_whole(path, page)
    return path


def render_page(inputs: ReportInputs, figures: Sequence[Figure] | None = None) -> str:
    """The page's HTML.

    Raises:
        ToolMissingError: matplotlib or jinja2 is not installed.
        DataFrameError: the latency table lacks what is needed.
    """
    try:
        import jinja2
    except ImportError:
        raise ToolMissingError(
            "jinja2 is not installed", next_step='pip install "edgequant[report]"'
        ) from None
    drawn = list(figures) if figures is not None else _figures(inputs)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgequant.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        between=interval_words,
        budget_words=budget_words,
        describe_tensors=describe_tensors,
        name_only={m.quantization for m in inputs.manifest.models if not m.holds_named_type},
        same_as={m.quantization: m.same_as for m in inputs.manifest.models if m.same_as},
    )
    environment.filters.update(
        duration=duration,
        percent=percent,
        byte_size=byte_size,
        significant=significant,
        limit=tick_duration,
        sentence=lambda text: text[:1].upper() + text[1:],
    )
    manifest = inputs.manifest
    order = _order(inputs)
    summaries = summarize(inputs.latency)
    scores = records(inputs.matched.scores)
    return environment.get_template("report.html.j2").render(
        manifest=manifest,
        styles=series_styles(order),
        order=order,
        sources=_sources(inputs, drawn, order),
        matched=inputs.matched,
        summaries=_ordered(summaries, order),
        fastest=_fastest(summaries),
        board_label=label(manifest.board.latency_source),
        figures={group: list(members) for group, members in _grouped(drawn).items()},
        scores=scores,
        nothing=nothing_right(inputs.matched.scores, inputs.matched.matched),
        example=_example(inputs, order),
        profile=_flatten(manifest.board.profile),
        facts=_flatten(manifest.board.facts),
        generation=_flatten(manifest.generation),
        parameters=_flatten(manifest.experiment.parameters),
        n=max((row["n"] for row in scores), default=0),
    )


def _figures(inputs: ReportInputs) -> list[Figure]:
    return draw_figures(
        records(inputs.matched.matched),
        records(inputs.matched.crossovers),
        inputs.latency,
        series_styles(_order(inputs)),
        inputs.manifest.board.latency_source,
    )


def _order(inputs: ReportInputs) -> list[str]:
    """Quantizations from few bits to many: by their files where known, else by their names."""
    bits = {m.quantization: m.bits_per_weight for m in inputs.manifest.models}
    names = {*bits, *inputs.matched.scores["quantization"].to_list()}
    if names == set(bits):
        return sorted(bits, key=lambda name: (bits[name], name))
    return order_quantizations(names)


def _ordered(summaries: Sequence[LatencySummary], order: Sequence[str]) -> list[LatencySummary]:
    places = {name: place for place, name in enumerate(order)}
    return sorted(summaries, key=lambda s: places.get(s.quantization, len(places)))


def _fastest(summaries: Sequence[LatencySummary]) -> float | None:
    return min((s.median_seconds for s in summaries if s.median_seconds), default=None)


def _grouped(figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    return {
        group: list(members)
        for group, members in groupby(sorted(figures, key=lambda f: f.group), key=lambda f: f.group)
    }


def _sources(
    inputs: ReportInputs, figures: Sequence[Figure], order: Sequence[str]
) -> list[SourceView]:
    matched = inputs.matched
    paces = inputs.manifest.paces
    nothing = nothing_right(matched.scores, matched.matched)
    misnamed = {m.quantization for m in inputs.manifest.models if not m.holds_named_type}
    # Between two names of the same tensors there is no speed to explain.
    again = {m.quantization for m in inputs.manifest.models if m.same_as is not None}
    distinct = [quantization for quantization in order if quantization not in again]
    points, crossovers, best = map(records, (matched.matched, matched.crossovers, matched.best))
    names = list(dict.fromkeys(row["latency_source"] for row in points))
    names.sort(key=lambda name: name in _WHAT_IFS)
    views = []
    for name in names:
        of_source = [row for row in crossovers if row["latency_source"] == name]
        sure = [row for row in of_source if row["confident"]]
        overall = [row for row in sure if row["prompt"] == ANY_PROMPT]
        of_points = [row for row in points if row["latency_source"] == name]
        at_the_top = _whole_pairs(overall, crossovers_at_the_top(overall, of_points))
        own_paces = [p for p in paces if p.source == name]
        own = [q for q in order if q in {row["quantization"] for row in of_points}]
        notes = list(dict.fromkeys(p.note.rstrip(".") for p in own_paces if p.note))
        places = {quantization: place for place, quantization in enumerate(order)}
        views.append(
            SourceView(
                name=name,
                label=label(name),
                meaning=_meaning(name, inputs.manifest),
                what_if=name in _WHAT_IFS,
                headline=[nothing] if nothing is not None else headline(best, points, name),
                crossovers=describe_crossovers(at_the_top, name, points),
                prompt_crossovers=describe_prompt_crossovers(sure, name, (own[0], own[-1]))
                if len(own) == 2
                else [],
                more=len(overall) > len(at_the_top),
                crossover_rows=sure,
                uncertain=_uncertain(of_source),
                why=explain_speed(paces, name, distinct, misnamed),
                notes=notes if len(notes) == 1 else [],
                note_of={p.quantization: p.note for p in own_paces if p.note}
                if len(notes) > 1
                else {},
                best=[row for row in best if row["latency_source"] == name],
                paces=sorted(
                    own_paces,
                    key=lambda p: places.get(p.quantization, len(places)),
                ),
                overview=[f for f in figures if f.group == f"best-{name}"],
                figures=[f for f in figures if f.group == f"seconds-{name}"],
            )
        )
    return views


def _meaning(source: str, manifest: RunManifest) -> str:
    """What the seconds of a source are, one sentence without its capital and full stop."""
    measure = manifest.experiment.parameters.get("measure")
    clock = measure.get("clock") if isinstance(measure, Mapping) else None
    if source == "emulated" and manifest.board.kind == "virtual" and clock == "instructions":
        return INSTRUCTION_CLOCK_MEANING
    return SOURCE_MEANINGS.get(source, "")


def _whole_pairs(crossovers: Sequence[Row], chosen: Sequence[Row]) -> list[Row]:
    """All changes of lead between the pairs of the chosen ones."""
    pairs = {_pair(row) for row in chosen}
    return [row for row in crossovers if _pair(row) in pairs]


def _pair(crossover: Row) -> frozenset[str]:
    return frozenset((crossover["first_quantization"], crossover["second_quantization"]))


def _uncertain(crossovers: Sequence[Row]) -> list[str]:
    """Pairs whose curves cross, over all prompts, but by no more than chance."""
    return [
        f"{row['first_quantization']} and {row['second_quantization']} ({row['sign_changes']}×)"
        for row in crossovers
        if not row["confident"] and row["prompt"] == ANY_PROMPT
    ]


def _example(inputs: ReportInputs, order: Sequence[str]) -> dict[str, object] | None:
    """One question with the answers of every quantization, to see what was graded."""
    answers, questions = inputs.answers, inputs.questions
    if answers is None or questions is None:
        return None
    plain = answers["budget_tokens"].isna()
    asked = records(answers.loc[plain, ["question_id", "prompt"]])
    if not asked:
        return None
    first = min(asked, key=lambda row: (row["question_id"], row["prompt"]))
    same = (answers["question_id"] == first["question_id"]) & (answers["prompt"] == first["prompt"])
    rows = records(answers[plain & same])
    places = {name: place for place, name in enumerate(order)}
    rows.sort(key=lambda row: places.get(row["quantization"], len(places)))
    gold = questions[questions["question_id"] == first["question_id"]]["expected_answer"]
    return {
        "question_id": first["question_id"],
        "prompt": first["prompt"],
        "rendered": rows[0]["rendered_prompt"],
        "expected": next(iter(values(gold)), None),
        "answers": [
            {
                "quantization": row["quantization"],
                "text": row["text"][:4000],
                "tokens": len(row["token_ids"]),
                "stop_reason": row["stop_reason"],
            }
            for row in rows
        ],
    }


def _flatten(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as (dotted name, text); what is missing is left out."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows.extend(_flatten(value, f"{name}."))
        elif value not in (None, "", [], ()):
            rows.append((name, _text(str(key), value)))
    return rows


def _text(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}".replace("_", " ") for key, text in _flatten(value))
    if isinstance(value, list | tuple | set | frozenset):
        between = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return between.join(_text("", item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.endswith("bytes_per_second"):
            return f"{byte_size(value)}/s"
        if name.endswith("bytes"):
            return byte_size(value)
        if name.endswith("_hz"):
            return f"{significant(value / 1e6)} MHz"
        if name.endswith("seconds"):
            return duration(value)
        return f"{value:g}" if isinstance(value, float) else str(value)
    return str(value)
