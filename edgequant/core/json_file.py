"""JSON of strangers: whatever is in it, reading it ends with a value or a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgequant.core.bounds import check_depth, read_bounded

MAX_FILE_BYTES = 256 << 20
"""The largest vocabularies take some 30 MB."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: not JSON, not UTF-8, nested too deep, or a number with thousands of digits; the
            message is what is wrong with it, for people.
    """
    try:
        value = json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except ValueError:
        # Python's own limit: reading such an integer takes time that grows with its square.
        raise ValueError("it has an integer of thousands of digits") from None
    check_depth(value)
    return value


def read_json(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: as :func:`parse_json`, or the file is too large.
    """
    return parse_json(read_bounded(path, max_bytes))
