"""TOML files that people write, read into checked models: errors name the file and the key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgequant.core.errors import EdgequantError
from edgequant.core.paths import find_data_file, list_data_files

_Model = TypeVar("_Model", bound=BaseModel)


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
        EdgequantError: of class ``error``: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error("no such file", subject=path, next_step=next_step) from None
    except OSError as cause:
        raise error(
            f"cannot be read: {cause.strerror}", subject=path, next_step=next_step
        ) from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise error(f"not valid TOML: {cause}", subject=path, next_step=next_step) from cause


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
        return model.model_validate(values)
    except ValidationError as cause:
        raise error(_first_problem(cause), subject=path, next_step=next_step) from cause


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = problem["msg"].removeprefix("Value error, ") + more
    # A model's own check of several keys together has no place; its message names them.
    return f"{where}: {message}" if where else message
