"""TOML files that people write, read into checked models: errors name the file and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgequant.core.bounds import MAX_DEPTH, check_depth, read_bounded
from edgequant.core.errors import EdgequantError
from edgequant.core.fields import BASE_FOLDER, LARGEST_INTEGER
from edgequant.core.paths import find_data_file, list_data_files

_Model = TypeVar("_Model", bound=BaseModel)

MAX_FILE_BYTES = 1 << 20
"""Nobody writes more by hand."""
# Reading a dotted key takes time that grows with the square of its parts.
_LONG_KEY = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)"""
    f"{{{MAX_DEPTH}}}"
)


def require_data_file(
    kind: str, name_or_path: str, *, what: str, error: type[EdgequantError]
) -> Path:
    """The file that a user names, as its path or as the bare name of a data file.

    Args:
        kind: folder of data files, e.g. ``boards``.
        name_or_path: what the user gave.
        what: what such a file is, for the message ("board profile").
        error: class raised where there is no such file.

    Raises:
        EdgequantError: of class ``error``, with the names there are.
    """
    path = find_data_file(kind, name_or_path)
    if path is None:
        known = ", ".join(sorted(list_data_files(kind))) or "none"
        raise error(
            f"no {what} {name_or_path!r}",
            next_step=f"give the path of a .toml file, or one of: {known}",
        )
    return path


def read_toml(
    path: Path, *, error: type[EdgequantError], next_step: str | None = None
) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        EdgequantError: of class ``error``: the file is missing, unreadable, not TOML, or larger,
            deeper or with larger numbers than people write.
    """
    try:
        return parse_toml(read_bounded(path, MAX_FILE_BYTES).decode())
    except FileNotFoundError:
        raise error("no such file", subject=path, next_step=next_step) from None
    except OSError as cause:
        raise error(
            f"cannot be read: {cause.strerror}", subject=path, next_step=next_step
        ) from cause
    except ValueError as cause:
        raise error(f"not valid TOML: {cause}", subject=path, next_step=next_step) from cause


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        ValueError: not TOML, nested too deep, a NUL, or an integer of more than 64 bits.
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"a key has more than {MAX_DEPTH} parts")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        # Python's own limit for integers, or a date such as the 99th of May.
        raise ValueError("a number or date is out of range") from None
    check_depth(values)
    _check_leaves(values)
    return values


def _check_leaves(value: object) -> None:
    if isinstance(value, dict | list):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_leaves(inner)
    elif isinstance(value, str) and "\0" in value:
        # It ends paths, arguments and C's strings: half of the text would be meant.
        raise ValueError("a text has a NUL in it")
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError("an integer is larger than 64 bits hold")


def read_toml_model(
    path: Path,
    model: type[_Model],
    *,
    error: type[EdgequantError],
    next_step: str | None = None,
    defaults: Mapping[str, object] | None = None,
) -> _Model:
    """A TOML file as a checked model.

    Args:
        path: the file.
        model: what it has to fit.
        error: class of what is raised.
        next_step: what the user can do about a file that does not fit.
        defaults: values for top-level keys that the file leaves out.

    Raises:
        EdgequantError: of class ``error``: the file is missing, unreadable, not TOML, or has a
            wrong or missing key, which the message names.
    """
    values = {**(defaults or {}), **read_toml(path, error=error, next_step=next_step)}
    try:
        # Relative paths start at the file itself, wherever a link to it lies.
        return model.model_validate(values, context={BASE_FOLDER: path.resolve().parent})
    except ValidationError as cause:
        raise error(_first_problem(cause), subject=path, next_step=next_step) from cause


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = problem["msg"].removeprefix("Value error, ") + more
    # A model's own check of several keys together has no place; its message names them.
    return f"{where}: {message}" if where else message
