"""The page in a real browser: alone, quiet, on every screen, with every answer at hand."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import make_table, records
from edgequant.matching.curves import draw_curve
from edgequant.matching.groups import group_answers
from edgequant.report.page import write_report
from edgequant.report.run import ReportInputs
from tests.report.synthetic_run import report_inputs

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<img src=x onerror=\"document.title='hit'\"></script>"


@pytest.fixture(scope="module")
def inputs() -> ReportInputs:
    """A run with a closed answer, a failed one and a hostile one."""
    full = report_inputs(60)
    assert full.answers is not None
    rows = records(full.answers)
    plain = [r for r in rows if r["budget_tokens"] is None and r["prompt"] == "cot"]
    plain[3].update(closing_start=7, closing_tokens=5)
    plain[4].update(token_ids=[], token_texts=[], text="", stop_reason="failed")
    pieces = [HOSTILE, *["🙂"] * (len(plain[5]["token_ids"]) - 1)]
    plain[5].update(token_texts=pieces, text="".join(pieces))
    assert full.questions is not None
    questions = [
        {**row, "family": "even" if place % 2 else "odd"}
        for place, row in enumerate(records(full.questions))
    ]
    return dataclasses.replace(
        full, answers=make_table(rows, ANSWERS), questions=make_table(questions, QUESTIONS)
    )


@pytest.fixture(scope="module")
def page_file(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = write_report(tmp_path_factory.mktemp("run"), inputs)
    # It travels alone.
    return shutil.copy(drawn, tmp_path_factory.mktemp("alone") / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium; apt-get install chromium")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Visit:
    """One visit to the page, with all that the browser says and asks for."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, **settings: Any) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def explore(self) -> Any:
        self.page.locator("#questions").scroll_into_view_if_needed()
        self.page.wait_for_selector("#explorer[data-ready]", timeout=60_000)
        return self.page

    def overflow(self) -> int:
        """By how many pixels the document is wider than the screen."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


def test_no_network_no_message_no_markup_of_strangers(browser: Any, page_file: Path) -> None:
    visit = Visit(browser, page_file)
    page = visit.explore()
    page.locator('[name="way"]').select_option("")
    page.locator('[name="search"]').fill("onerror")
    page.wait_for_function("document.querySelectorAll('.matrix tbody tr').length === 1")
    page.locator(".matrix tbody button").click()
    assert HOSTILE in page.locator(".detail .cards").inner_text()
    assert page.locator(".detail img").count() == 0
    assert page.title() != "hit"
    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert sum(url.startswith("file:") for url in visit.asked) == 1


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_off_the_screen(browser: Any, page_file: Path, width: int) -> None:
    visit = Visit(browser, page_file, width)
    page = visit.explore()
    assert visit.overflow() == 0
    page.locator(".matrix tbody button").first.click()
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true; }")
    assert visit.overflow() == 0


def test_a_phone_shows_the_whole_best_table_and_readable_figures(
    browser: Any, page_file: Path
) -> None:
    page = Visit(browser, page_file, 390).page
    cells = page.locator("#best ~ .scroll").first.locator("tbody tr").nth(1).locator("th, td")
    assert cells.count() == 9
    for cell in cells.all():
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('figure svg text')].map((text) => {
          const svg = text.ownerSVGElement;
          const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
          return parseFloat(getComputedStyle(text).fontSize) * scale;
        }).filter((size) => size > 0)"""
    )
    assert len(sizes) > 100
    assert min(sizes) >= 11


def test_every_grade_is_the_one_that_matching_gives_at_that_time(
    browser: Any, page_file: Path, inputs: ReportInputs
) -> None:
    assert inputs.answers is not None
    assert inputs.questions is not None
    page = Visit(browser, page_file).explore()
    page.locator('[name="way"]').select_option("")
    page.locator('[name="order"]').select_option("file")
    paces = {p.quantization: p for p in inputs.manifest.paces if p.source == "emulated"}
    groups = group_answers(inputs.answers, inputs.questions)
    for limit in (2.5, 3.7, 5.0, 9.0):
        page.locator('[name="seconds"]').fill(str(limit))
        page.locator('[name="seconds"]').press("Enter")
        page.locator('[name="seconds"]').blur()
        page.wait_for_timeout(200)
        shown = page.locator(".matrix thead .share").all_inner_texts()
        expected = [
            f"{100 * draw_curve(g, paces[g.quantization], 'seconds').right_at(np.array([limit])).mean():.1f} %"  # noqa: E501
            for g in sorted(groups, key=lambda g: list(paces).index(g.quantization))
        ]
        assert shown == expected, limit


def test_one_goes_down_to_an_answer_cut_in_time_by_the_keyboard_alone(
    browser: Any, page_file: Path
) -> None:
    page = Visit(browser, page_file).explore()
    page.locator('[name="seconds"]').fill("5")
    page.locator('[name="seconds"]').press("Tab")
    first = page.locator(".matrix tbody button").first
    first.focus()
    page.keyboard.press("Enter")
    detail = page.locator(".detail")
    assert "answers cut at 5.00 s" in detail.inner_text()
    assert detail.evaluate("element => element === document.activeElement")
    cards = page.locator(".card")
    assert cards.count() == 8
    assert cards.locator(".cut").count() > 0
    for part in ("tokens; the whole answer takes", "exact ", "lenient ", "qwen "):
        assert part in cards.first.inner_text()
    question = detail.locator("h3").inner_text()
    detail.get_by_role("button", name="Next").press("Enter")
    assert detail.locator("h3").inner_text() != question
    detail.get_by_role("button", name="Close").press("Enter")
    assert detail.is_hidden()


def test_what_was_put_into_an_answer_and_what_failed_is_told(
    browser: Any, page_file: Path, inputs: ReportInputs
) -> None:
    page = Visit(browser, page_file).explore()
    assert page.locator("td.failed").count() == 1
    page.locator('[name="verdict"]').select_option("odd")
    page.wait_for_timeout(200)
    page.locator("td.failed").locator("xpath=..").locator("button").click()
    assert "no mirror gave an answer" in page.locator(".card.failed").inner_text()
    page.get_by_role("button", name="Close").click()
    page.locator('[name="verdict"]').select_option("")
    assert inputs.answers is not None
    closed = records(inputs.answers[inputs.answers["closing_start"].notna()])[0]
    page.locator('[name="search"]').fill(closed["question_id"])
    page.wait_for_timeout(200)
    page.locator(".matrix tbody button").first.click()
    given = "".join(page.locator(".card .given").all_inner_texts())
    assert given == "".join(closed["token_texts"][7:12])


def test_filters_leave_what_they_name(browser: Any, page_file: Path) -> None:
    page = Visit(browser, page_file).explore()

    def rows() -> int:
        page.wait_for_timeout(200)
        return int(page.locator('[data-place="count"]').inner_text().split()[0])

    everything = rows()
    assert everything == 60
    page.locator('[name="family"]').select_option("odd")
    assert rows() == 30
    page.locator('[name="family"]').select_option("")
    page.locator('[name="verdict"]').select_option("all-right")
    right = rows()
    page.locator('[name="verdict"]').select_option("wrong")
    assert 0 < rows() == everything - right
    states = page.locator(".matrix tbody tr").first.locator("td").all_inner_texts()
    wrong = sum("✓" not in state for state in states)
    last = page.locator(".matrix tbody tr").last.locator("td").all_inner_texts()
    assert wrong >= sum("✓" not in state for state in last) > 0
    page.locator('[name="quantization"]').select_option("Q8_0")
    rows()
    assert page.locator(".matrix thead .configuration").count() == 2
    page.locator('[name="clock"]').select_option(index=2)
    page.locator('[name="quantization"]').select_option("Q4_K_M")
    rows()
    # The study knows no seconds of it.
    assert "0 of 32 configurations" in page.locator('[data-place="count"]').inner_text()


def test_dark_mode_is_dark_all_over(browser: Any, page_file: Path) -> None:
    page = Visit(browser, page_file, color_scheme="dark").explore()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    # Contrast of every kind of text against what is behind it, as WCAG counts it.
    ratios = page.evaluate(
        """() => {
          const light = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => {
              const s = v / 255;
              return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const behind = (element) => {
            for (let at = element; at; at = at.parentElement) {
              const colour = getComputedStyle(at).backgroundColor;
              if (!colour.endsWith(', 0)')) return colour;
            }
            return 'rgb(255, 255, 255)';
          };
          const found = {};
          for (const name of ['p', '.muted', '.label', '.note', 'td', 'th', 'a', 'dt', '.interval',
                              'td.right', 'td.wrong', '.caution', 'button', 'select']) {
            const element = document.querySelector(`main ${name}`);
            const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
            found[name] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          }
          return found;
        }"""
    )
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
    inks = page.evaluate(
        "[...document.querySelectorAll('figure svg text')].map((t) => getComputedStyle(t).fill)"
    )
    assert set(inks) == {"rgb(230, 233, 237)"}


def test_paper_has_everything_but_the_table_that_needs_a_screen(
    browser: Any, page_file: Path, tmp_path: Path
) -> None:
    visit = Visit(browser, page_file, color_scheme="dark")
    page = visit.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#questions").is_hidden()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    page.pdf(path=str(tmp_path / "page.pdf"))
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_without_a_script_all_but_the_explorer_is_there(browser: Any, page_file: Path) -> None:
    page = Visit(browser, page_file, java_script_enabled=False).page
    assert "needs JavaScript" in page.locator("noscript").inner_text()
    assert page.locator("figure svg").count() >= 25
    assert page.locator("#answer").inner_text().count("Take Q") == 3


def test_what_is_seen_is_also_said(browser: Any, page_file: Path) -> None:
    page = Visit(browser, page_file).explore()
    problems = page.evaluate(
        """() => [
          ...[...document.querySelectorAll('table')].filter((t) => t.tHead).flatMap((t) =>
            [...t.querySelectorAll('th')].filter((th) => !th.scope)),
          ...[...document.querySelectorAll('figure svg')].filter((s) =>
            s.getAttribute('role') !== 'img' || !/\\d/.test(s.getAttribute('aria-label'))),
          ...[...document.querySelectorAll('select, input')].filter((f) => !f.labels.length),
          ...[...document.querySelectorAll('td.state')].filter((s) =>
            !s.querySelector('.unseen').textContent),
        ].map((e) => e.outerHTML.slice(0, 200))"""
    )
    assert problems == []
    label = page.locator("#figure-best-seconds-emulated svg").get_attribute("aria-label")
    assert "Q8_0" in label
    assert " % within " in label
