"""The comparison of builds: its variants, its keys, its tables and the profile's arithmetic."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.by_function import per_function, read_blocks, read_symbols  # noqa: E402
from benchmarks.instructions import (  # noqa: E402
    Count,
    Results,
    find_models,
    markdown_table,
    other_answers,
    result_key,
)
from benchmarks.random_model import make_config, tensor_shapes  # noqa: E402
from benchmarks.variants import (  # noqa: E402
    OURS,
    REFERENCE,
    VARIANTS,
    build_identity,
    find_variant,
    target_of,
)
from edgequant.core.errors import BuildError, ProbeError  # noqa: E402

DEMO_CONFIG: dict[str, object] = {"vocab_size": 1024, "hidden_size": 256, "rope_theta": 10000.0}


def count(variant: str, quantization: str, decode: float, tokens: tuple[int, ...] = (1,)) -> Count:
    return Count(
        variant=variant,
        quantization=quantization,
        decode=decode,
        prompt=decode / 2,
        prompt_tokens=(10, 20),
        token_ids=tokens,
        probe_sha256="p",
        probe_bytes=1,
        model_sha256="m",
    )


def test_variants_have_names_of_their_own_and_both_ends_of_the_comparison() -> None:
    names = [variant.name for variant in VARIANTS]
    assert len(names) == len(set(names))
    assert {OURS, REFERENCE} <= set(names)


def test_an_unknown_variant_names_the_known_ones() -> None:
    with pytest.raises(BuildError, match="no variant") as caught:
        find_variant("icc")
    assert OURS in str(caught.value)


def test_a_variant_that_only_runs_otherwise_is_not_compiled_again() -> None:
    identities = {v.name: build_identity(v, "source") for v in VARIANTS}
    assert identities[OURS] == identities["zig-no-repack"]
    compiled = [identities[v.name] for v in VARIANTS if v.repack]
    assert len(compiled) == len(set(compiled))


def test_another_source_is_another_build() -> None:
    variant = find_variant(OURS)
    assert build_identity(variant, "one") != build_identity(variant, "another")


def test_the_reference_is_compiled_without_what_the_board_adds() -> None:
    target = target_of(find_variant(REFERENCE))
    assert target.gcc.flags == ("-march=armv8-a",)
    assert target.linkage == "static"


def test_ours_is_compiled_as_the_target_says() -> None:
    from edgequant.build.targets.target import load_target

    target = load_target("armv8.2-a+dotprod+fp16")
    assert target_of(find_variant(OURS)).zig == target.zig
    assert target_of(find_variant("gcc")).gcc == target.gcc


@given(st.lists(st.text(max_size=5), min_size=6, max_size=6))
def test_a_result_belongs_to_its_prompt_model_and_run(parts: list[str]) -> None:
    probe, model, prompt, board, other, _ = parts
    key = result_key(probe, model, prompt, 8, True, board)
    assert key == result_key(probe, model, prompt, 8, True, board)
    assert key != result_key(probe, model, prompt, 8, False, board)
    assert (key == result_key(probe, model, other, 8, True, board)) == (other == prompt)


def test_results_are_found_again_and_broken_ones_are_counted_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    assert results.find("key") is None
    results.keep("key", count("zig", "Q8_0", 2.5e6))
    found = results.find("key")
    assert found is not None
    assert found.decode == 2.5e6
    (tmp_path / "results" / "key.json").write_text("{")
    assert results.find("key") is None


def test_the_table_divides_by_the_reference_of_the_same_type() -> None:
    counts = [
        count("study", "Q4_0", 8e6),
        count("study", "Q8_0", 123e6),
        count("zig", "Q4_0", 2e6),
        count("zig", "Q8_0", 61.5e6),
    ]
    assert markdown_table(counts, "decode").splitlines() == [
        "| variant | Q4_0 | Q8_0 |",
        "| --- | ---: | ---: |",
        "| study | 8.000 (1.00) | 123.0 (1.00) |",
        "| zig | 2.000 (0.25) | 61.50 (0.50) |",
    ]


def test_the_table_leaves_out_what_was_not_counted() -> None:
    counts = [count("gcc", "Q4_0", 8e6), count("zig", "Q8_0", 1e6)]
    assert markdown_table(counts, "prompt").splitlines()[2:] == [
        "| gcc | 4.000 |  |",
        "| zig |  | 0.500 |",
    ]


def test_other_answers_say_where_they_part() -> None:
    counts = [
        count("zig", "Q4_0", 1, (1, 2, 3)),
        count("gcc", "Q4_0", 1, (1, 2, 4)),
        count("study", "Q4_0", 1, (1, 2, 3)),
        count("gcc", "Q8_0", 1, (9,)),
    ]
    assert other_answers(counts) == ["gcc Q4_0: differs from zig at token 2"]


def test_models_are_told_apart_by_the_whole_type(tmp_path: Path) -> None:
    for name in ("m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q2_K.gguf", "m-Q2_K_S.gguf"):
        (tmp_path / name).touch()
    assert find_models(tmp_path, ["Q2_K", "Q4_0"]) == {
        "Q2_K": tmp_path / "m-Q2_K.gguf",
        "Q4_0": tmp_path / "m-Q4_0.gguf",
    }
    with pytest.raises(ProbeError, match=r"0 files \*-Q8_0"):
        find_models(tmp_path, ["Q8_0"])


def test_blocks_are_summed_by_address() -> None:
    assert read_blocks(["400 4 10", "400 2 1", "410 1 5"]) == Counter({0x400: 42, 0x410: 5})


def test_symbols_are_functions_alone() -> None:
    lines = [
        "                 U missing",
        "0000000000000410 t second(int, char*)",
        "0000000000000400 T first",
        "0000000000000400 t $x",
        "0000000000000420 d data",
    ]
    assert read_symbols(lines) == [(0x400, "first"), (0x410, "second(int, char*)")]


def test_a_tokens_share_is_the_difference_of_two_runs() -> None:
    symbols = [(0x400, "first"), (0x410, "second")]
    short = Counter({0x400: 100, 0x414: 8, 0x300: 1})
    long = Counter({0x400: 100, 0x40C: 20, 0x414: 16, 0x300: 1})
    executed = per_function(short, long, 4, symbols)
    assert executed == Counter({"first": 5, "second": 2, "?": 0})


@pytest.mark.parametrize(("layers", "hidden"), [(1, 256), (8, 1024), (2, 2048)])
def test_the_random_model_fits_every_quantization(layers: int, hidden: int) -> None:
    config = make_config(DEMO_CONFIG, layers, hidden)
    shapes = tensor_shapes(config)
    assert len(shapes) == 2 + 9 * layers
    assert config["rope_theta"] == 10000.0
    for name, shape in shapes.items():
        # K-quantizations come in blocks of 256 columns.
        assert len(shape) == 1 or shape[1] % 256 == 0, name
