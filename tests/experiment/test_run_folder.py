"""The run folder: what is refused before any work, and what of an earlier run is taken away."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from edgequant.core.errors import FileAccessError
from edgequant.experiment.run_folder import RunFolder, _write_models
from edgequant.report.run import ModelRecord


def test_a_folder_is_made_at_once(tmp_path: Path) -> None:
    RunFolder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_a_file_is_no_run_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(FileAccessError, match="--out"):
        RunFolder(tmp_path / below)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(FileAccessError, match="/proc"):
        RunFolder(Path("/proc/edgequant-run"))
    with pytest.raises(FileAccessError, match="/proc"):
        RunFolder(Path("/proc"))


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_what_is_not_a_run_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"name": "another project"}))
    with pytest.raises(FileAccessError, match="holds no run"):
        RunFolder(tmp_path)


@pytest.mark.parametrize("name", ["latency.parquet", "latency.parquet.0badcafe-1.partial"])
def test_a_run_that_was_cut_short_is_taken_up(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    RunFolder(tmp_path)


def test_a_run_is_known_by_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"latency_models": []}))
    (tmp_path / "report.html").touch()
    RunFolder(tmp_path)


def test_what_a_file_holds_stands_in_its_row(tmp_path: Path) -> None:
    record = ModelRecord(
        quantization="Q2_K",
        bytes=1000,
        bits_per_weight=5.14,
        sha256="ab",
        tensors={"Q4_0": 180, "Q3_K": 30},
        weight_share={"Q4_0": 0.8, "Q3_K": 0.2},
        holds_named_type=False,
    )
    other = record.model_copy(update={"quantization": "Q3_K_S", "same_as": "Q2_K"})
    _write_models(tmp_path / "models.csv", [record, other])
    with (tmp_path / "models.csv").open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first["tensors"] == "180 Q4_0, 30 Q3_K"
    assert first["weight_share"] == "0.8 Q4_0, 0.2 Q3_K"
    assert first["bits_per_weight"] == "5.14"
    assert (first["holds_named_type"], first["same_as"]) == ("False", "")
    assert second["same_as"] == "Q2_K"
