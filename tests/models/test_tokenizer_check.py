"""Tokenizations are compared to the token, and a difference explains itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.core.errors import ConversionError, ModelFolderError
from edgequant.models.tokenizer_check import (
    Difference,
    Tokenization,
    _ask_hugging_face,
    check_texts,
    cut_markers,
    first_difference,
    llama_token_ids,
    remedy,
)


def tokens(*pieces: str) -> Tokenization:
    """Pieces whose ids are their hashes: equal pieces, equal ids."""
    return Tokenization(tuple(sum(p.encode()) for p in pieces), pieces)


def difference(hugging_face: Tokenization, gguf: Tokenization) -> Difference:
    found = first_difference("some text", hugging_face, gguf)
    assert found is not None
    return found


ids = st.lists(st.integers(0, 5), max_size=8)


@given(ids, ids)
def test_first_difference_is_the_first(left: list[int], right: list[int]) -> None:
    a, b = (Tokenization(tuple(x), tuple(map(str, x))) for x in (left, right))
    found = first_difference("t", a, b)
    if left == right:
        assert found is None
    else:
        assert found is not None
        assert left[: found.index] == right[: found.index]
        assert left[found.index : found.index + 1] != right[found.index : found.index + 1]


def test_description_shows_text_place_and_both_sides() -> None:
    text = difference(tokens("a", "<|im_start|>", "b"), tokens("a", "<", "|", "im")).describe()
    assert "at token 1" in text
    assert "'some text'" in text
    assert "'<|im_start|>'" in text
    assert "'|'" in text
    assert "(ends here)" in difference(tokens("a", "b"), tokens("a")).describe()


@pytest.mark.parametrize(
    ("hugging_face", "gguf", "hint"),
    [
        (tokens("a", "b"), tokens("<s>", "a", "b"), '"add_bos_token".*<s>'),
        (tokens("<s>", "a", "b"), tokens("a", "b"), '"add_bos_token".*<s>'),
        (tokens("<|im_end|>", "x"), tokens("<", "|", "x"), "control or user-defined"),
        (tokens("<", "|", "x"), tokens("<|im_end|>", "x"), '"added_tokens"'),
        (tokens("system"), tokens("▁s", "ystem"), '"add_prefix_space": false'),
        (tokens("x", "y"), tokens("x", "z"), "correct the tokenizer"),
    ],
)
def test_remedy_fits_the_difference(
    hugging_face: Tokenization, gguf: Tokenization, hint: str
) -> None:
    import re

    assert re.search(hint, remedy(difference(hugging_face, gguf)))


def test_markers_are_whole_broken_or_plain_text() -> None:
    marker, other, text = "<|im_start|>", "<|im_end|>", "<|user|>"
    pieces = {
        marker: Tokenization((9, 1), ("▁", marker)),
        other: tokens("<", "|"),
        text: tokens("<", "|", "user"),
    }
    broken, plain = cut_markers({marker: 1, other: 2, text: None}, pieces)
    assert broken == [other]
    assert plain == [text]


def test_texts_cover_the_study_prompts_and_awkward_ones() -> None:
    texts = check_texts()
    assert any("Quick Answer: Give an initial answer" in t and "<|im_start|>" in t for t in texts)
    assert any("UNDER" in t for t in texts)
    assert any(t.startswith(" ") for t in texts)
    assert any("😀" in t for t in texts)
    assert len(texts) == len(set(texts))


def program(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "llama-tokenize"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_llama_tokenize_gets_the_text_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_ESCAPE", "1")
    fake = program(
        tmp_path,
        f'echo "$@" > {tmp_path}/args; env > {tmp_path}/env; cat > {tmp_path}/in; echo [1]',
    )
    text = "\\boxed{}\n  é"
    assert llama_token_ids(fake, tmp_path / "m.gguf", text, special=False) == (1,)
    assert (tmp_path / "in").read_bytes() == text.encode()
    arguments = (tmp_path / "args").read_text()
    assert "--no-escape" in arguments
    assert "--no-bos" in arguments
    assert "LLAMA_ARG_ESCAPE" not in (tmp_path / "env").read_text()
    llama_token_ids(fake, tmp_path / "m.gguf", text, special=True)
    assert "--no-bos" not in (tmp_path / "args").read_text()


@pytest.mark.parametrize("body", ["echo broken >&2; exit 1", "echo not ids", "echo 7"])
def test_llama_tokenize_failing_is_an_error(tmp_path: Path, body: str) -> None:
    with pytest.raises(ConversionError, match="cannot use this file's tokenizer"):
        llama_token_ids(program(tmp_path, body), tmp_path / "m.gguf", "x", special=False)


def test_folder_that_transformers_cannot_load(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelFolderError, match="transformers cannot load its tokenizer"):
        _ask_hugging_face(tmp_path, ["text"])
    assert os.environ.get("USE_TORCH") != "0"
