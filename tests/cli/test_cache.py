"""``edgequant cache``: what it prints, and that it removes only what it was asked to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgequant.cli.app import make_app


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    for name in ("old", "new"):
        (root / "sources" / name).mkdir(parents=True)
        (root / "sources" / name / "file").write_text("x" * 5000)
    os.utime(root / "sources" / "old", (0, 0))
    monkeypatch.setenv("EDGEQUANT_CACHE", str(root))
    return root


def run(*arguments: str) -> Any:
    words = ["cache", *arguments]
    return CliRunner().invoke(make_app(words), words)


def test_listing(cache: Path) -> None:
    listed = json.loads(run("ls", "--json").stdout)
    assert [(entry["kind"], entry["name"]) for entry in listed] == [
        ("sources", "new"),
        ("sources", "old"),
    ]
    assert "old" in run("ls").stdout


def test_a_dry_run_removes_nothing(cache: Path) -> None:
    result = run("prune", "--older-than", "30d", "--dry-run")
    assert "would be removed" in result.stdout
    assert (cache / "sources" / "old").exists()
    removed = run("prune", "--older-than", "30d", "--json")
    assert json.loads(removed.stdout)["paths"] == [str(cache / "sources" / "old")]
    assert not (cache / "sources" / "old").exists()
    assert (cache / "sources" / "new").exists()


@pytest.mark.parametrize("arguments", [(), ("--older-than", "soon")])
def test_nothing_goes_by_mistake(cache: Path, arguments: tuple[str, ...]) -> None:
    assert run("prune", *arguments).exit_code == 2
    assert (cache / "sources" / "old").exists()
