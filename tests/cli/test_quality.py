"""``edgequant quality``: what is refused before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.cli import app


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["m.gguf"], app.USAGE_ERROR, "nothing to compare on"),
        (["m.gguf", "--text", "t"], app.USAGE_ERROR, "nothing to compare:"),
        (["m.gguf", "--text", "t", "--type", "Q2_K"], app.USAGE_ERROR, "is made of a folder"),
        (["m.gguf", "--text", "t", "--variant", "Q2_K"], app.USAGE_ERROR, "not of the form"),
        (["m.gguf", "--text", "t", "--variant", "reference=x"], app.USAGE_ERROR, "not of the form"),
        ([".", "--text", "t", "--variant", "a=nix,Q2_K"], 17, "unknown quantization type 'nix'"),
        ([".", "--questions", "gone"], 13, "cannot be read"),
        (["m.gguf", "--text", "gone", "--variant", "a=x"], 13, "cannot be read: No such file"),
        (["m.gguf", "--text", "bytes", "--variant", "a=x"], 13, "is no UTF-8 text"),
        (["m.gguf", "--text", ".", "--variant", "a=x"], 13, "cannot be read: Is a directory"),
        (["m.gguf", "--answers", "bytes", "--variant", "a=x"], 19, "cannot be read as Parquet"),
        (
            ["m.gguf", "--text", "t", "--calibration", "bytes", "--variant", "a=x"],
            13,
            "is no UTF-8 text",
        ),
    ],
)
def test_wrong_input_is_told_before_tools_are_built(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgequant.build.build.build", None)
    Path("t").write_text("x")
    Path("bytes").write_bytes(b"\xff\xfe\xff")
    assert app.run(["quality", *arguments]) == code
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
