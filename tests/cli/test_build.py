from __future__ import annotations

import pytest
from typer.testing import CliRunner

from edgequant.cli.app import make_app


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--target", "host", "--board", "rk3568"], "not both"),
        ([], "one of --target and --board"),
    ],
)
def test_a_target_or_a_board_is_wanted(more: list[str], words: str) -> None:
    arguments = ["build", *more]
    result = CliRunner().invoke(make_app(arguments), arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert words in result.output
