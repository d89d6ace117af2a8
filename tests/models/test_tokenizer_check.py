"""Tokenizations are compared to the token, and a difference explains itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.models.tokenizer_check import (
    Difference,
    Tokenization,
    check_texts,
    cut_markers,
    first_difference,
    remedy,
)
from edgequant.models.tokenizer_files import TokenizerFiles, read_tokenizer_files


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


NOTHING_SAID = TokenizerFiles({}, frozenset(), frozenset(), True, False)
BOS_WANTED = difference(tokens("<s>", "a", "b"), tokens("a", "b"))
BOS_UNWANTED = difference(tokens("a", "b"), tokens("<s>", "a", "b"))
CUT = difference(tokens("<|im_end|>", "x"), tokens("<", "|", "x"))
JOINED = difference(tokens("<", "|", "x"), tokens("<|im_end|>", "x"))
SPACE = difference(tokens("system"), tokens("▁s", "ystem"))


@pytest.mark.parametrize(
    ("found", "files", "hint"),
    [
        (BOS_UNWANTED, NOTHING_SAID, 'set "add_bos_token": false.*<s>'),
        (BOS_WANTED, NOTHING_SAID, 'set "add_bos_token": true.*<s>'),
        (BOS_WANTED, replace(NOTHING_SAID, settings={"add_bos_token": True}), "post_processor"),
        (BOS_UNWANTED, replace(NOTHING_SAID, settings={"add_bos_token": False}), "post_processor"),
        (BOS_WANTED, replace(NOTHING_SAID, settings={"add_bos_token": False}), "set .*: true"),
        (CUT, NOTHING_SAID, "control or user-defined.*or a special token"),
        (CUT, replace(NOTHING_SAID, has_sentencepiece=False), "^make .* a special token in"),
        (
            CUT,
            replace(NOTHING_SAID, special_tokens=frozenset({"<|im_end|>"})),
            r"control or user-defined piece of tokenizer\.model, then",
        ),
        (
            CUT,
            replace(
                NOTHING_SAID, has_sentencepiece=False, special_tokens=frozenset({"<|im_end|>"})
            ),
            "is a special token in tokenizer_config.json already",
        ),
        (JOINED, NOTHING_SAID, 'list .* under "added_tokens"'),
        (JOINED, replace(NOTHING_SAID, added_tokens=frozenset({"<|im_end|>"})), '"normalized"'),
        (SPACE, NOTHING_SAID, 'set "add_prefix_space": false'),
        (SPACE, replace(NOTHING_SAID, settings={"add_prefix_space": False}), "make the normalizer"),
        (difference(tokens("x", "y"), tokens("x", "z")), NOTHING_SAID, "correct the tokenizer"),
    ],
)
def test_the_advice_fits_the_difference_and_is_not_what_the_folder_has(
    found: Difference, files: TokenizerFiles, hint: str
) -> None:
    assert re.search(hint, remedy(found, files))


def test_tokenizer_files_are_read(tmp_path: Path) -> None:
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "special": True},
        "additional_special_tokens": ["<|a|>"],
        "added_tokens_decoder": {"5": {"content": "<|b|>"}},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"content": "<|c|>"}]}')
    found = read_tokenizer_files(tmp_path)
    assert found.special_tokens == {"<s>", "</s>", "<|a|>", "<|b|>"}
    assert found.added_tokens == {"<|c|>"}
    assert (found.has_sentencepiece, found.has_chat_template) == (False, False)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert read_tokenizer_files(tmp_path).has_chat_template


def test_damaged_tokenizer_files_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": [')
    (tmp_path / "tokenizer.json").write_text("[" * 100_000)
    found = read_tokenizer_files(tmp_path)
    assert found.settings == {}
    assert not found.added_tokens


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
