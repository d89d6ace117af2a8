"""The probe's output, recorded from real runs, and what becomes of runs that fail."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.core.errors import ProbeError
from edgequant.latency.probe import (
    MAX_PROMPT_BYTES,
    ProbeOptions,
    ProbeReader,
    parse_probe_output,
    probe_command,
    run_probe,
)

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> list[str]:
    return (RECORDED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


class FakeBoard:
    """A board whose only command prints given lines and ends with a given status."""

    def __init__(self, lines: list[str], status: int = 0, stderr: str = "") -> None:
        self.profile = SimpleNamespace(name="fake")
        self.commands: list[str] = []
        self._lines, self._status, self._stderr = lines, status, stderr

    def stream(
        self, command: str, on_line: Callable[[str], None], **_options: object
    ) -> SimpleNamespace:
        self.commands.append(command)
        for line in self._lines:
            on_line(line)
        return SimpleNamespace(status=self._status, stdout="", stderr=self._stderr)


def run_on(board: Any, **options: Any) -> Any:
    return run_probe(board, "/b/probe", "/b/m.gguf", "hello", ProbeOptions(tokens=6), **options)


def test_a_whole_run_is_read() -> None:
    run = parse_probe_output(recorded("whole_run"))
    assert run.start.llama_cpp_commit == "0c1e57098"
    assert run.start.prompt_tokens == run.prefill.tokens == 8
    assert [token.index for token in run.tokens] == [0, 1, 2, 3, 4, 5]
    assert [token.token_id for token in run.tokens] == [16, 86, 86, 86, 109, 34]
    assert run.tokens[1].nanoseconds == 116_322
    assert run.tokens[1].frequency_hz is None
    assert run.load.read_bytes == 8192
    assert run.ttft_seconds == pytest.approx((781_047 + 1_021) / 1e9)


def test_a_run_of_the_virtual_board_is_read() -> None:
    run = parse_probe_output(recorded("virtual_board"))
    assert "DOTPROD = 1" in run.start.system_info
    assert run.start.prompt_tokens == 16
    assert len(run.tokens) == 48
    assert run.load.model_bytes == 6_980_608
    assert run.load.read_bytes == 0
    assert run.prefill.seconds == pytest.approx(0.235356528)


def test_text_that_json_escapes_comes_back() -> None:
    run = parse_probe_output(recorded("whole_run"))
    assert run.tokens[0].piece == "\x0b"
    assert run.tokens[5].piece == "\x1d"


def test_unknown_events_and_fields_and_empty_lines_are_skipped() -> None:
    lines = recorded("whole_run")
    start = json.loads(lines[0]) | {"added_later": 1}
    more = [json.dumps(start), "", '{"event":"added_later","x":1}', *lines[1:]]
    assert parse_probe_output(more) == parse_probe_output(lines)


@pytest.mark.parametrize("kept", range(10))
def test_output_that_ends_early_is_no_run(kept: int) -> None:
    lines = recorded("whole_run")
    assert len(lines) == 10
    with pytest.raises(ProbeError, match="ends early"):
        parse_probe_output(lines[:kept])


def test_a_line_cut_in_the_middle_is_an_error_that_names_the_line() -> None:
    lines = recorded("whole_run")
    with pytest.raises(ProbeError, match=r"line 3 .* is not JSON"):
        parse_probe_output([*lines[:2], lines[2][:40]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[1]], "comes before"),
        (lambda lines: [*lines[:4], *lines[5:]], "has token 2, expected 1"),
        (lambda lines: [*lines, lines[3]], "comes after the end"),
        (lambda lines: [lines[0], lines[0]], "second run"),
        (lambda lines: [lines[0].replace('"probe_version":1', '"probe_version":2')], "version 2"),
        (lambda lines: [lines[0], lines[1].replace("4443844", "-5")], "bad nanoseconds"),
        (lambda lines: [lines[0], lines[1].replace("4443844", '"x"')], "bad nanoseconds"),
        (lambda lines: ['{"no":"event"}'], "has no event"),
        (lambda lines: ["[1]"], "has no event"),
        (lambda lines: [*lines[:-1], lines[-1].replace('"tokens":6', '"tokens":7')], "counts 7"),
    ],
)
def test_what_is_out_of_place_is_an_error(
    change: Callable[[list[str]], list[str]], message: str
) -> None:
    with pytest.raises(ProbeError, match=message):
        parse_probe_output(change(recorded("whole_run")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prompt_too_long", "do not fit in a context of 1 tokens"),
        ("truncated_model", "data is not within the file bounds"),
        ("aborted", "too little memory"),
    ],
)
def test_what_the_probe_says_went_wrong_is_the_error(name: str, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        parse_probe_output(recorded(name))


@given(st.lists(st.text(max_size=60), max_size=6))
def test_no_text_breaks_the_reader_in_another_way(lines: list[str]) -> None:
    reader = ProbeReader()
    with pytest.raises(ProbeError):
        for line in lines:
            reader.feed(line)
        reader.finish()


def test_a_run_on_a_board_reports_its_events_and_lines() -> None:
    events: list[str] = []
    lines: list[str] = []
    board = FakeBoard(recorded("whole_run"))
    run = run_on(board, on_event=events.append, on_line=lines.append)
    assert events == ["start", "load", "prefill", *["token"] * 6, "end"]
    assert parse_probe_output(lines) == run
    assert shlex.split(board.commands[0])[:4] == ["exec", "/b/probe", "--model", "/b/m.gguf"]


@pytest.mark.parametrize(
    ("status", "message", "next_step"),
    [
        (132, "built for a CPU with features that this one lacks", "build.target"),
        (137, "ran out of memory", "--no-repack"),
        (135, "could not be read from storage", "deploy"),
        (127, "not there", "deploy"),
        (9, "exit status 9", ""),
    ],
)
def test_an_exit_status_is_explained(status: int, message: str, next_step: str) -> None:
    board = FakeBoard(recorded("whole_run")[:5], status, stderr="one\ntwo")
    with pytest.raises(ProbeError, match=message) as caught:
        run_on(board)
    assert next_step in (caught.value.next_step or "")
    assert "two" in caught.value.cause
    assert caught.value.subject == "board fake"


def test_the_probes_own_reason_is_preferred_to_its_status() -> None:
    with pytest.raises(ProbeError, match="not within the file bounds"):
        run_on(FakeBoard(recorded("truncated_model"), 1))


def test_success_without_an_end_is_not_trusted() -> None:
    with pytest.raises(ProbeError, match="ends early, after 2 tokens"):
        run_on(FakeBoard(recorded("whole_run")[:5], 0))


@given(st.text(min_size=1, max_size=80).filter(lambda text: "\0" not in text))
def test_any_prompt_survives_the_shell(prompt: str) -> None:
    words = shlex.split(probe_command("/p", "/a model's.gguf", prompt, ProbeOptions()))
    assert words[words.index("--prompt") + 1] == prompt
    assert words[words.index("--model") + 1] == "/a model's.gguf"


@pytest.mark.parametrize("prompt", ["", "a\0b", "x" * (MAX_PROMPT_BYTES + 1)])
def test_a_prompt_that_cannot_be_handed_over_is_refused(prompt: str) -> None:
    with pytest.raises(ProbeError):
        probe_command("/p", "/m", prompt, ProbeOptions())


def test_options_become_arguments() -> None:
    options = ProbeOptions(tokens=7, threads=3, repack=False, mlock=True, cache_type_v="q8_0")
    words = options.arguments()
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    assert pairs["-n"] == "7"
    assert pairs["--threads"] == "3"
    assert pairs["--repack"] == "0"
    assert pairs["--mmap"] == "1"
    assert pairs["--mlock"] == "1"
    assert pairs["--cache-type-v"] == "q8_0"
    assert "--threads" not in ProbeOptions().arguments()
