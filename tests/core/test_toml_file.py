"""A file that somebody wrote: what is wrong with it is said with its name and the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, model_validator

from edgequant.core.errors import ProfileError
from edgequant.core.toml_file import read_toml_model, require_data_file


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cores: int = 1
    threads: int = 1


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    cpu: Section = Section()

    @model_validator(mode="after")
    def _threads_fit(self) -> Example:
        if self.cpu.threads > self.cpu.cores:
            raise ValueError("more threads than cores")
        return self


def read(path: Path, **options: object) -> Example:
    return read_toml_model(path, Example, error=ProfileError, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"name = ", "not valid TOML"),
        (b"name = '\xff'", "not valid TOML"),
        (b"", "name: Field required"),
        (b"name = 'x'\n[cpu]\ncors = 2", "cpu.cors: Extra inputs"),
        (b"name = 'x'\n[cpu]\ncores = 'a'\nthreads = 'b'", "cpu.cores: .*and 1 more"),
        (b"name = 'x'\n[cpu]\nthreads = 2", "more threads than cores$"),
    ],
)
def test_what_is_wrong_is_said_with_file_key_and_next_step(
    tmp_path: Path, text: bytes, says: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text)
    with pytest.raises(ProfileError) as caught:
        read(path, next_step="read the manual")
    assert caught.value.subject == str(path)
    assert caught.value.next_step == "read the manual"
    assert re.match(says, caught.value.cause)


def test_a_missing_file_and_a_folder_are_errors_of_the_same_class(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no such file"):
        read(tmp_path / "none.toml")
    with pytest.raises(ProfileError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_defaults_stand_where_the_file_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[cpu]\ncores = 2\n")
    assert read(path, defaults={"name": "mine"}).name == "mine"
    path.write_text("name = 'own'\n")
    assert read(path, defaults={"name": "mine"}).name == "own"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="no board profile 'rk9999'") as caught:
        require_data_file("boards", "rk9999", what="board profile", error=ProfileError)
    assert caught.value.next_step is not None
    assert "rk3568" in caught.value.next_step
