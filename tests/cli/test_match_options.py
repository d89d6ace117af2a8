"""What ``match`` and ``recommend`` say before they read or grade anything."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from edgequant.cli.app import make_app
from edgequant.report.clocks import seconds_words


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--grader", "boxed", "there are exact, lenient, qwen"),
        ("--mapping", "tokens", "neither 'seconds' nor 'ratio'"),
    ],
)
def test_a_wrong_choice_is_one_of_usage_and_told_at_once(
    option: str, value: str, said: str
) -> None:
    files = ["--answers", "none.parquet", "--questions", "none.parquet"]
    words = ["match", *files, "--study", "--out", "none", option, value]
    result = CliRunner().invoke(make_app(words), words, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_seconds_are_named_once() -> None:
    assert seconds_words("predicted") == "PREDICTED seconds"
    assert seconds_words("study") == "STUDY LATENCIES"
