"""Finds built llama.cpp tools for tests; none is ever built here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgequant.core.artefact import Store


def tools_folder() -> Path | None:
    """The folder that has llama-server: $EDGEQUANT_TEST_TOOLS, or the newest host build kept."""
    named = os.environ.get("EDGEQUANT_TEST_TOOLS")
    if named:
        return Path(named)
    built = Store().root.glob("build/*/bin/llama-server")
    newest = max(built, key=lambda path: path.stat().st_mtime, default=None)
    return None if newest is None else newest.parent


TOOLS = tools_folder()


def tool(name: str) -> Path:
    """Path of one tool; skips the test where it is not built."""
    path = None if TOOLS is None else TOOLS / name
    if path is None or not path.is_file():
        pytest.skip(f"{name} is not built: run `edgequant build --target host --tool {name}`")
    return path
