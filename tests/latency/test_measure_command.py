"""``edgequant measure``: what it prints, and how it ends."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import edgequant.boards.session
import edgequant.build.build
import edgequant.models.formats.gguf
from edgequant.boards.profile import BoardProfile
from edgequant.cli.app import make_app
from edgequant.core.errors import EdgequantError, ProfileError, PromptError
from edgequant.latency import measure as measure_module
from edgequant.latency.measure import DEFAULT_PROMPT

WHOLE = (Path(__file__).parent / "recorded" / "whole_run.jsonl").read_text().splitlines()
PROFILE = 'kind = "ssh"\n[build]\ntarget = "t"\n[ssh]\nhost = "nowhere"\n'


class FakeBoard:
    def __init__(self, profile: BoardProfile) -> None:
        self.profile = profile
        self.clock = "host"

    def __enter__(self) -> FakeBoard:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stream(
        self, command: str, on_line: Callable[[str], None], **_options: object
    ) -> SimpleNamespace:
        if "Q8_0" in command:
            return SimpleNamespace(status=137, stdout="", stderr="")
        words = shlex.split(command)
        length = 8 * len(words[words.index("--prompt") + 1]) // len(DEFAULT_PROMPT)
        for line in WHOLE:
            event = json.loads(line)
            if event["event"] == "start":
                event["prompt_tokens"] = length
            if event["event"] == "prefill":
                event |= {"tokens": length, "nanoseconds": 90_000 * length}
            on_line(json.dumps(event))
        return SimpleNamespace(status=0, stdout="", stderr="")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text(PROFILE)
    for name in ("Q2_K", "Q8_0"):
        (tmp_path / f"m-{name}.gguf").write_text(name)
    probe = tmp_path / "edgequant-probe"
    probe.write_text("probe")
    built = SimpleNamespace(binary=lambda _name: probe, llama_cpp_commit="abc")
    monkeypatch.setattr(edgequant.build.build, "build", lambda *_, **__: built)
    monkeypatch.setattr(edgequant.boards.session, "open_board", FakeBoard)
    monkeypatch.setattr(
        edgequant.models.formats.gguf,
        "read_gguf",
        lambda path: SimpleNamespace(
            file_type=path.stem.removeprefix("m-"),
            architecture="llama",
            metadata={"llama.context_length": 512},
        ),
    )
    monkeypatch.setattr(
        measure_module,
        "deploy_missing",
        lambda _board, models, _build, _store: ("/b/probe", {n: f"/b/{n}" for n in models}),
    )
    monkeypatch.setattr(measure_module, "_facts", lambda _board: {})

    def call(*arguments: str) -> Any:
        words = ["measure", *arguments]
        return CliRunner().invoke(make_app(words), words)

    return call


def test_a_table_shows_the_figures(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("board.toml", "m-Q2_K.gguf", "-n", "6", "--out", "out")
    assert result.exit_code == 0, result.output
    assert "Milliseconds per token on board (measured)" in result.stdout
    assert "Q2_K" in result.stdout
    assert "UNRELIABLE" in result.stdout
    assert len(pd.read_parquet(tmp_path / "out" / "latency.parquet")) == 5 * 7
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["stage"] == "latency"


def test_the_fit_and_its_error_on_rows_it_has_not_seen_are_shown(run: Callable[..., Any]) -> None:
    said = run("board.toml", "m-Q2_K.gguf", "-n", "6").stdout
    assert "x tokens at 8, 64, 128 tokens (off by" in said
    assert "x depth at depths 9 to 132 (off by" in said
    (pace,) = json.loads(run("board.toml", "m-Q2_K.gguf", "-n", "6", "--json").stdout)["paces"]
    assert pace["prefill"]["linear"] == pytest.approx(90e-6)
    assert pace["errors"]["prompt_tokens"] == [8, 64, 128]
    assert pace["errors"]["prefill_held_out"] == pytest.approx(0, abs=0.01)
    assert pace["errors"]["decode_held_out"] >= 0


@pytest.mark.parametrize(
    ("asked", "lengths"), [("none", [8]), ("16,1000", [8, 16]), ("32, 48", [8, 32, 48])]
)
def test_the_lengths_of_prompts_can_be_chosen(
    run: Callable[..., Any], asked: str, lengths: list[int]
) -> None:
    words = ("board.toml", "m-Q2_K.gguf", "-n", "6", "--prompt-lengths", asked, "--json")
    (pace,) = json.loads(run(*words).stdout)["paces"]
    assert pace["errors"]["prompt_tokens"] == lengths
    assert ("one prompt length alone" in pace["note"]) == (lengths == [8])


def test_json_has_the_same_and_is_all_there_is_on_stdout(run: Callable[..., Any]) -> None:
    values = json.loads(run("board.toml", "m-Q2_K.gguf", "-n", "6", "--json").stdout)
    summary = values["quantizations"][0]
    assert summary["quantization"] == "Q2_K"
    assert summary["n"] == 15
    assert summary["frequency_hz"] is None
    assert summary["latency_source"] == "measured"
    assert values["reused"] is False
    again = json.loads(run("board.toml", "m-Q2_K.gguf", "-n", "6", "--json").stdout)
    assert again["reused"] is True
    assert again["quantizations"] == values["quantizations"]


def test_a_model_that_failed_stays_in_the_table_and_in_the_exit_code(
    run: Callable[..., Any],
) -> None:
    result = run("board.toml", "m-Q2_K.gguf", "m-Q8_0.gguf", "-n", "6")
    assert result.exit_code == 40
    assert "FAILED" in result.stdout
    assert "out of memory" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere", "m-Q2_K.gguf"], ProfileError),
        (["board.toml", "m-Q2_K.gguf", "--prompt-file", "none.txt"], PromptError),
    ],
)
def test_wrong_arguments_are_purposeful_errors(
    run: Callable[..., Any], arguments: list[str], error: type[EdgequantError]
) -> None:
    assert isinstance(run(*arguments).exception, error)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cache-type-k", "q9"],
        ["-n", "1"],
        ["--clock", "sundial"],
        ["--prompt-lengths", "16,many"],
        ["--prompt-lengths", "0"],
        ["--clock", "instructions"],
        ["--prompt", "x", "--prompt-file", "board.toml"],
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    run: Callable[..., Any], arguments: list[str]
) -> None:
    result = run("board.toml", "m-Q2_K.gguf", *arguments)
    assert result.exit_code == 2


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(make_app(["measure"]), ["measure", "--help"])
    assert "Example: edgequant measure" in result.output
