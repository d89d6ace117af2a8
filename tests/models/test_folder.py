"""A model folder is looked through before anything slow starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgequant.core.errors import ModelFolderError
from edgequant.models.folder import check_model_folder, hash_inputs, model_name
from tests.models.hf_folder import safetensors

WEIGHTS = safetensors({"a": ("BF16", (4, 8), bytes(64)), "b": ("F32", (2,), bytes(8))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    path.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "torch_dtype": "float16"}
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.model").write_bytes(b"pieces")
    (path / "model.safetensors").write_bytes(WEIGHTS)
    return path


def test_a_whole_folder(folder: Path) -> None:
    found = check_model_folder(folder)
    assert found.name == "tiny"
    assert found.architecture == "LlamaForCausalLM"
    assert found.dtype == "float16"
    assert found.parameter_count == 34
    assert set(hash_inputs(found)) == {"config.json", "tokenizer.model", "model.safetensors"}


def test_dtype_is_read_from_the_weights_where_the_config_is_silent(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert check_model_folder(folder).dtype == "bfloat16"


def test_text_model_inside_a_larger_one(folder: Path) -> None:
    config = {"architectures": ["Outer"], "text_config": {"architectures": ["InnerForCausalLM"]}}
    (folder / "config.json").write_text(json.dumps(config))
    assert check_model_folder(folder).architecture == "InnerForCausalLM"


def index(*shards: str) -> str:
    return json.dumps({"weight_map": {f"w{i}": shard for i, shard in enumerate(shards)}})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "names no architecture"),
        (lambda f: (f / "tokenizer.model").unlink(), "no tokenizer"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(WEIGHTS[:-1]), "truncated or damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(WEIGHTS[:5]), "truncated or damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "truncated or damaged"),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
            ),
            "Git LFS pointer",
        ),
        (
            lambda f: (f / "model.safetensors.index.json").write_text(
                index("model.safetensors", "model-00002-of-00002.safetensors")
            ),
            "1 of 2 weight files are missing: model-00002",
        ),
    ],
)
def test_what_is_missing_is_named(
    folder: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(folder)
    with pytest.raises(ModelFolderError, match=message) as raised:
        check_model_folder(folder)
    assert raised.value.subject is not None
    assert str(folder) in raised.value.subject


def test_hugging_face_id_instead_of_a_folder() -> None:
    with pytest.raises(ModelFolderError, match="looks like the id of a model on a hub") as raised:
        check_model_folder(Path("acme/Tiny-1B"))
    assert raised.value.next_step is not None
    assert "edgequant pull acme/Tiny-1B" in raised.value.next_step


def test_file_and_nothing_instead_of_a_folder(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelFolderError, match="no such folder"):
        check_model_folder(tmp_path / "none")
    with pytest.raises(ModelFolderError, match="is a file"):
        check_model_folder(folder / "config.json")


def typed_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder.parent)
    return Path(folder.name)


def typed_with_dots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return folder / ".." / folder.name


def typed_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return Path()


def typed_as_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    link = folder.parent / "link"
    link.symlink_to(folder)
    return link


def typed_below_a_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    link = folder.parent / "elsewhere"
    link.symlink_to(folder.parent)
    return link / folder.name


@pytest.mark.parametrize(
    "typed",
    [typed_relative, typed_with_dots, typed_here, typed_as_link, typed_below_a_link],
)
def test_changed_weights_change_the_inputs_however_the_folder_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, typed: Callable[..., Path]
) -> None:
    path = typed(folder, monkeypatch)
    before = hash_inputs(check_model_folder(path))
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"1")
    after = hash_inputs(check_model_folder(path))
    assert before == {**after, "model.safetensors": before["model.safetensors"]}
    assert before["model.safetensors"] != after["model.safetensors"]
    assert after == hash_inputs(check_model_folder(folder))


def test_a_hub_snapshot_of_links_has_its_weights_in_the_inputs(
    folder: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "models--acme--Tiny-1B" / "snapshots" / "0123abcd"
    blobs = snapshot.parent.parent / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        # The hub's own layout: a blob is named by its hash and has no suffix.
        (blobs / f"{number:064x}").write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{number:064x}")
    found = check_model_folder(snapshot)
    assert found.name == "Tiny-1B"
    assert hash_inputs(found) == hash_inputs(check_model_folder(folder))
    (snapshot / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1] + b"1")
    assert hash_inputs(found) != hash_inputs(check_model_folder(folder))


def hub_root(folder: Path, *snapshots: str, main: str | None = None) -> Path:
    root = folder.parent / "models--acme--Tiny-1B"
    for name in snapshots:
        shutil.copytree(folder, root / "snapshots" / name)
    if main is not None:
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text(main)
    return root


def test_a_hub_caches_root_stands_for_its_main_snapshot(folder: Path) -> None:
    root = hub_root(folder, "aaaa", "bbbb", main="bbbb")
    found = check_model_folder(root)
    assert found.path == (root / "snapshots" / "bbbb").resolve()
    assert found.name == "Tiny-1B"


def test_a_hub_caches_root_stands_for_its_only_snapshot(folder: Path) -> None:
    assert check_model_folder(hub_root(folder, "aaaa")).path.name == "aaaa"


def test_a_hub_caches_root_with_several_snapshots_needs_a_choice(folder: Path) -> None:
    with pytest.raises(ModelFolderError, match="2 snapshots") as raised:
        check_model_folder(hub_root(folder, "aaaa", "bbbb", main="cccc"))
    assert raised.value.next_step is not None
    assert "aaaa" in raised.value.next_step


def test_a_chat_template_is_noticed(folder: Path) -> None:
    assert not check_model_folder(folder).has_chat_template
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert check_model_folder(folder).has_chat_template


def test_every_shard_is_in_the_inputs(folder: Path) -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (folder / "model.safetensors").rename(folder / shards[0])
    (folder / shards[0]).write_bytes(safetensors({"w0": ("F32", (2,), bytes(8))}))
    (folder / shards[1]).write_bytes(safetensors({"w1": ("F32", (2,), bytes(8))}))
    (folder / "model.safetensors.index.json").write_text(index(*shards))
    assert set(shards) <= hash_inputs(check_model_folder(folder)).keys()


def test_more_chat_templates_one_folder_down_are_in_the_inputs(folder: Path) -> None:
    templates = folder / "additional_chat_templates"
    templates.mkdir()
    (templates / "tool_use.jinja").write_text("{{ messages }}")
    found = hash_inputs(check_model_folder(folder))
    assert "additional_chat_templates/tool_use.jinja" in found


def test_no_inputs_without_weights(folder: Path) -> None:
    found = replace(check_model_folder(folder), weights=())
    with pytest.raises(ModelFolderError, match="no weights"):
        hash_inputs(found)


def test_unread_files_do_not_change_the_inputs(folder: Path) -> None:
    before = hash_inputs(check_model_folder(folder))
    (folder / "picture.png").write_bytes(b"png")
    (folder / "original.bin").write_bytes(b"other weights")
    (folder / ".cache").write_text("hidden")
    assert hash_inputs(check_model_folder(folder)) == before
    (folder / "README.md").write_text("the converter reads the model card")
    assert hash_inputs(check_model_folder(folder)) != before


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/Llama-3.1-8B", "Llama-3.1-8B"),
        ("/experiments/demo_model/model", "demo_model"),
        ("/hub/models--acme--Tiny-1B/snapshots/0123456789abcdef", "Tiny-1B"),
        ("/models/with space", "with-space"),
    ],
)
def test_model_name(path: str, name: str) -> None:
    assert model_name(Path(path)) == name
