"""The report: one HTML file that needs nothing else, and the figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

from edgequant.core.errors import ToolMissingError
from edgequant.core.files import write_text_whole
from edgequant.core.tables import csv_text, records, rows_csv_text, values
from edgequant.latency.statistics import LatencySummary, summarize
from edgequant.models.contents import describe_tensors
from edgequant.report.advice import names
from edgequant.report.agreement import agreements
from edgequant.report.clocks import caution, counts_instructions, label
from edgequant.report.crossings import family
from edgequant.report.explorer.data import Exploration, explore
from edgequant.report.explorer.embed import data_url, packed
from edgequant.report.facts import cores_words, flatten
from edgequant.report.figures.all import draw_figures
from edgequant.report.figures.figure import Figure
from edgequant.report.run import REPORT_NAME, ReportInputs
from edgequant.report.style import (
    byte_size,
    duration,
    percent,
    points,
    series_styles,
    significant,
    tick_duration,
)
from edgequant.report.views import ClockView, clock_views, order_of
from edgequant.report.words import explain_way, nothing_right, way_words

FIGURES_FOLDER = "figures"
_TEMPLATES = resources.files("edgequant.report") / "templates"


def write_report(out: Path, inputs: ReportInputs) -> Path:
    """Draw the figures and write the page.

    Args:
        out: run folder; ``report.html``, ``figures/*.svg`` and ``figures/*.csv`` are written there.
        inputs: what is shown.

    Returns:
        The page's path.

    Raises:
        ToolMissingError: matplotlib or jinja2 is not installed.
        DataFrameError: the latency table lacks what is needed, or answers cannot be graded.
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
        DataFrameError: the latency table lacks what is needed, or answers cannot be graded.
    """
    try:
        import jinja2
        import markupsafe
    except ImportError:
        raise ToolMissingError(
            "jinja2 is not installed", next_step='pip install "edgequant[report]"'
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgequant.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    models = inputs.manifest.models
    environment.globals.update(
        asset=lambda name: markupsafe.Markup(_TEMPLATES.joinpath(name).read_text("utf-8")),
        explain_way=explain_way,
        zip=zip,
        names=names,
        crossover_family=family,
        describe_tensors=describe_tensors,
        name_only={m.quantization for m in models if not m.holds_named_type},
        same_as={m.quantization: m.same_as for m in models if m.same_as},
        styles=series_styles(order_of(inputs)),
        way=way_words,
    )
    environment.filters.update(
        duration=duration,
        percent=percent,
        points=points,
        byte_size=byte_size,
        significant=significant,
        limit=tick_duration,
        sentence=lambda text: text[:1].upper() + text[1:],
    )
    drawn = list(figures) if figures is not None else _figures(inputs)
    return environment.get_template("report.html.j2").render(_context(inputs, drawn))


def _context(inputs: ReportInputs, figures: Sequence[Figure]) -> dict[str, object]:
    manifest, matched = inputs.manifest, inputs.matched
    order = order_of(inputs)
    summaries = summarize(inputs.latency)
    scores = records(matched.scores)
    views = clock_views(inputs, figures, order)
    exploration = _exploration(inputs, views, order)
    own = manifest.board.latency_source
    compared = agreements(manifest.generation)
    return {
        "manifest": manifest,
        "order": order,
        "clocks": views,
        "caution": caution([view.name for view in views], manifest),
        "descriptions": {p.name: p.description for p in manifest.prompts if p.description},
        "matched": matched,
        "summaries": _ordered(summaries, order),
        "fastest": min((s.median_seconds for s in summaries if s.median_seconds), default=None),
        "board_label": label(own),
        "figures": _grouped(figures),
        "scores": scores,
        "tasks": records(matched.tasks),
        "quality": [] if inputs.quality is None else records(inputs.quality),
        "nothing": nothing_right(matched.scores, matched.matched),
        "exploration": exploration,
        "explorer_data": packed(exploration.data) if exploration else "",
        "example": _example(inputs, order),
        "profile": flatten(manifest.board.profile),
        "facts": flatten(manifest.board.facts),
        "cores": cores_words(
            manifest.board.profile,
            manifest.board.facts,
            counts_instructions=counts_instructions(own, manifest),
        ),
        "agreements": compared,
        "generation": flatten({k: v for k, v in manifest.generation.items() if k not in compared}),
        "parameters": flatten(manifest.experiment.parameters),
        "downloads": {
            f"{name}.csv": data_url(csv_text(getattr(matched, name)), "text/csv;charset=utf-8")
            for name in ("best", "crossovers", "scores")
        },
        "n": max((row["n"] for row in scores), default=0),
    }


def _figures(inputs: ReportInputs) -> list[Figure]:
    return draw_figures(inputs, series_styles(order_of(inputs)))


def _exploration(
    inputs: ReportInputs, views: Sequence[ClockView], order: Sequence[str]
) -> Exploration | None:
    if inputs.answers is None or inputs.questions is None or inputs.answers.empty:
        return None
    return explore(
        inputs.answers,
        inputs.questions,
        inputs.manifest.paces,
        mapping=inputs.matched.mapping,
        clocks=[{"name": view.name, "label": f"{view.title} ({view.label})"} for view in views],
        order=order,
    )


def _ordered(summaries: Sequence[LatencySummary], order: Sequence[str]) -> list[LatencySummary]:
    places = {name: place for place, name in enumerate(order)}
    return sorted(summaries, key=lambda s: places.get(s.quantization, len(places)))


def _grouped(figures: Sequence[Figure]) -> Mapping[str, list[Figure]]:
    return {
        group: list(members)
        for group, members in groupby(sorted(figures, key=lambda f: f.group), key=lambda f: f.group)
    }


def _example(inputs: ReportInputs, order: Sequence[str]) -> dict[str, object] | None:
    """One question with the answers of every quantization: what a page without its script has."""
    answers, questions = inputs.answers, inputs.questions
    if answers is None or questions is None:
        return None
    plain = answers["budget_tokens"].isna()
    asked = records(answers.loc[plain, ["question_id", "prompt", "strategy"]])
    if not asked:
        return None
    first = min(asked, key=lambda row: (row["question_id"], row["prompt"], row["strategy"]))
    same = plain.copy()
    for name, value in first.items():
        same &= answers[name] == value
    rows = records(answers[same])
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
