"""A pace from the rows of a latency table."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd
import pytest

from edgequant.core.errors import DataFrameError
from edgequant.latency.fit import fit_paces
from edgequant.latency.frame import make_frame
from edgequant.latency.pace import Pace

Seconds = Callable[[float], float]


def straight(prompt: float) -> float:
    return 0.1 + 0.02 * prompt


def growing(depth: float) -> float:
    return 0.2 + 0.001 * depth


def run(
    prompt: int,
    tokens: int,
    repeat: int = 1,
    *,
    prefill: Seconds = straight,
    decode: Seconds = growing,
    first_step: float = 0.0,
) -> list[dict[str, object]]:
    """Rows of one run: the prompt, and ``tokens`` - 1 decoded tokens."""
    common: dict[str, object] = {
        "quantization": "Q8_0",
        "repeat": repeat,
        "prompt_tokens": prompt,
        "latency_source": "emulated",
    }
    rows = [common | {"phase": "prefill", "index": 0, "seconds": prefill(prompt)}]
    for index in range(1, tokens):
        seconds = decode(prompt + index - 1) + (first_step if index == 1 else 0.0)
        rows.append(common | {"phase": "decode", "index": index, "seconds": seconds})
    return rows


def pace_of(*runs: Iterable[dict[str, object]]) -> Pace:
    (pace,) = fit_paces(frame_of(*runs))
    return pace


def frame_of(*runs: Iterable[dict[str, object]]) -> pd.DataFrame:
    return make_frame([row for rows in runs for row in rows])


THREE = (run(80, 64), run(40, 8, 2), run(160, 8, 3))


def test_a_later_token_is_dearer_and_the_pace_says_so() -> None:
    pace = pace_of(*THREE)
    for prompt, tokens in ((80, 64), (80, 400), (10, 300), (300, 50)):
        exact = straight(prompt) + sum(growing(prompt + step) for step in range(tokens - 1))
        assert pace.seconds(prompt, tokens) == pytest.approx(exact, rel=1e-3)


def test_the_fixed_cost_of_a_prompt_is_not_spread_over_its_tokens() -> None:
    pace = pace_of(*THREE)
    assert pace.first_token_seconds(20) == pytest.approx(straight(20), rel=1e-3)
    assert pace.first_token_seconds(1000) == pytest.approx(straight(1000), rel=1e-3)
    assert pace.prefill_seconds_per_token == pytest.approx(straight(80) / 80)


def test_a_square_is_fitted_only_where_a_line_misses() -> None:
    def bent(prompt: float) -> float:
        return straight(prompt) + 1e-4 * prompt**2

    runs = [run(n, 8, n, prefill=bent) for n in (40, 80, 160, 320)]
    curve = pace_of(run(80, 64, prefill=bent), *runs).prefill
    assert curve is not None
    assert curve.trend.quadratic == pytest.approx(1e-4, rel=1e-6)
    line = pace_of(*THREE).prefill
    assert line is not None
    assert line.trend.quadratic == 0


def test_what_was_measured_stands_inside_its_range() -> None:
    def stepped(depth: float) -> float:
        return 0.2 if depth < 100 else 0.3

    pace = pace_of(run(60, 100, decode=stepped), run(30, 8, 2, decode=stepped))
    assert pace.decode_seconds_for(70, 20) == pytest.approx(20 * 0.2, rel=1e-2)
    assert pace.decode_seconds_for(110, 20) == pytest.approx(20 * 0.3, rel=1e-2)


def test_the_first_step_after_any_prompt_is_dearer_at_no_depth() -> None:
    runs = (
        run(80, 64, first_step=0.5),
        run(40, 8, 2, first_step=0.5),
        run(160, 8, 3, first_step=0.5),
    )
    pace = pace_of(*runs)
    assert pace.first_step_seconds == pytest.approx(0.5, rel=0.01)
    assert pace.decode_seconds_for(120, 1) == pytest.approx(growing(120) + 0.5, rel=0.01)
    assert pace.decode_seconds_for(120, 3) - pace.decode_seconds_for(120, 2) == pytest.approx(
        growing(122), rel=0.01
    )


def test_repeats_give_their_median() -> None:
    slow = run(80, 64, 3, decode=lambda depth: 5 * growing(depth))
    pace = pace_of(run(80, 64), run(80, 64, 2), slow)
    assert pace.decode_seconds_for(90, 10) == pytest.approx(
        sum(growing(90 + step) for step in range(10)), rel=1e-3
    )


def test_errors_stand_beside_the_pace() -> None:
    pace = pace_of(*THREE)
    assert pace.note.startswith("fitted to prompts of 40, 80, 160 tokens and depths from 41 to 166")
    assert "% for a prompt" in pace.note
    errors = pace.errors
    assert errors is not None
    assert errors.prompt_tokens == (40, 80, 160)
    assert errors.depths == (41, 166)
    assert errors.prefill_fit == pytest.approx(0, abs=1e-6)
    assert errors.prefill_held_out == pytest.approx(0, abs=1e-6)
    assert errors.decode_held_out == pytest.approx(0, abs=0.01)

    def wavy(prompt: float) -> float:
        return straight(prompt) * (1.2 if prompt == 80 else 1.0)

    errors = pace_of(*(run(n, 64, n, prefill=wavy) for n in (40, 80, 160))).errors
    assert errors is not None
    assert errors.prefill_held_out is not None
    assert errors.prefill_held_out > 0.1


def test_one_prompt_length_gives_a_pace_that_says_so() -> None:
    pace = pace_of(run(80, 64))
    assert "one prompt length alone, 80 tokens" in pace.note
    assert pace.first_token_seconds(80) == pytest.approx(straight(80))
    assert pace.first_token_seconds(1) == pytest.approx(growing(0), rel=0.01)
    assert pace.errors is not None
    assert pace.errors.prefill_held_out is None
    assert pace.errors.decode_held_out is None


def test_a_prompt_takes_no_less_than_one_pass() -> None:
    pace = pace_of(run(80, 64, prefill=lambda prompt: 0.001 * prompt + 0.3), run(160, 8, 2))
    assert pace.pass_seconds == pytest.approx(growing(0), rel=0.02)
    assert pace.first_token_seconds(0) >= pace.pass_seconds


def test_a_table_without_places_gives_a_flat_pace() -> None:
    rows = [{"quantization": "Q", "phase": "decode", "seconds": 2.0}] * 9
    rows.append({"quantization": "Q", "phase": "prefill", "seconds": 6.0, "prompt_tokens": 3})
    (pace,) = fit_paces(make_frame([{**row, "latency_source": "measured"} for row in rows]))
    assert pace.seconds(3, 11) == pytest.approx(6 + 10 * 2.0)


def test_an_unreliable_measurement_says_so_in_its_note() -> None:
    noisy = run(80, 64, decode=lambda depth: 1.0 + depth % 2)
    assert "UNRELIABLE: spread" in pace_of(noisy).note


def test_a_measurement_without_times_gives_no_pace() -> None:
    failed = [{"quantization": "Q2_K", "failed": True, "error": "killed"}]
    assert [pace.quantization for pace in fit_paces(frame_of(failed, run(8, 9)))] == ["Q8_0"]
    assert fit_paces(frame_of(failed)) == []


@pytest.mark.parametrize(
    ("changed", "said"), [({"latency_source": "guessed"}, "guessed"), ({"seconds": -1.0}, "-1.0")]
)
def test_what_cannot_be_is_refused(changed: dict[str, object], said: str) -> None:
    rows = [row | changed for row in run(8, 9)]
    with pytest.raises(DataFrameError, match=said if "seconds" not in changed else "negative"):
        fit_paces(frame_of(rows))


def test_tokens_that_take_no_time_are_no_measurement() -> None:
    with pytest.raises(DataFrameError, match="takes no time at all"):
        fit_paces(frame_of(run(80, 64, decode=lambda depth: 0.0)))
