"""Exit codes and their page of documentation."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from edgequant.cli.app import INTERRUPTED, OUTPUT_GONE, USAGE_ERROR
from edgequant.core import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| (\d+) \| (?:`(\w+)`)? ?\| ?(\w*) ?\| (.+?) \| ?(.*?) ?\|$", re.MULTILINE)
CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value)
    and issubclass(value, errors.EdgequantError)
    and value is not errors.EdgequantError
]


def rows() -> list[tuple[str, ...]]:
    return ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_the_page_lists_each_class_with_its_code_and_fault_and_no_other() -> None:
    found = {int(code): (name, fault) for code, name, fault, *_ in rows()}
    assert found == {kind.exit_code: (kind.__name__, kind.fault) for kind in CLASSES} | {
        0: ("", ""),
        USAGE_ERROR: ("UsageError", "user"),
        INTERRUPTED: ("Interrupted", ""),
        OUTPUT_GONE: ("", ""),
    }


def test_every_error_of_the_page_has_a_next_step() -> None:
    assert all(step for _, name, _, _, step in rows() if name)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_class_states_itself_whose_fault_it_is(kind: type[errors.EdgequantError]) -> None:
    assert vars(kind)["fault"] in get_args(errors.Fault)
    assert kind("it went wrong").as_dict()["fault"] == kind.fault


def test_what_a_retry_can_mend_is_told_from_what_it_cannot() -> None:
    assert errors.BoardUnreachableError.fault == "infrastructure"
    assert errors.DiskFullError.fault == "infrastructure"
    assert errors.HostKeyError.fault == "user"
    assert errors.ExperimentError.fault == "user"
