"""The docs: every link leads somewhere, every verb has its page, every page is linked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edgequant.cli.app import VERBS

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def tracked(pattern: str) -> list[Path]:
    """Files of the repository, without those that nobody committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def links(page: Path) -> list[tuple[Path, str]]:
    """Files that a page links to, and the heading meant, "" for the whole page."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    found = [target for target in LINK.findall(text) if "://" not in target]
    parts = [target.partition("#") for target in found]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in parts]


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


PAGES = tracked("*.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(target), f"{target.name} has no heading #{anchor}"


def test_every_page_of_the_docs_is_linked() -> None:
    linked = {target for page in PAGES for target, _ in links(page) if target != page}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages, "there are docs"
    assert {str(page.relative_to(ROOT)) for page in pages - linked} == set()


def test_every_verb_has_a_page_and_every_page_a_verb() -> None:
    verbs = set(VERBS)
    pages = {page.stem for page in (ROOT / "docs" / "verbs").glob("*.md")}
    assert pages == verbs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_the_docs_name_are_there(page: Path) -> None:
    """Names in code that begin with a folder of this repository."""
    text = page.read_text(encoding="utf-8")
    if page.name == "CHANGELOG.md":
        pytest.skip("tells of what was there once")
    named = re.findall(r"`((?:edgequant|docs|tests|scripts|schemas|toolchain)/[\w./-]*)`", text)
    there = [name for name in named if (ROOT / name).exists() or "NAME" in name]
    assert there == named


def test_the_map_has_every_folder() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = {
        f"edgequant/{path.parent.name}/" for path in (ROOT / "edgequant").glob("*/__init__.py")
    }
    listed = set(re.findall(r"^\| `(edgequant/\w+/)`", text, re.MULTILINE))
    assert listed == folders


def test_folders_of_tests_mirror_the_package() -> None:
    """Or are of the few that stand for no folder of the package."""
    others = {"integration", "benchmarks", "demo_model", "smollm2"}
    for path in tracked("tests/*/test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests")
        if folder.parts and folder.parts[0] not in others:
            assert (ROOT / "edgequant" / folder).is_dir(), f"edgequant/{folder} does not exist"
