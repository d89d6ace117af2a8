"""Predicted latencies: the arithmetic, and the study's board."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.boards.profile import BoardProfile
from edgequant.core.errors import ProbeError, ProfileError
from edgequant.latency.curve import Trend
from edgequant.latency.predict.instructions import InstructionCounts, counts_from_runs
from edgequant.latency.predict.roofline import ModelSize, fits_in_ram, predict, predict_one
from edgequant.latency.probe import ProbeRun, parse_probe_output

RK3568 = {
    "name": "board",
    "build": {"target": "rk3568"},
    "ssh": {"host": "board"},
    "cpu": {"cores": 4, "clock_hz": 2.0e9, "instructions_per_cycle": 1.0},
    "memory": {"ram_bytes": 2_000_000_000, "dram_bytes_per_second": 3.0e9},
    "storage": {"bytes_per_second": 173.0e6},
}
SMALL = ModelSize(file_bytes=7_000_000, bytes_per_token=6_000_000)


def instructions(decode: float, prompt: float, growth: float = 0.0) -> InstructionCounts:
    """Of a token, of a prompt token, and what a token takes more for each one before it."""
    return InstructionCounts(decode=Trend(decode, growth), prompt=Trend(0.0, prompt))


def profile(**sections: object) -> BoardProfile:
    return BoardProfile.model_validate(RK3568 | sections)


@pytest.mark.parametrize(
    ("quantization", "file_bytes", "seconds"),
    [("Q2_K", 3_168_000_000, 18.18), ("Q8_0", 8_536_000_000, 49.73)],
)
def test_the_studys_board_is_predicted_from_its_file_sizes(
    quantization: str, file_bytes: int, seconds: float
) -> None:
    # The weights that a token uses are fewer than the file's; storage is read whole all the same.
    size = ModelSize(file_bytes=file_bytes, bytes_per_token=file_bytes * 9 // 10)
    prediction = predict_one(profile(), quantization, size, instructions(2e10, 1e10))
    assert prediction.bound == "storage"
    assert not prediction.fits_in_ram
    assert prediction.pace.decode_seconds == pytest.approx(seconds, rel=0.02)
    assert prediction.pace.source == "predicted"


def test_a_small_model_is_bound_by_dram_or_by_computing() -> None:
    # 6 MB at 3 GB/s are 2 ms; 8 G instructions a second make 16 M of them 2 ms.
    dram = predict_one(profile(), "Q8_0", SMALL, instructions(2e6, 1e5))
    assert dram.bound == "dram"
    assert dram.pace.decode_seconds == pytest.approx(0.002)
    compute = predict_one(profile(), "Q2_K", SMALL, instructions(32e6, 1e5))
    assert compute.bound == "compute"
    assert compute.pace.decode_seconds == pytest.approx(0.004)
    assert compute.bandwidth_seconds == pytest.approx(0.002)
    assert "1 instructions per cycle on 4 x 2 GHz" in compute.pace.note


def test_a_prompts_pass_over_the_weights_is_shared_by_its_tokens() -> None:
    counts = instructions(2e6, 8e3)
    prediction = predict_one(profile(), "Q", SMALL, counts, prompt_tokens=100)
    # One pass of 2 ms for 100 tokens, against 1 microsecond of computing for each.
    assert prediction.prefill_bound == "dram"
    assert prediction.pace.prefill_seconds_per_token == pytest.approx(0.002 / 100)
    two = predict_one(profile(), "Q", SMALL, counts, prompt_tokens=1000)
    assert two.pace.prefill_seconds_per_token == pytest.approx(2 * 0.002 / 1000)
    busy = predict_one(profile(), "Q", SMALL, instructions(2e6, 8e6), prompt_tokens=100)
    assert busy.prefill_bound == "compute"
    assert busy.pace.prefill_seconds_per_token == pytest.approx(0.001)


def test_the_limit_of_ram_decides_between_storage_and_dram() -> None:
    assert fits_in_ram(1_700_000_000, 2_000_000_000)
    assert not fits_in_ram(1_700_000_001, 2_000_000_000)


def test_without_counted_instructions_the_bandwidth_alone_predicts_and_says_so() -> None:
    prediction = predict_one(profile(cpu={}), "Q", SMALL)
    assert prediction.compute_seconds is None
    assert prediction.pace.decode_seconds == pytest.approx(0.002)
    assert "instructions not counted" in prediction.pace.note


def test_fewer_threads_than_cores_compute_more_slowly() -> None:
    counts = instructions(80e6, 1e6)
    cpu = {"cores": 4, "threads": 1, "clock_hz": 2.0e9, "instructions_per_cycle": 1.0}
    one = predict_one(profile(cpu=cpu), "Q", SMALL, counts)
    four = predict_one(profile(), "Q", SMALL, counts)
    assert one.pace.decode_seconds == pytest.approx(4 * four.pace.decode_seconds)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"memory": {"dram_bytes_per_second": 3.0e9}}, "memory.ram_bytes"),
        ({"memory": {"ram_bytes": 2_000_000_000}}, "memory.dram_bytes_per_second"),
        ({"cpu": {"cores": 4}}, "cpu.clock_hz"),
    ],
)
def test_a_profile_that_lacks_a_figure_is_an_error_that_names_it(
    section: dict[str, object], key: str
) -> None:
    with pytest.raises(ProfileError, match=key):
        predict_one(profile(**section), "Q", SMALL, instructions(1e6, 1e6))


@settings(deadline=None)
@given(st.floats(1e5, 1e9), st.floats(1.1, 10))
def test_more_instructions_are_never_faster(decode: float, factor: float) -> None:
    counts = {"A": instructions(decode, 1e5), "B": instructions(decode * factor, 1e5)}
    a, b = predict(profile(), {"A": SMALL, "B": SMALL}, counts)
    assert a.pace.decode_seconds <= b.pace.decode_seconds
    assert b.pace.decode_seconds >= b.bandwidth_seconds


def run_with(prompt_tokens: int, prefill: int, decode: list[int]) -> ProbeRun:
    step = '"major_faults":0,"minor_faults":0'
    lines = [
        '{"event":"start","probe_version":1,"llama_cpp_commit":"x","model":"m","threads":1,'
        '"repack":true,"cache_type_k":"f16","cache_type_v":"f16","context":256,'
        f'"prompt_tokens":{prompt_tokens},"system_info":""}}',
        f'{{"event":"load","nanoseconds":1,{step}}}',
        f'{{"event":"prefill","nanoseconds":{prefill},"tokens":{prompt_tokens},{step}}}',
    ]
    lines += [
        f'{{"event":"token","index":{i},"token_id":1,"piece":"","nanoseconds":{n},{step}}}'
        for i, n in enumerate(decode)
    ]
    lines.append(f'{{"event":"end","stop_reason":"limit","tokens":{len(decode)},"nanoseconds":1}}')
    return parse_probe_output(lines)


def test_counts_grow_with_prompt_and_depth() -> None:
    def run(prompt: int, tokens: int) -> ProbeRun:
        steps = [1000 + 5 * (prompt + index - 1) for index in range(1, tokens)]
        return run_with(prompt, 500 + 70 * prompt - 3, [3, steps[0] + 90, *steps[1:]])

    counts = counts_from_runs([run(20, 16), run(10, 8), run(40, 8)])
    assert counts.decode.fixed == pytest.approx(1000, rel=1e-3)
    assert counts.decode.linear == pytest.approx(5, rel=1e-3)
    assert counts.prompt.fixed == pytest.approx(500, rel=1e-3)
    assert counts.prompt.linear == pytest.approx(70, rel=1e-3)
    assert counts.first_step == pytest.approx(90, rel=0.05)


def test_a_clock_that_does_not_count_is_noticed() -> None:
    with pytest.raises(ProbeError, match="does not count"):
        counts_from_runs([run_with(10, 900, [1, 2]), run_with(30, 800, [1])])
    with pytest.raises(ProbeError, match="at least 2 tokens"):
        counts_from_runs([run_with(10, 900, [1]), run_with(30, 1800, [1])])


@pytest.mark.parametrize("fixed", [1e6, 16e6, 32e6])
def test_a_predicted_token_takes_the_larger_of_bytes_and_growing_instructions(fixed: float) -> None:
    # 2 ms for the bytes are 16 M instructions.
    pace = predict_one(profile(), "Q", SMALL, instructions(fixed, 1e5, growth=2e4)).pace
    for depth in (0, 100, 749, 751, 5000):
        expected = max(0.002, (fixed + 2e4 * depth) / 8e9)
        assert pace.decode_seconds_for(depth, 1) == pytest.approx(expected, rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 3000), st.floats(0, 1e5), st.floats(0, 1e8))
def test_a_predicted_prompt_takes_a_pass_for_each_batch_or_more(
    prompt: int, per_token: float, fixed: float
) -> None:
    counts = InstructionCounts(Trend(1e6), Trend(fixed, per_token))
    pace = predict_one(profile(), "Q", SMALL, counts).pace
    passes = max(math.ceil(prompt / 512), 1) * 0.002
    expected = max(passes, (fixed + per_token * prompt) / 8e9)
    assert pace.first_token_seconds(prompt) == pytest.approx(expected)
