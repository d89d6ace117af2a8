"""What integration tests cannot do without, as marks."""

from __future__ import annotations

import importlib.util

import pytest

from edgequant.models.steps.convert import CONVERTER_PACKAGES


def _absent(*names: str) -> bool:
    return any(importlib.util.find_spec(name.partition(".")[0]) is None for name in names)


BINDINGS = pytest.mark.skipif(_absent("llama_cpp"), reason="llama-cpp-python is not installed")
CONVERTER = pytest.mark.skipif(
    _absent(*CONVERTER_PACKAGES),
    reason="the converter's packages are not installed (edgequant[convert])",
)
