"""Settings of newer releases of transformers are read as older ones have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgequant.models.checks.tokenizer_folder import loadable, mend
from edgequant.models.folder import ModelFolder
from edgequant.models.hf_tokenizer import answer
from tests.models.hf_folder import fast_tokenizer, sentencepiece_model


def folder(path: Path) -> ModelFolder:
    return ModelFolder(path, "tiny", "LlamaForCausalLM", "float16", (), 1, True)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    pytest.importorskip("sentencepiece")
    path = tmp_path / "tiny"
    path.mkdir()
    model = sentencepiece_model(markers_are_control=True)
    (path / "tokenizer.json").write_text(fast_tokenizer(model, markers_are_special=True))
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "TokenizersBackend"},
        {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": ["<|im_end|>"]},
    ],
)
def test_what_transformers_cannot_load_is_loaded_from_tokenizer_json(
    files: Path, settings: dict[str, object]
) -> None:
    pytest.importorskip("transformers")
    (files / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises((ValueError, AttributeError)):
        answer(str(files), ["a"])
    with loadable(folder(files)) as (readable, changes):
        assert len(changes) == 1
        assert readable.path.name == "tiny"
        found = answer(str(readable.path), ["<|im_end|>"])
    assert found["results"][0]["plain_pieces"] == ["<|im_end|>"]
    assert json.loads((files / "tokenizer_config.json").read_text()) == settings


def test_a_folder_that_needs_nothing_is_read_where_it_lies(files: Path) -> None:
    with loadable(folder(files)) as (readable, changes):
        assert (readable.path, changes) == (files, ())


def test_a_snapshot_is_read_under_the_models_name(files: Path) -> None:
    snapshot = files.parent / "models--acme--tiny" / "snapshots" / "0123456789abcdef"
    snapshot.parent.mkdir(parents=True)
    files.rename(snapshot)
    with loadable(folder(snapshot)) as (readable, changes):
        assert (readable.path.name, changes) == ("tiny", ())
        assert {p.name for p in readable.path.iterdir()} == {p.name for p in snapshot.iterdir()}


def test_more_special_tokens_are_added_to_those_there() -> None:
    mended, _ = mend({"extra_special_tokens": ["a", "b"], "additional_special_tokens": ["b", "c"]})
    assert mended == {"additional_special_tokens": ["b", "c", "a"]}
    assert mend({"extra_special_tokens": {"image": "a"}})[1] == ()
