"""``import edgequant``: light, complete, and as docs/python.md shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgequant
from edgequant.core.paths import data_folder
from tests.python_page import examples
from tests.report.synthetic_run import report_inputs, write_run_folder


def test_importing_it_costs_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import edgequant; "
        "print([m for m in set(sys.modules) - before if not m.startswith(('edgequant', '_'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "pydantic", "rich"} & set(done.stdout.split("'"))


@pytest.mark.parametrize("name", [n for n in edgequant.__all__ if not n.startswith("_")])
def test_every_public_name_is_there_and_explained(name: str) -> None:
    assert (getattr(edgequant, name).__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgequant.nothing


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_run_folder(tmp_path / "runs" / "demo", report_inputs(20))


def test_the_examples_of_reading_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(examples("A run that is there"), {})
    printed = capsys.readouterr().out
    assert "demo virtual" in printed
    assert "time_limit_seconds" in printed


def test_a_run_has_its_tables(folder: Path) -> None:
    run = edgequant.load_run(folder)
    assert len(run.questions) == 20
    assert set(run.scores["quantization"]) == set(run.answers["quantization"])
    assert {"emulated", "predicted", "study"} == set(run.matched["latency_source"])
    assert len(run.latency) > 100
    assert run.crossovers is not None
    assert run.manifest.experiment.name == "demo"


def test_the_example_of_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (data_folder("experiments") / "demo_model" / "model" / "model.safetensors").is_file():
        pytest.skip("the demo model's weights are not here")
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path))
    exec(examples("What a sweep would do"), {"edgequant": edgequant})
    assert "would run" in capsys.readouterr().out
