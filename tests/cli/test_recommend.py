"""``recommend`` on a run folder: what it prints, its JSON, and the command it names."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from edgequant.cli.recommend import PROMPTS_FOLDER, command
from edgequant.core.errors import DataFrameError
from edgequant.report.run import load_run
from tests.report.synthetic_run import report_inputs, write_run_folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    # What another process is just making has a lock there, which is no artefact.
    models = tmp_path / "cache" / "artefacts" / "models"
    models.mkdir(parents=True)
    (models / "0123456789abcdef.lock").touch()
    return write_run_folder(tmp_path / "run", report_inputs(40))


def asked(
    run: Path, capsys: pytest.CaptureFixture[str], source: str | None
) -> list[dict[str, object]]:
    command(run, [1e9, 1e-9], source, True)
    return list(json.loads(capsys.readouterr().out))


def test_each_limit_and_source_has_an_answer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(run, capsys, None)
    sources = {p.source for p in load_run(run).manifest.paces}
    assert {(f["latency_source"], f["seconds"]) for f in found} == {
        (source, seconds) for source in sources for seconds in (1e-9, 1e9)
    }
    for one in found:
        assert (one["quantization"] is None) == (one["seconds"] == 1e-9)
        assert (one["command"] is None) == (
            one["quantization"] is None or one["latency_source"] == "study"
        )


def test_the_command_names_board_model_and_a_prompt_that_is_there(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = asked(run, capsys, "emulated")
    words = shlex.split(str(found["command"]))
    manifest = load_run(run).manifest
    assert words[:3] == ["edgequant", "measure", manifest.board.name]
    prompt = Path(words[words.index("--prompt-file") + 1])
    assert prompt.parent == run / PROMPTS_FOLDER
    assert prompt.is_file()
    assert f"{PROMPTS_FOLDER}/{prompt.name}" in manifest.files
    assert int(words[words.index("-n") + 1]) == found["max_tokens"]


def test_words_for_people(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(run, [1e-9, 1e9], "emulated", False)
    out = capsys.readouterr().out
    assert "nothing is right so soon" in out
    assert "next best: " in out
    assert "edgequant measure" in out


def test_a_source_that_the_run_has_not_is_named(run: Path) -> None:
    with pytest.raises(DataFrameError, match="no measured seconds, but emulated"):
        command(run, [1.0], "measured", False)
