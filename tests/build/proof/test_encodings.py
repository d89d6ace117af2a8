"""Instructions as GNU's assembler writes them, and words of any bits."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.build.proof.encodings import (
    ENCODINGS,
    count_extensions,
    describe_instruction,
    find_encoding,
    instruction_extension,
    scan_extensions,
    unpromised,
)
from edgequant.core.errors import AuditError

RECORDED = Path(__file__).parent / "recorded" / "encodings.txt"


def recorded() -> list[tuple[int, str | None, str]]:
    found = []
    for line in RECORDED.read_text().splitlines():
        if not line.startswith("#"):
            word, extension, text = line.split(" ", 2)
            found.append((int(word, 16), None if extension == "-" else extension, text))
    return found


@pytest.mark.parametrize(("word", "extension", "text"), recorded())
def test_what_the_assembler_wrote(word: int, extension: str | None, text: str) -> None:
    assert instruction_extension(word) == extension


@pytest.mark.parametrize(
    "mnemonic", ["sdot", "udot", "smmla", "bfmmla", "sqrdmlah", "usdot", "fmlal", "pmull"]
)
def test_an_instruction_has_its_name(mnemonic: str) -> None:
    words = [w for w, extension, text in recorded() if text.startswith(mnemonic + " ")]
    named = {find.name for w in words if (find := find_encoding(w)) is not None}
    # The scalable sdot and smmla are named for the whole region.
    assert named - {"scalable vector"} == {mnemonic}


def test_words_for_a_message() -> None:
    assert describe_instruction(0x4E829420) == "sdot (dotprod)"
    assert describe_instruction(0xD503201F) == "0xd503201f"


def test_no_pattern_has_bits_outside_its_mask() -> None:
    for encoding in ENCODINGS:
        assert encoding.value & ~encoding.mask == 0, encoding
        assert encoding.mask < 1 << 32


@given(st.sampled_from(ENCODINGS), st.integers(0, 2**32 - 1))
def test_every_pattern_is_reached(encoding: object, noise: int) -> None:
    assert isinstance(encoding, tuple)
    mask, value, _, _ = encoding
    word = value | (noise & ~mask)
    first = next(e for e in ENCODINGS if word & e.mask == e.value)
    assert instruction_extension(word) == first.extension


@given(st.integers(0, 2**32 - 1))
def test_counting_many_agrees_with_asking_for_each(seed: int) -> None:
    chooser = random.Random(seed)
    words = [chooser.getrandbits(32) for _ in range(200)] + [w for w, _, _ in recorded()]
    expected: dict[str, int] = {}
    for word in words:
        extension = instruction_extension(word)
        if extension is not None:
            expected[extension] = expected.get(extension, 0) + 1
    assert count_extensions(numpy.array(words, dtype="<u4")) == dict(sorted(expected.items()))


def test_what_is_no_elf_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(AuditError, match="not a whole ELF"):
        scan_extensions(tmp_path / "x")
    with pytest.raises(AuditError, match="was not built"):
        scan_extensions(tmp_path / "none")


def test_what_a_target_does_not_promise() -> None:
    counts = {"dotprod": 3, "lse": 2, "rcpc": 1, "sve": 8}
    assert unpromised(counts, ["armv8-a"]) == counts
    assert unpromised(counts, ["armv8.2-a", "dotprod", "fp16"]) == {"rcpc": 1, "sve": 8}
    assert unpromised(counts, ["armv8.6-a", "sve"]) == {}
    assert unpromised({}, ["armv8-a"]) == {}
