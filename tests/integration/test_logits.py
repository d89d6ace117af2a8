"""Every architecture's GGUF computes what transformers computes, or the difference is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgequant.core.errors import ConversionError
from edgequant.models.checks import logits as module
from edgequant.models.checks.beginning import can_begin
from edgequant.models.checks.logits import check_logits
from edgequant.models.folder import check_model_folder
from edgequant.models.steps.convert import convert, resolve_output_type
from tests.integration import needs
from tests.models.hf_architectures import ARCHITECTURES, change_config, write_folder

pytestmark = [
    pytest.mark.integration,
    needs.CONVERTER,
]


def convert_folder(folder: Path, host: Any) -> tuple[Path, int]:
    found = check_model_folder(folder)
    out = folder.with_suffix(".gguf")
    kind = resolve_output_type("auto", found.dtype)
    converter = host.source.folder / "convert_hf_to_gguf.py"
    convert(found, converter, kind, out, log=folder.with_suffix(".log"))
    return out, found.parameter_count


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_has_equal_logits(
    kind: str, tmp_path: Path, host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not called after its kind: llama.cpp looks for certain tokens where a model's name has "phi3".
    folder = write_folder(tmp_path / "tiny", kind, vocabularies=host_build.source.folder / "models")
    gguf, numbers = convert_folder(folder, host_build)
    report = check_logits(folder, gguf, host_build.binary("libllama.so"), "bf16", numbers)
    assert report["compared"] == "layers 0 to 2 of 3 and the logits"
    # Of a mixture, a rounding sends some tokens to another expert: the mean is theirs.
    assert float(str(report["median_kl"])) < 1e-3
    monkeypatch.setattr(module, "WHOLE_BYTES", 0)
    assert can_begin(folder, 2)
    report = check_logits(folder, gguf, host_build.binary("libllama.so"), "bf16", numbers)
    assert report["compared"] == "layers 0 to 1 of 3"


def test_experts_weighed_otherwise_than_llama_cpp_does_it_are_refused(
    tmp_path: Path, host_build: Any
) -> None:
    vocabularies = host_build.source.folder / "models"
    folder = write_folder(
        tmp_path / "tiny", "qwen3_moe", vocabularies=vocabularies, norm_topk_prob=False
    )
    gguf, numbers = convert_folder(folder, host_build)
    with pytest.raises(ConversionError, match="layer 0 of 3"):
        check_logits(folder, gguf, host_build.binary("libllama.so"), "bf16", numbers)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory, host_build: Any) -> tuple[Path, Path, int]:
    folder = write_folder(tmp_path_factory.mktemp("models") / "qwen3", "qwen3")
    return folder, *convert_folder(folder, host_build)


def rewrite(folder: Path, name: str, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("changes", "tensor", "message"),
    [
        ({"rope_theta": 100.0}, None, r"layer 0 of 3"),
        ({"rms_norm_eps": 0.5}, None, r"layer 0 of 3"),
        ({}, "model.layers.1.self_attn.q_proj.weight", r"layer 1 of 3"),
        ({}, "model.layers.2.input_layernorm.weight", r"layer 2 of 3"),
        ({}, "model.norm.weight", r"logits differ, every layer agrees"),
    ],
)
def test_another_computation_names_the_first_layer_that_differs(
    qwen: tuple[Path, Path, int],
    tmp_path: Path,
    host_build: Any,
    changes: dict[str, float],
    tensor: str | None,
    message: str,
) -> None:
    folder, gguf, numbers = qwen
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    change_config(other, **changes)
    if tensor is not None:
        # As a wrong permutation does it: the same numbers in another order.
        rewrite(other, tensor, lambda values: values.roll(1, 0))
    with pytest.raises(ConversionError, match=message):
        check_logits(other, gguf, host_build.binary("libllama.so"), "bf16", numbers)


def test_of_a_model_too_large_the_first_layers_are_compared(
    qwen: tuple[Path, Path, int],
    tmp_path: Path,
    host_build: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, gguf, numbers = qwen
    library = host_build.binary("libllama.so")
    monkeypatch.setattr(module, "_available_bytes", lambda: int(numbers * 4 / 0.6) - 1000)
    report = check_logits(folder, gguf, library, "bf16", numbers)
    assert report["compared"] == "layers 0 to 1 of 3"
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    rewrite(other, "model.layers.1.self_attn.q_proj.weight", lambda values: values.roll(1, 0))
    with pytest.raises(ConversionError, match="layer 1 of 3"):
        check_logits(other, gguf, library, "bf16", numbers)
    monkeypatch.setattr(module, "_available_bytes", lambda: 1000)
    report = check_logits(folder, gguf, library, "bf16", numbers)
    assert report["compared"] == "nothing"


def test_a_folder_that_transformers_cannot_load_is_told(
    qwen: tuple[Path, Path, int],
    tmp_path: Path,
    host_build: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, gguf, numbers = qwen
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "of_tomorrow"}))
    report = check_logits(other, gguf, host_build.binary("libllama.so"), "bf16", numbers)
    assert report["compared"] == "nothing"
    # The end of what transformers says is kept; which of its sentences that is, is its own affair.
    assert "transformers cannot compute" in str(report["reason"])
    assert "logits were not compared" in capsys.readouterr().err
