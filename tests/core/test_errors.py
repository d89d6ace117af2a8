"""Exit codes and their page of documentation."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from edgequant.cli.app import INTERRUPTED, OUTPUT_GONE, USAGE_ERROR
from edgequant.core import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| (\d+) \| (?:`(\w+)`)? ?\| (.+?) \| ?(.*?) ?\|$", re.MULTILINE)


def test_the_page_lists_each_class_with_its_code_and_no_other() -> None:
    classes = {
        value.exit_code: name
        for name, value in vars(errors).items()
        if inspect.isclass(value)
        and issubclass(value, errors.EdgequantError)
        and value is not errors.EdgequantError
    }
    others = {0: "", USAGE_ERROR: "UsageError", INTERRUPTED: "Interrupted", OUTPUT_GONE: ""}
    rows = {int(code): name for code, name, *_ in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert rows == {**classes, **others}


def test_every_error_of_the_page_has_a_next_step() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert all(step for _, name, _, step in rows if name)
