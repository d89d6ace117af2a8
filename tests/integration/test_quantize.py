"""From a tiny Hugging Face folder to GGUF files, with the real converter and llama-quantize."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgequant.cli.app import make_app
from edgequant.core.artefact import Store
from edgequant.core.errors import (
    ConversionError,
    EdgequantError,
    GgufError,
    TokenizerMismatchError,
)
from edgequant.models.contents import same_tensors
from edgequant.models.formats.gguf import bytes_per_token, read_gguf
from edgequant.models.load_check import check_loads
from edgequant.models.make import make_models
from edgequant.models.model_set import ModelSet
from edgequant.models.ready import take_in
from edgequant.models.types import QUANTIZATIONS
from edgequant.models.variant import variants_of_types
from tests.integration import needs
from tests.models.gguf_writer import write_split
from tests.models.hf_folder import write_llama_folder

pytestmark = [
    pytest.mark.integration,
    needs.CONVERTER,
]

TYPES = ("Q2_K", "Q3_K_S", "Q4_0", "Q4_K_M", "Q6_K", "Q8_0", "BF16", "F16")


def quantize(folder: Path, types: Sequence[str], *, host: Any, store: Store) -> ModelSet:
    return make_models(folder, variants_of_types(types), host=host, store=store)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def models(tiny: Path, store: Store, host_build: Any) -> ModelSet:
    return quantize(tiny, TYPES, host=host_build, store=store)


def test_every_type_is_a_whole_gguf(models: ModelSet) -> None:
    assert models.names == TYPES
    assert models.base is not None
    for file in models:
        info = read_gguf(file.path)
        assert info.architecture == "llama"
        assert info.file_type == file.name
        assert info.parameter_count == models.base.header.parameter_count
        assert file.fallback_tensors == 0
        assert file.contents.holds_named_type
    ladder = [file.bits_per_weight for file in models][:6]
    assert ladder == sorted(ladder)
    assert ladder[5] == pytest.approx(8.5, abs=0.1)


def test_bfloat16_stays_and_is_the_base(models: ModelSet) -> None:
    assert models.base is not None
    assert models["BF16"].path == models.base.path
    assert set(models["BF16"].contents.tensors) == {"BF16", "F32"}


def test_tied_embedding_counts_once(models: ModelSet) -> None:
    info = models["Q8_0"].header
    assert bytes_per_token(info) == info.tensor_bytes


def test_tokenizers_were_compared(models: ModelSet) -> None:
    check = models.tokenizer_check
    assert isinstance(check, dict)
    assert check["texts"] > 20
    assert check["chat_template"] is True
    assert check["warnings"] == []


def test_nothing_is_made_again(
    models: ModelSet, tiny: Path, store: Store, host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("edgequant.models.steps.base.convert", refuse)
    monkeypatch.setattr("edgequant.models.steps.quantize.run_logged", refuse)
    again = quantize(tiny, TYPES[:3], host=host_build, store=store)
    assert again["Q2_K"].path == models["Q2_K"].path


def test_rows_that_are_not_whole_blocks_are_told(
    tmp_path: Path, host_build: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_llama_folder(tmp_path / "odd", hidden=320, heads=10, feed_forward=480)
    store = Store(tmp_path / "store")
    for _ in ("made", "found"):
        made = quantize(folder, ["Q2_K", "Q3_K_S"], host=host_build, store=store)
        file = made["Q2_K"]
        assert file.fallback_tensors == 7
        assert file.bits_per_weight > 4.5
        assert file.contents.named_type == "Q2_K"
        assert not file.contents.holds_named_type
        assert made.table[1].same_as == "Q2_K"
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
    models: ModelSet, tiny: Path, store: Store, host_build: Any
) -> None:
    with pytest.raises(EdgequantError, match="IQ2_XXS needs an importance matrix"):
        quantize(tiny, ["IQ2_XXS"], host=host_build, store=store)


def test_our_list_of_types_is_the_programs(host_build: Any) -> None:
    program = host_build.binary("llama-quantize")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    listed = re.findall(r"^\s+\d+\s+or\s+(\w+)\s*: (.*)$", done.stdout, re.MULTILINE)
    assert [name for name, text in listed if "alias" not in text] == list(QUANTIZATIONS)


def test_command_prints_json_and_links_the_files(
    tiny: Path, models: ModelSet, store: Store, host_build: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("edgequant.build.build.build", lambda target: host_build)
    monkeypatch.setattr("edgequant.models.make.Store", lambda: store)
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
        assert path.samefile(models[made["quantization"]].path)
        assert made["sha256"] == models[made["quantization"]].sha256


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
    assert before["Q8_0"].sha256 != after["Q8_0"].sha256
    assert "folder/model.safetensors" in after.inputs


def test_a_file_that_llama_cpp_cannot_load_ends_the_conversion(
    tiny: Path, tmp_path: Path, host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    config = json.loads((broken / "config.json").read_text())
    # The weights have 512, which no comparison of shapes tells here, as for an architecture whose
    # shapes are its own: whole files, and llama.cpp refuses them.
    monkeypatch.setattr("edgequant.models.folder.check_config", lambda *_: None)
    (broken / "config.json").write_text(json.dumps({**config, "intermediate_size": 1024}))
    with pytest.raises(ConversionError, match=r"cannot load the converted file: .*wrong shape"):
        quantize(broken, ["Q8_0"], host=host_build, store=Store(tmp_path / "store"))


def test_weights_that_are_no_numbers_are_named(tiny: Path, tmp_path: Path, host_build: Any) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    weights = broken / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    # One row of the embedding, the first tensor, which evaluating one token does not reach.
    (header,) = struct.unpack_from("<Q", whole)
    row = 8 + header + 300 * 512
    whole[row : row + 512] = b"\xc0\x7f" * 256
    weights.write_bytes(whole)
    with pytest.raises(ConversionError, match=r"NaN.*: token_embd\.weight holds NaN"):
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


def test_a_split_gguf_is_merged_to_the_very_model(
    models: ModelSet, tmp_path: Path, host_build: Any
) -> None:
    whole = models["Q4_K_M"]
    parts = write_split(whole.path, tmp_path / "parts", 3)
    store = Store(tmp_path / "store")
    for named in (parts[0], parts[2]):
        taken = take_in({"mine": named}, name="tiny", store=store)["mine"]
        assert taken.header.file_type == "Q4_K_M"
        assert same_tensors({"whole": whole.header, "merged": taken.header}) == {"merged": "whole"}
        assert "split.count" not in taken.header.metadata
        assert set(taken.header.metadata) == set(whole.header.metadata)
    assert check_loads(taken.path, host_build.binary("libllama.so"))["loaded"] is True
    parts[1].unlink()
    parts[2].unlink()
    with pytest.raises(GgufError, match=r"2 are missing: .*00002.*00003"):
        take_in({"mine": parts[0]}, name="tiny", store=store)


def test_ready_files_are_used_where_they_lie(models: ModelSet, tmp_path: Path) -> None:
    files = {"small": models["Q2_K"].path, "large": models["Q8_0"].path}
    taken = take_in(files, name="mine", store=Store(tmp_path))
    assert [(f.name, f.path) for f in taken] == list(files.items())
    assert taken["small"].sha256 == models["Q2_K"].sha256
    assert taken.base is None
    assert not list(tmp_path.iterdir())
