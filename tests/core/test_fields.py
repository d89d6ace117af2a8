"""Kinds of value: what a name, a path and a number of a stranger's file may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgequant.core.fields import (
    BASE_FOLDER,
    WITHOUT_FOLDERS,
    DataFile,
    FilePath,
    Name,
    PositiveFloat,
    Section,
    check_name,
)


class Example(Section):
    name: Name = "x"
    rate: PositiveFloat = 1.0
    free: float = 1.0
    folder: FilePath | None = None
    boards: list[DataFile] = []  # noqa: RUF012 (pydantic copies it)


def read(**values: object) -> Example:
    return Example.model_validate(values, context={BASE_FOLDER: Path("/base")})


@given(st.text())
def test_a_name_is_one_folder_below_another(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    assert Path("/runs", name).parent == Path("/runs")
    assert Path("/runs", name).resolve() == Path("/runs", name)
    assert len(name.encode()) <= 255


@pytest.mark.parametrize("name", ["demo", "armv8.2-a+dotprod+fp16", "Größe 2", ".hidden", "a..b"])
def test_names_that_people_use_are_names(name: str) -> None:
    assert read(name=name).name == name


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, 0.0, 1e300, 1e-300])
def test_rates_are_finite_and_so_are_their_quotients(value: float) -> None:
    with pytest.raises(ValidationError):
        read(rate=value)


def test_no_number_at_all_may_be_infinite() -> None:
    with pytest.raises(ValidationError):
        read(free=float("inf"))


def test_relative_paths_start_at_the_file_and_bare_names_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["rk3568", "mine.toml", "../b/x.toml", "/etc/x.toml", "~/x.toml"]
    example = read(folder="model", boards=given)
    assert example.folder == Path("/base/model")
    assert example.boards == [
        "rk3568",
        "/base/mine.toml",
        "/base/../b/x.toml",
        "/etc/x.toml",
        "/home/me/x.toml",
    ]


def test_paths_made_in_python_stay_as_they_are() -> None:
    assert Example(folder=Path("model"), boards=["a.toml"]).boards == ["a.toml"]


def test_a_manifest_tells_no_folders_of_this_machine() -> None:
    values = read(folder="model", boards=["rk3568", "mine.toml"]).model_dump(
        mode="json", context=WITHOUT_FOLDERS
    )
    assert values["folder"] == "model"
    assert values["boards"] == ["rk3568", "mine.toml"]
