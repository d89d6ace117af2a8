"""What ``sweep`` prints at the end, and its JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.cli.sweep_output import print_result
from edgequant.experiment.sweep import SweepResult
from edgequant.matching.match import match
from tests.matching.synthetic_answers import Table, answer_row, box, frame
from tests.report.synthetic_run import report_inputs


def asked(answers: Table) -> SweepResult:
    inputs = report_inputs(2)
    models = [m for m in inputs.manifest.paces if m.source == "emulated"]
    records = [
        m.model_copy(update={"holds_named_type": m.quantization != "Q2_K"})
        for m in inputs.manifest.models
    ]
    manifest = inputs.manifest.model_copy(
        update={"models": records, "model_notes": ["Q2_K holds no Q2_K tensor"]}
    )
    return SweepResult(Path("run"), manifest, match(*answers, models, [16]))


def answers(pieces: list[str]) -> Table:
    return frame([answer_row("Q2_K", "cot", None, q, 7, pieces) for q in range(30)])


def test_nothing_right_is_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    result = asked(answers(["no", " idea"]))
    print_result(result)
    out = capsys.readouterr().out
    assert out.startswith("None of the 30 answers is right, and none of them holds a \\boxed{}")
    assert "failure of format" in out
    assert "Best choices" not in out
    assert "Note: Q2_K holds no Q2_K tensor" in out
    assert "failure of format" in str(result.as_dict()["nothing_right"])


def test_the_best_choices_carry_what_their_names_hide(capsys: pytest.CaptureFixture[str]) -> None:
    result = asked(answers([" step", *box(7), ""]))
    print_result(result)
    out = capsys.readouterr().out
    assert "Best choices" in out
    assert "Q2_K (name only)" in out
    assert result.as_dict()["nothing_right"] is None


def test_right_only_where_cut_is_not_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    result = asked(answers([*box(7), *[" step"] * 20, *box(8), ""]))
    print_result(result)
    assert "Best choices" in capsys.readouterr().out
