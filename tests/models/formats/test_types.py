"""ggml's types: the gguf package's, and those of the pinned tree that it does not know yet."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edgequant.build.source.lock import load_lock
from edgequant.core.paths import cache_root
from edgequant.models.formats.types import file_types, tensor_types

ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from gguf.constants import GGML_QUANT_SIZES, LlamaFileType
print(json.dumps([{int(k): [k.name, *v] for k, v in GGML_QUANT_SIZES.items()},
                  {int(k): k.name for k in LlamaFileType}]))
"""


def pinned_gguf_py() -> Path | None:
    lock = load_lock()
    for folder in (cache_root() / "sources").glob(f"*-{lock.version}-*/gguf-py"):
        return folder
    return None


def test_types_are_those_of_the_pinned_tree() -> None:
    folder = pinned_gguf_py()
    if folder is None:
        pytest.skip("the pinned source is not unpacked yet (edgequant toolchain source)")
    command = [sys.executable, "-c", ASK, str(folder)]
    sizes, names = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    ours = {str(number): list(kind) for number, kind in tensor_types().items()}
    assert ours == sizes
    known = {
        number: name.removeprefix("ALL_").removeprefix("MOSTLY_")
        for number, name in names.items()
        if name != "GUESSED"
    }
    assert {str(number): name for number, name in file_types().items()} == known


def test_a_few_known_ones() -> None:
    assert tensor_types()[12] == ("Q4_K", 256, 144)
    assert tensor_types()[42] == ("Q2_0", 64, 18)
    assert file_types()[15] == "Q4_K_M"
    assert file_types()[0] == "F32"


def test_the_bindings_are_those_of_the_pinned_llama_cpp() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["convert"]
    assert f"llama-cpp-python=={load_lock().version}" in extra
