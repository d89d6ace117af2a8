"""From a tiny Hugging Face folder to GGUF files, with the real converter and llama-quantize."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgequant.cli.app import make_app
from edgequant.core.artefact import Store
from edgequant.core.errors import ConversionError, EdgequantError, TokenizerMismatchError
from edgequant.models.formats.gguf import bytes_per_token, read_gguf
from edgequant.models.steps.convert import CONVERTER_PACKAGES
from edgequant.models.steps.quantize import QUANTIZATIONS, Models, quantize
from tests.models.hf_folder import drop_tensor, write_llama_folder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        any(
            importlib.util.find_spec(name.partition(".")[0]) is None for name in CONVERTER_PACKAGES
        ),
        reason="the converter's packages are not installed (edgequant[convert])",
    ),
]

TYPES = ("Q2_K", "Q3_K_S", "Q4_0", "Q4_K_M", "Q6_K", "Q8_0", "BF16", "F16")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def models(tiny: Path, store: Store, host_build: Any) -> Models:
    return quantize(tiny, TYPES, host=host_build, store=store)


def test_every_type_is_a_whole_gguf(models: Models) -> None:
    rows = models.table()
    assert [row.quantization for row in rows] == list(TYPES)
    for row in rows:
        info = read_gguf(row.path)
        assert info.architecture == "llama"
        assert info.file_type == row.quantization
        assert info.parameter_count == read_gguf(models.base_gguf).parameter_count
        assert row.fallback_tensors == 0
    ladder = [row.bits_per_weight for row in rows[:6]]
    assert ladder == sorted(ladder)
    assert rows[5].bits_per_weight == pytest.approx(8.5, abs=0.1)


def test_bfloat16_stays_and_is_the_base(models: Models) -> None:
    assert models.gguf("BF16") == models.base_gguf
    assert {t.type for t in models.info("BF16").tensors} == {"BF16", "F32"}


def test_tied_embedding_counts_once(models: Models) -> None:
    info = models.info("Q8_0")
    assert bytes_per_token(info) == info.tensor_bytes


def test_tokenizers_were_compared(models: Models) -> None:
    check = models.tokenizer_check
    assert isinstance(check, dict)
    assert check["texts"] > 20
    assert check["chat_template"] is True
    assert check["warnings"] == []


def test_nothing_is_made_again(
    models: Models, tiny: Path, store: Store, host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("edgequant.models.steps.quantize.convert", refuse)
    monkeypatch.setattr("edgequant.models.steps.quantize.run_logged", refuse)
    again = quantize(tiny, TYPES[:3], host=host_build, store=store)
    assert again.gguf("Q2_K") == models.gguf("Q2_K")


def test_rows_that_are_not_whole_blocks_are_told(
    tmp_path: Path, host_build: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_llama_folder(tmp_path / "odd", hidden=320, heads=10, feed_forward=480)
    store = Store(tmp_path / "store")
    for _ in ("made", "found"):
        made = quantize(folder, ["Q2_K", "Q3_K_S"], host=host_build, store=store)
        row, other = made.table()
        assert row.fallback_tensors == 7
        assert row.bits_per_weight > 4.5
        assert row.contents.named_type == "Q2_K"
        assert not row.contents.holds_named_type
        assert other.same_as in (None, "Q2_K")
        assert "Q2_K holds no Q2_K tensor" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defect", "message", "hint"),
    [
        (
            {"markers_in_sentencepiece": False},
            r"Hugging Face: 1 '<\|im_start\|>'.*\n\s+GGUF: +\d+ '<0x3C>'",
            "control or user-defined piece",
        ),
        ({"markers_in_hugging_face": False}, r"GGUF: +1 '<\|im_start\|>'", '"added_tokens"'),
        ({"add_bos": True}, "at token 1", '"add_bos_token"'),
        ({"add_prefix_space": True}, "'▁s?'", '"add_prefix_space": false'),
    ],
)
def test_another_tokenizer_is_an_error(
    tmp_path: Path, host_build: Any, defect: dict[str, bool], message: str, hint: str
) -> None:
    folder = write_llama_folder(tmp_path / "broken", **defect)
    store = Store(tmp_path / "store")
    with pytest.raises(TokenizerMismatchError, match=message) as raised:
        quantize(folder, ["Q8_0"], host=host_build, store=store)
    assert hint in (raised.value.next_step or "")
    assert not list(store.root.rglob("*.gguf"))


def test_type_that_needs_an_importance_matrix(
    models: Models, tiny: Path, store: Store, host_build: Any
) -> None:
    with pytest.raises(EdgequantError, match="IQ2_XXS needs an importance matrix"):
        quantize(tiny, ["IQ2_XXS"], host=host_build, store=store)


def test_our_list_of_types_is_the_programs(host_build: Any) -> None:
    program = host_build.binary("llama-quantize")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    listed = re.findall(r"^\s+\d+\s+or\s+(\w+)\s*: (.*)$", done.stdout, re.MULTILINE)
    assert [name for name, text in listed if "alias" not in text] == list(QUANTIZATIONS)


def test_command_prints_json_and_links_the_files(
    tiny: Path, models: Models, store: Store, host_build: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("edgequant.build.build.build", lambda target: host_build)
    monkeypatch.setattr("edgequant.models.steps.quantize.Store", lambda: store)
    arguments = ["quantize", str(tiny), "--type", "q2_k", "--type", "Q8_0", "--json"]
    arguments += ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(make_app(arguments), arguments)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["model"] == "tiny"
    assert [m["quantization"] for m in answer["models"]] == ["Q2_K", "Q8_0"]
    for made in answer["models"]:
        path = Path(made["path"])
        assert path.parent == tmp_path / "out"
        assert path.samefile(models.gguf(made["quantization"]))
        assert made["sha256"] == models.sha256(made["quantization"])


def test_a_model_trained_further_gives_other_files_by_its_relative_path(
    tiny: Path, tmp_path: Path, host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny, tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    mine = Store(tmp_path / "store")
    before = quantize(Path("m"), ["Q8_0"], host=host_build, store=mine)
    weights = tmp_path / "m" / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-2048:] = bytes(2048)
    weights.write_bytes(whole)
    after = quantize(Path("m"), ["Q8_0"], host=host_build, store=mine)
    assert before.sha256("Q8_0") != after.sha256("Q8_0")
    assert "folder/model.safetensors" in after.base.manifest.inputs


def test_a_file_that_llama_cpp_cannot_load_ends_the_conversion(
    tiny: Path, tmp_path: Path, host_build: Any
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    config = json.loads((broken / "config.json").read_text())
    # The weights have 512: whole files, the tokenizers agree, and llama.cpp refuses the shapes.
    (broken / "config.json").write_text(json.dumps({**config, "intermediate_size": 1024}))
    with pytest.raises(ConversionError, match=r"cannot load the converted file: .*wrong shape"):
        quantize(broken, ["Q8_0"], host=host_build, store=Store(tmp_path / "store"))


def test_a_missing_tensor_ends_the_conversion(tiny: Path, tmp_path: Path, host_build: Any) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    drop_tensor(broken / "model.safetensors", "model.layers.0.mlp.down_proj.weight")
    with pytest.raises(ConversionError, match=r"cannot load the converted file: .*ffn_down"):
        quantize(broken, ["Q8_0"], host=host_build, store=Store(tmp_path / "store"))


def test_weights_that_are_no_numbers_are_named(tiny: Path, tmp_path: Path, host_build: Any) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    weights = broken / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    # The last tensor, the final norm's weights, all NaN.
    whole[-512:] = b"\xc0\x7f" * 256
    weights.write_bytes(whole)
    with pytest.raises(ConversionError, match=r"NaN.*: output_norm\.weight holds NaN"):
        quantize(broken, ["Q8_0"], host=host_build, store=Store(tmp_path / "store"))


def test_a_missing_chat_template_is_told_before_the_conversion(
    tiny: Path, tmp_path: Path, host_build: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (bare / "tokenizer_config.json").write_text(json.dumps(settings))
    quantize(bare, ["BF16"], host=host_build, store=Store(tmp_path / "store"))
    printed = capsys.readouterr().err
    assert "has no chat template" in printed
    assert printed.index("has no chat template") < printed.index("Hashing")
