"""A cache of the test's own, and a llama.cpp so small that it compiles in seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgequant.core.paths import cache_root


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; zig's compiled libraries alone are shared with the real one."""
    monkeypatch.setenv(
        "ZIG_GLOBAL_CACHE_DIR", os.environ.get("ZIG_GLOBAL_CACHE_DIR", str(cache_root() / "zig"))
    )
    cache = tmp_path / "cache"
    monkeypatch.setenv("EDGEQUANT_CACHE", str(cache))
    return cache
