"""The page: self-contained, labelled, complete, and drawn again from a run folder."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from edgequant.core.errors import ArtefactError, DataFrameError
from edgequant.core.hashing import sha256_file
from edgequant.core.schemas import ANSWERS, MATCHED, QUALITY, QUESTIONS
from edgequant.core.tables import csv_text, make_table, read_csv, read_table, write_csv
from edgequant.matching.match import match
from edgequant.report.page import write_report
from edgequant.report.run import ReportInputs, RunManifest, load_run
from tests.matching.synthetic_answers import synthetic_answers
from tests.report.synthetic_run import report_inputs, write_run_folder

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are closed in order; collects ids, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for name in ("href", "xlink:href"):
            if values.get(name):
                self.links.append(str(values[name]))
        if values.get("src"):
            self.sources.append(str(values["src"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def inputs() -> ReportInputs:
    return report_inputs(80)


@pytest.fixture(scope="module")
def run_folder(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_report(folder, inputs)
    return write_run_folder(folder, inputs)


@pytest.fixture(scope="module")
def page(run_folder: Path) -> Page:
    return Page((run_folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_well_formed(page: Page) -> None:
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_the_page_needs_no_network(page: Page, run_folder: Path) -> None:
    assert page.sources == []
    for link in page.links:
        assert link.startswith(("#", "data:")), link
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    # Names of XML namespaces are no addresses that are fetched.
    assert not re.search(r"(url\(|@import|src=)[\"']?https?:", text)


def test_every_link_leads_somewhere_when_the_page_travels_alone(
    page: Page, inputs: ReportInputs
) -> None:
    for link in page.links:
        assert link.startswith("data:") or link[1:] in page.ids, link
    files = [link for link in page.links if link.startswith("data:text/csv")]
    texts = [base64.b64decode(link.partition("base64,")[2]).decode() for link in files]
    assert csv_text(inputs.matched.best) in texts
    assert len(texts) == 3


def test_every_reference_inside_the_figures_is_there(run_folder: Path, page: Page) -> None:
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    references = set(re.findall(r"url\(#([^)]+)\)", text))
    assert references
    assert references <= set(page.ids)


def test_sources_are_labelled_and_facts_are_shown(page: Page, inputs: ReportInputs) -> None:
    for words in (
        "EMULATED",
        "PREDICTED",
        "STUDY LATENCIES",
        "UNRELIABLE",
        "killed by signal 9",
        "asimddp",
        "0c1e57098",
        "Q8_0 is also the faster one",
        "No study latency for Q3_K_M, Q4_K_M",
        "an emulator's seconds are not a chip's",
        "The profile says 4 cores, the board had 1",
        "Follow <this> pattern & \\boxed{}.",
        inputs.manifest.models[0].sha256,
    ):
        assert words in page.text, words
    assert "None" not in page.text
    assert "nan" not in re.findall(r"[a-z]+", page.text)


def test_every_figure_of_seconds_says_where_they_come_from(run_folder: Path) -> None:
    figures = sorted((run_folder / "figures").glob("*seconds*.svg"))
    assert len(figures) == 15
    for path in figures:
        label = re.search(r"(emulated|predicted|study latencies)", path.read_text())
        assert label
        assert label.group().split()[0] in path.name


def test_figures_are_xml_with_the_data_beside_them(run_folder: Path) -> None:
    svgs = sorted((run_folder / "figures").glob("*.svg"))
    assert len(svgs) == 25
    for path in svgs:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert "nan" not in path.read_text().lower().split()
        assert len(pd.read_csv(path.with_suffix(".csv"))) > 0


def test_a_run_folder_is_drawn_again_the_same(run_folder: Path, tmp_path: Path) -> None:
    write_report(tmp_path, load_run(run_folder))
    first = (run_folder / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == first


def test_hostile_texts_are_escaped(inputs: ReportInputs, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    values = json.loads(inputs.manifest.model_dump_json())
    values["experiment"]["name"] = hostile
    values["board"]["facts"] = {hostile: hostile}
    values["prompts"] = [{"name": hostile, "system": hostile}]
    assert inputs.answers is not None
    changed = ReportInputs(
        RunManifest.model_validate(values),
        inputs.latency,
        inputs.answers.assign(
            text=hostile,
            token_texts=[[hostile, *[""] * (len(ids) - 1)] for ids in inputs.answers["token_ids"]],
        ),
        inputs.questions,
        inputs.matched,
    )
    text = write_report(tmp_path, changed).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert Page(text).open == []


def test_settings_are_written_for_people(inputs: ReportInputs, tmp_path: Path) -> None:
    values = json.loads(inputs.manifest.model_dump_json())
    values["generation"]["strategies"] = [
        {"name": "truncate"},
        {"name": "stated", "budgets": [16, 64]},
    ]
    changed = dataclasses.replace(inputs, manifest=RunManifest.model_validate(values))
    page = Page(write_report(tmp_path, changed).read_text(encoding="utf-8"))
    assert "name truncate; name stated, budgets 16, 64" in page.text


def test_a_run_without_answers_or_models_or_facts_is_still_drawn(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    bare = inputs.manifest.model_copy(
        update={"models": [], "prompts": [], "stages": [], "generation": {}}
    )
    path = write_report(tmp_path, ReportInputs(bare, inputs.latency, None, None, inputs.matched))
    assert Page(path.read_text(encoding="utf-8")).open == []


def test_what_is_no_run_folder_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        load_run(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    with pytest.raises(ArtefactError, match="created"):
        load_run(tmp_path)
    values = json.loads((run_folder / "manifest.json").read_text())
    manifest.write_text(json.dumps({**values, "schema_version": 99}))
    with pytest.raises(ArtefactError, match="schema version 99"):
        load_run(tmp_path)
    manifest.write_text(json.dumps(values))
    with pytest.raises(DataFrameError, match=r"latency\.parquet"):
        load_run(tmp_path)
    (tmp_path / "latency.parquet").write_text("no Parquet")
    with pytest.raises(DataFrameError, match="Parquet"):
        load_run(tmp_path)


def edgequant(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from edgequant.cli.app import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_verb_report(run_folder: Path, tmp_path: Path) -> None:
    done = edgequant("report", run_folder, "--out", tmp_path / "new", "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["report"]).is_file()
    # Beside the run, its manifest is not touched; in it, it tells the new files' hashes.
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    assert edgequant("report", copy).returncode == 0
    records = json.loads((copy / "manifest.json").read_text())["files"]
    assert records["report.html"]["sha256"] == sha256_file(copy / "report.html")
    assert "figures/latency.csv" in records
    assert "manifest.json" not in records
    done = edgequant("report", tmp_path)
    assert done.returncode == ArtefactError.exit_code
    assert "Next step" in done.stderr


def test_the_verb_match(run_folder: Path, tmp_path: Path) -> None:
    answers, latency = run_folder / "answers.parquet", run_folder / "latency.parquet"
    questions = run_folder / "questions.parquet"
    done = edgequant(
        "match", "--answers", answers, "--questions", questions, "--latency", latency,
        "--study", "--budget", "50",
        "--time-limit", "5", "--time-limit", "7200", "--out", tmp_path / "m",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "EMULATED" in done.stdout
    assert "STUDY LATENCIES" in done.stdout
    matched = pd.read_csv(tmp_path / "m" / "matched.csv")
    assert set(matched["latency_source"]) == {"emulated", "study"}
    assert 50 in pd.read_csv(tmp_path / "m" / "budgets.csv")["cut_tokens"].to_list()
    assert "cannot be told apart" in done.stdout
    assert "as good" not in done.stdout
    assert pd.read_csv(tmp_path / "m" / "best.csv")["time_limit_seconds"].to_list() == [
        5.0, 7200.0, 5.0, 7200.0,
    ]  # fmt: skip


def test_the_verb_match_names_what_is_missing(run_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "answers.parquet"
    answers = run_folder / "answers.parquet"
    pd.read_parquet(answers).drop(columns="token_texts").to_parquet(broken)
    questions = ("--questions", run_folder / "questions.parquet")
    out = tmp_path / "m"
    done = edgequant("match", "--answers", broken, "--study", *questions, "--out", out, "--json")
    assert done.returncode == DataFrameError.exit_code
    problem = json.loads(done.stdout)
    assert "token_texts" in problem["cause"]
    assert problem["subject"] == str(broken)
    assert not out.exists()
    assert edgequant("match", "--answers", broken, *questions, "--out", out).returncode == 2
    done = edgequant(
        "match", "--answers", answers, "--latency", broken, *questions, "--out", out, "--json"
    )
    problem = json.loads(done.stdout)
    assert done.returncode == DataFrameError.exit_code
    assert problem["subject"] == str(broken)
    assert "seconds" in problem["cause"]
    done = edgequant("match", "--answers", tmp_path / "none", "--study", *questions, "--out", out)
    assert done.returncode == DataFrameError.exit_code
    assert not out.exists()


@pytest.mark.parametrize("verb", ["match", "report"])
def test_help_has_an_example(verb: str) -> None:
    assert "Example: edgequant" in edgequant(verb, "--help").stdout


def test_the_first_screen_says_what_the_seconds_are(page: Page) -> None:
    first = page.text[: page.text.index("Every question and answer")]
    assert "Seconds read on a virtual board" in first
    assert "seconds computed for a real board that nobody timed here" in first
    assert "the per-token seconds that the study recorded" in first
    assert "Q8_0 is also the faster one" in first
    # The virtual board's clock stands first, and does not speak for the real one.
    assert first.index("On an emulated board") < first.index("On rk3568, as computed")
    assert "A real rk3568 is better described by the seconds computed for it" in first


def test_words_that_only_we_know_are_explained_where_they_first_stand(page: Page) -> None:
    answer = page.text[page.text.index("The answer") :]
    explained = "the prompt names a part of that budget"
    first = re.search(r"budget of \d+ tokens stated", answer)
    assert first
    assert answer[first.end() :].lstrip().startswith(f"({explained}")
    assert answer.count(explained) == 1


def test_a_counting_clock_is_told(inputs: ReportInputs, tmp_path: Path) -> None:
    experiment = inputs.manifest.experiment.model_copy(
        update={"parameters": {"measure": {"clock": "instructions"}}}
    )
    manifest = inputs.manifest.model_copy(update={"experiment": experiment})
    changed = ReportInputs(manifest, inputs.latency, None, None, inputs.matched)
    text = Page(write_report(tmp_path, changed).read_text(encoding="utf-8")).text
    assert "1 ns for each instruction that its one core executes" in text
    assert "instruction counts are no seconds" in text
    assert "its clock counts instructions, which needs a machine that runs one core" in text


def test_one_question_and_one_quantization_are_enough(tmp_path: Path) -> None:
    answers, gold = synthetic_answers(1, skill={"Q8_0": 0.9}, stated_budgets=())
    full = report_inputs(20)
    for mistaken in (False, True):
        questions = gold.assign(expected_answer="-1") if mistaken else gold
        paces = [p for p in full.manifest.paces if p.source == "emulated"]
        matched = match(answers, questions, paces, ())
        inputs = ReportInputs(full.manifest, full.latency, answers, questions, matched)
        path = write_report(tmp_path, inputs)
        text = path.read_text(encoding="utf-8")
        assert Page(text).open == []
        assert ("No quantization overtakes another" in text) is not mistaken
        assert ("None of the 2 answers is right" in text) is mistaken
        assert "time limits asked for" not in text


def test_the_drawn_data_is_the_matched_data(run_folder: Path, inputs: ReportInputs) -> None:
    for source in ("emulated", "predicted", "study"):
        path = run_folder / "figures" / f"accuracy-seconds-{source}-cot-truncate.csv"
        drawn = read_csv(path, MATCHED)
        table = inputs.matched.matched
        # One configuration: its best accuracy within a time is its own.
        own = {"latency_source": source, "prompt": "cot", "strategy": "truncate"}
        expected = table[(table[list(own)] == list(own.values())).all(axis=1)]
        assert_frame_equal(drawn, expected.reset_index(drop=True))


def test_names_that_mislead_are_told_and_explain_nothing(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    models = [
        m.model_copy(
            update={
                "tensors": {"Q4_0": 180, "Q3_K": 30},
                "weight_share": {"Q4_0": 0.8, "Q3_K": 0.2},
                "holds_named_type": m.quantization != "Q2_K",
            }
        )
        for m in inputs.manifest.models
    ]
    note = "Q2_K holds no Q2_K tensor: 180 Q4_0, 30 Q3_K"
    manifest = inputs.manifest.model_copy(update={"models": models, "model_notes": [note]})
    changed = ReportInputs(manifest, inputs.latency, None, None, inputs.matched)
    text = Page(write_report(tmp_path, changed).read_text(encoding="utf-8")).text
    assert note in text
    assert "180 Q4_0 (80 %), 30 Q3_K (20 %)" in text
    # Beside every row: the best choices, each source's seconds, latency and models.
    assert text.count("Q2_K NAME ONLY") > 4
    assert "Q8_0 NAME ONLY" not in text
    assert "Q2_K's weights" not in text
    assert "what they really hold" in text


def test_two_names_of_the_same_tensors_have_no_speed_to_explain(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    first = inputs.manifest.models[0].quantization
    models = [
        m.model_copy(update={"same_as": None if m.quantization == first else first})
        for m in inputs.manifest.models
    ]
    manifest = inputs.manifest.model_copy(update={"models": models})
    changed = ReportInputs(manifest, inputs.latency, None, None, inputs.matched)
    text = Page(write_report(tmp_path, changed).read_text(encoding="utf-8")).text
    assert "is also the faster one" not in text
    assert f"Q8_0 = {first}" in text


def test_a_run_of_before_boxes_were_counted_is_drawn_again(
    run_folder: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(run_folder, older)
    scores = pd.read_csv(older / "scores.csv", dtype=str).drop(columns="boxed")
    scores.to_csv(older / "scores.csv", index=False)
    loaded = load_run(older)
    assert loaded.matched.scores["boxed"].isna().all()
    write_report(older, loaded)


def test_a_run_folder_can_be_matched_again_from_itself(
    inputs: ReportInputs, run_folder: Path
) -> None:
    tables = [read_table(run_folder / schema.file, schema) for schema in (ANSWERS, QUESTIONS)]
    limit = inputs.manifest.experiment.parameters["evaluation"]
    assert isinstance(limit, dict)
    again = match(*tables, inputs.manifest.paces, limit["budgets"])
    assert again.matched.equals(inputs.matched.matched)
    assert again.crossovers.equals(inputs.matched.crossovers)


def test_agreement_and_composite_scores_are_shown_where_a_run_has_them(
    inputs: ReportInputs, tmp_path: Path
) -> None:
    values = json.loads(inputs.manifest.model_dump_json())
    group = {"quantization": "Q2_K", "prompt": "cot", "strategy": "truncate", "budget_tokens": None}
    values["generation"]["reference"] = {
        "answers": 32, "same": 31, "share_of_tokens": 0.9945,
        "different": [{**group, "question_id": "0007-x", "common_tokens": 3}],
        "groups": [{**group, "answers": 8, "same": 7}],
    }  # fmt: skip
    values["composite"] = [
        {"quantization": "Q2_K", "base": "F16", "score": 0.625, "accuracy": 0.485,
         "compression": 5.25, "ttft_speedup": 1.5, "tpot_speedup": 2.5, "tasks": {}},
    ]  # fmt: skip
    changed = ReportInputs(
        RunManifest.model_validate(values), inputs.latency, None, None, inputs.matched
    )
    text = Page(write_report(tmp_path, changed).read_text(encoding="utf-8")).text
    assert "31 of 32 answers are the same to the last token; 99.5 % of the tokens" in text
    assert "0007-x" not in text
    assert "than with F16" in text
    assert "0.62548.5 %5.25×1.50×2.50×" in text


def quality_rows(text: str) -> list[dict[str, object]]:
    common = {
        "text": text, "tokens": 2498, "passages": 9, "perplexity": 7.5, "perplexity_error": 0.2,
        "reference_perplexity": 7.25, "reference_perplexity_error": 0.2, "perplexity_ratio": 1.03,
        "perplexity_ratio_error": 0.0066, "divergence_error": 0.016, "median_divergence": 0.05,
        "p99_divergence": 0.8, "same_top": 0.7106, "same_top_error": None,
        "reference_sha256": "ab" * 32, "model_sha256": "cd" * 32, "text_sha256": "ef" * 32,
    }  # fmt: skip
    return [
        {**common, "quantization": q, "bytes": size, "bits_per_weight": size / 1e6,
         "divergence": divergence, "on_front": front}
        for q, size, divergence, front in (
            ("Q8_0", 7_000_000, 0.002, True),
            ("Q2_K", 2_500_000, 0.787, True),
            ("Q4_K_M", 8_000_000, 0.104, False),
        )
    ]  # fmt: skip


def test_quality_beside_the_run_is_on_the_page(run_folder: Path, tmp_path: Path) -> None:
    assert load_run(run_folder).quality is None
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    rows = quality_rows("chat <b>.txt") + quality_rows("answers of Q8_0")
    write_csv(make_table(rows, QUALITY), folder / QUALITY.file, QUALITY)
    page = Page(write_report(folder, load_run(folder)).read_text(encoding="utf-8"))
    assert page.open == []
    assert "#quality" in page.links and "quality" in page.ids
    assert {"figure-quality-1-chat-b-txt", "figure-quality-2-answers-of-q8-0"} <= set(page.ids)
    for words in ("chat <b>.txt", "2498 tokens in 9 passages", "0.787", "± 0.016", "71.1 %"):
        assert words in page.text, words
    assert (folder / "figures" / "quality-1-chat-b-txt.csv").is_file()
