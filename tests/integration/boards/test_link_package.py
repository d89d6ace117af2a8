"""A link of another package: the one that docs/adding-a-link.md shows, installed and used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edgequant.boards.profile import load_profile

pytestmark = pytest.mark.integration
PAGES = Path(__file__).parents[3] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the page's package in it, as an installer would lay it out."""
    folder = tmp_path / "site"
    info = folder / "boards_nice-1.0.dist-info"
    info.mkdir(parents=True)
    (module,) = blocks("adding-a-link.md", "python")
    (folder / "boards_nice.py").write_text(module)
    project = tomllib.loads(blocks("adding-a-link.md", "toml")[0])["project"]
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    folder = json.dumps(str(tmp_path / "board"))
    path.write_text(f"remote_folder = {folder}\n" + blocks("adding-a-link.md", "toml")[1])
    return path


def call(site: Path | None, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [*([str(site)] if site else []), str(PAGES.parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


CLI = "from edgequant.cli.app import main; main()"
RUN = """\
import sys
from edgequant.boards.board import open_board
from edgequant.boards.profile import load_profile
with open_board(load_profile(sys.argv[1])) as board:
    print(board.run("nice; exit 0").stdout, end="")
"""


def test_deploy_and_facts_go_through_it(installed: Path, profile: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(os.urandom(300_000))
    sent = call(installed, CLI, "deploy", str(profile), str(model), "--json")
    assert sent.returncode == 0, sent.stderr
    there = Path(json.loads(sent.stdout)["entries"][str(model)]["remote_path"])
    assert there.is_relative_to(tmp_path / "board")
    assert there.read_bytes() == model.read_bytes()
    facts = call(installed, CLI, "board", "facts", str(profile), "--json")
    assert json.loads(facts.stdout)["cores"] >= 1, facts.stderr
    shown = call(installed, CLI, "board", "show", str(profile), "--json")
    assert json.loads(shown.stdout)["nice.level"] == 10, shown.stderr


def test_its_section_reaches_the_command(installed: Path, profile: Path) -> None:
    here = int(subprocess.run(["nice"], capture_output=True, check=True).stdout)
    done = call(installed, RUN, str(profile))
    assert done.stdout == f"{min(here + 10, 19)}\n", done.stderr


def test_mistakes_in_its_section_are_named(installed: Path, profile: Path) -> None:
    profile.write_text(profile.read_text().replace("level = 10", "level = -1"))
    done = call(installed, CLI, "board", "facts", str(profile))
    assert done.returncode == 15
    assert "nice.level" in done.stderr


def test_without_the_package_the_known_links_are_named(profile: Path) -> None:
    done = call(None, CLI, "board", "facts", str(profile))
    assert done.returncode == 15
    assert "no link 'nice'; known are ssh, local, adb, hdc" in done.stderr


def test_a_package_that_cannot_be_imported(installed: Path, profile: Path) -> None:
    (installed / "boards_nice.py").write_text("import nothing_of_that_name\n")
    done = call(installed, CLI, "board", "facts", str(profile))
    assert done.returncode == 15
    assert "the link 'nice' cannot be loaded" in done.stderr


@pytest.mark.parametrize("number", range(len(blocks("adding-a-board.md", "toml"))))
def test_the_profiles_of_the_other_page(tmp_path: Path, number: int) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(blocks("adding-a-board.md", "toml")[number])
    assert load_profile(str(path)).name == "mine"
