"""Kinds of value that files of other people hold: names that are names, finite and bounded numbers.

Models of such files derive from :class:`Section`, and take their fields' types from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
)

from edgequant.core.paths import expand_user

LARGEST_INTEGER = 2**63 - 1
"""What TOML promises to keep, and what a column of a table holds."""
MAX_NAME_BYTES = 200
NAME_PATTERN = r"^[^/\\\x00-\x1f\x7f]*[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]*$"

BASE_FOLDER = "base_folder"
"""Key of a validation context: the folder that relative paths start at."""
WITHOUT_FOLDERS = {"without_folders": True}
"""A serialization context: paths are written without the folders of this machine."""


class Section(BaseModel):
    """A table of a file that people write: no unknown keys, no infinite numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def check_name(name: str) -> str:
    """The name itself, where a file or folder may be called so.

    Raises:
        ValueError: empty, dots alone, too long, or with a slash or a character that is not printed.
    """
    if not name.strip(". "):
        raise ValueError(f"{name!r} is no name: it needs more than dots and spaces")
    if "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is no name: files and folders are called so, without slashes")
    if not name.isprintable():
        raise ValueError(f"{name!r} is no name: it has characters that are not printed")
    if name != name.strip() or name.startswith("-"):
        raise ValueError(f"{name!r} is no name: it starts or ends with a space, or starts with -")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a name has at most {MAX_NAME_BYTES} bytes, not {len(name.encode())}")
    return name


def check_word(word: str) -> str:
    """The word itself, where a program may be given it as an argument of its own.

    Raises:
        ValueError: empty, with white space or unprinted characters, or like an option.
    """
    if not word or word.startswith("-") or not word.isprintable() or " " in word:
        raise ValueError(f"{word!r} is no single word that can be told from an option")
    return word


def check_path(path: str) -> str:
    """The path itself, where the system can take it.

    Raises:
        ValueError: empty, or with a NUL, at which the system would end it.
    """
    if not path:
        raise ValueError("is empty where a path belongs")
    if "\0" in path:
        raise ValueError(f"{path!r} is no path: it has a NUL in it")
    return path


def _from_base(path: Path, info: ValidationInfo) -> Path:
    """Relative paths of a file start at that file; ``~`` is the user's home."""
    check_path(str(path))
    base = (info.context or {}).get(BASE_FOLDER)
    return path if base is None else Path(base) / expand_user(path)


def _name_or_from_base(name_or_path: str, info: ValidationInfo) -> str:
    if not is_path(name_or_path):
        return check_name(name_or_path)
    return str(_from_base(Path(name_or_path), info))


def is_path(name_or_path: str) -> bool:
    """Whether a data file is given as a path, not as its bare name."""
    return "/" in name_or_path or name_or_path.startswith("~") or name_or_path.endswith(".toml")


def _portable_path(path: Path, info: SerializationInfo) -> str:
    return path.name if info.context == WITHOUT_FOLDERS else str(path)


def _portable_name(name_or_path: str, info: SerializationInfo) -> str:
    return _portable_path(Path(name_or_path), info) if is_path(name_or_path) else name_or_path


Name = Annotated[
    str, AfterValidator(check_name), Field(json_schema_extra={"pattern": NAME_PATTERN})
]
"""What files and folders are called after."""

Word = Annotated[str, AfterValidator(check_word)]
"""What is handed to programs as it is: a host's name, a user's."""

FilePath = Annotated[
    Path, AfterValidator(_from_base), PlainSerializer(_portable_path, when_used="json")
]
"""A path on this machine; read from a file, relative ones start at that file."""

DataFile = Annotated[
    str, AfterValidator(_name_or_from_base), PlainSerializer(_portable_name, when_used="json")
]
"""A data file by its bare name, or by its path as :data:`FilePath`."""

RemotePath = Annotated[str, AfterValidator(check_path)]
"""A path on a board."""

PositiveInt = Annotated[int, Field(gt=0, le=LARGEST_INTEGER)]

Count = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]

PositiveFloat = Annotated[float, Field(ge=1e-9, le=1e18)]
"""A rate or an amount. The limits only keep sums and quotients finite."""

Seconds = Annotated[float, Field(gt=0, le=1e9)]
"""A length of time; 1e9 are thirty years."""

TimeoutSeconds = Annotated[float, Field(gt=0, le=86400)]
"""How long something is waited for, at most a day."""
