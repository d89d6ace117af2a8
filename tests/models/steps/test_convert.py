"""What is decided before the converter runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgequant.core.errors import (
    ConversionError,
    DiskFullError,
    ModelFolderError,
    ToolMissingError,
)
from edgequant.models.folder import ModelFolder
from edgequant.models.steps import convert as module
from edgequant.models.steps.convert import (
    check_architecture,
    check_converter,
    convert,
    converter_environment,
    explained,
    resolve_output_type,
    supported_architectures,
)
from tests.models.gguf_writer import gguf

RECORDED = Path(__file__).parent / "recorded"


def folder(path: Path, architecture: str = "LlamaForCausalLM") -> ModelFolder:
    return ModelFolder(path, "tiny", architecture, "float16", (), 1, True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "conversion").mkdir(parents=True)
    (path / "conversion" / "__init__.py").write_text(
        "from nowhere import nothing\n"
        'TEXT_MODEL_MAP: dict[str, str] = {"LlamaForCausalLM": "llama", "GPT2LMHeadModel": "x"}\n'
    )
    return path


def test_auto_keeps_bfloat16_and_makes_f16_of_the_rest() -> None:
    assert resolve_output_type("auto", "bfloat16") == "bf16"
    assert resolve_output_type("auto", "float32") == "f16"
    assert resolve_output_type("auto", "") == "f16"
    assert resolve_output_type("f16", "bfloat16") == "f16"


def test_architectures_are_read_without_importing_the_tree(tree: Path) -> None:
    assert supported_architectures(tree) == {"LlamaForCausalLM", "GPT2LMHeadModel"}
    check_architecture(folder(tree), tree)
    with pytest.raises(
        ModelFolderError, match=r"LlamaForCausalML is not supported.*LlamaForCausal"
    ):
        check_architecture(folder(tree, "LlamaForCausalML"), tree)


def test_tree_without_a_list_of_architectures_is_tried(tmp_path: Path) -> None:
    assert supported_architectures(tmp_path) is None
    check_architecture(folder(tmp_path, "AnythingForCausalLM"), tmp_path)


def test_missing_packages_are_named_with_the_command(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConversionError, match=r"no convert_hf_to_gguf\.py"):
        check_converter(tree)
    (tree / "convert_hf_to_gguf.py").touch()
    monkeypatch.setattr(module, "CONVERTER_PACKAGES", ("json", "no_such_package", "no.such"))
    with pytest.raises(ToolMissingError, match=r"needs no_such_package, no\.such") as raised:
        check_converter(tree)
    assert "pip install 'edgequant[convert]'" in (raised.value.next_step or "")


def test_the_trees_own_gguf_comes_first(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setenv("NO_LOCAL_GGUF", "1")
    environment = converter_environment(tree)
    assert environment["PYTHONPATH"] == f"{tree / 'gguf-py'}{os.pathsep}/mine"
    assert "NO_LOCAL_GGUF" not in environment


def run(tree: Path, script: str) -> None:
    converter = tree / "convert_hf_to_gguf.py"
    converter.write_text(script)
    convert(folder(tree), converter, "f16", tree / "out.gguf", log=tree / "log")


def test_failure_shows_the_last_lines_and_keeps_the_log(tree: Path) -> None:
    with pytest.raises(ConversionError, match=r"exit status 3.*\n.*tensor x is odd"):
        run(tree, "import sys; print('tensor x is odd'); sys.exit(3)")
    assert "tensor x is odd" in (tree / "log").read_text()


def test_full_disk_is_told_from_other_failures(tree: Path) -> None:
    with pytest.raises(DiskFullError, match="while converting"):
        run(tree, "raise OSError(28, 'No space left on device')")


def test_an_unknown_pre_tokenizer_is_one_clear_message(tmp_path: Path) -> None:
    lines = (RECORDED / "convert-unknown-pre-tokenizer.txt").read_text().splitlines()
    error = explained(ConversionError("its last lines:\n  Traceback"), lines, tmp_path)
    assert "does not know how the model's tokenizer cuts text into words" in error.cause
    assert "Traceback" not in error.cause
    assert error.next_step is not None
    assert "--source" in error.next_step
    other = ConversionError("another reason")
    assert explained(other, ["x"], tmp_path) is other


def test_warnings_come_out_once_each(tree: Path) -> None:
    converter = tree / "convert_hf_to_gguf.py"
    converter.write_text(
        "import logging, sys; logging.basicConfig()\n"
        "log = logging.getLogger('hf-to-gguf')\n"
        "for text in ('**', 'Unknown RoPE type: x', 'Unknown RoPE type: x'): log.warning(text)\n"
        f"open(sys.argv[3], 'wb').write({gguf({'general.architecture': 'llama'})!r})\n"
    )
    made = convert(folder(tree), converter, "f16", tree / "out.gguf", log=tree / "log")
    assert made.warnings == ("Unknown RoPE type: x",)
    assert made.info.architecture == "llama"


def test_an_unknown_tokenizer_class_is_named(tmp_path: Path) -> None:
    lines = [
        "ValueError: Tokenizer class OddTokenizer does not exist or is not currently imported."
    ]
    found = explained(ConversionError("Traceback"), lines, tmp_path)
    assert found.cause == "the installed transformers has no tokenizer class OddTokenizer"
