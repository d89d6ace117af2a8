"""Measuring: what is run in which order, what is kept, and what a failure leaves behind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pandas as pd
import pytest

from edgequant.boards.profile import BoardProfile, Clock
from edgequant.core.artefact import Store
from edgequant.core.errors import BoardUnreachableError, ProbeError, VirtualBoardError
from edgequant.core.schemas import LATENCY
from edgequant.core.tables import values
from edgequant.latency import measure as measure_module
from edgequant.latency.measure import (
    MeasureSettings,
    board_identity,
    check_threads,
    find_latency,
    further_lengths,
    measure,
    name_models,
    prompt_of,
)
from edgequant.latency.predict import instructions
from edgequant.latency.predict.instructions import (
    CountSettings,
    count_instructions,
    find_instructions,
)
from edgequant.latency.probe import parse_probe_output

RECORDED = Path(__file__).parent / "recorded"
WHOLE = (RECORDED / "whole_run.jsonl").read_text(encoding="utf-8").splitlines()
TRUNCATED = (RECORDED / "truncated_model.jsonl").read_text(encoding="utf-8").splitlines()

Behaviour = Callable[[int, str], tuple[list[str], int] | BaseException]


def profile(**changes: object) -> BoardProfile:
    values = {"name": "fake", "build": {"target": "t"}, "ssh": {"host": "fake"}, **changes}
    return BoardProfile.model_validate(values)


class FakeBoard:
    """A board that replays recorded runs; ``behaviour`` decides by call number and command."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.profile = profile()
        self.clock: Clock = "host"
        self.commands: list[str] = []
        self._behaviour = behaviour or (lambda _call, _command: (WHOLE, 0))

    def stream(
        self, command: str, on_line: Callable[[str], None], **_options: object
    ) -> SimpleNamespace:
        self.commands.append(command)
        outcome = self._behaviour(len(self.commands), command)
        if isinstance(outcome, BaseException):
            raise outcome
        lines, status = outcome
        for line in lines:
            on_line(line)
        return SimpleNamespace(status=status, stdout="", stderr="")

    def close(self) -> None:
        pass

    @property
    def order(self) -> list[str]:
        return [command.split("--model ")[1].split()[0] for command in self.commands]


class World:
    """A store, two models and a build, with deploying replaced."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.models: dict[str, Any] = {}
        for name in ("Q2_K", "Q8_0"):
            path = folder / f"m-{name}.gguf"
            path.write_text(name)
            self.models[name] = path
        probe = folder / "edgequant-probe"
        probe.write_text("probe")
        self.build = SimpleNamespace(binary=lambda _name: probe, llama_cpp_commit="abc")

    def measure(self, board: FakeBoard, **options: Any) -> Any:
        names = MeasureSettings.__dataclass_fields__
        settings = {name: options.pop(name) for name in list(options) if name in names}
        return measure(
            board,  # type: ignore[arg-type]
            self.models,
            MeasureSettings(**{"tokens": 6, "repeats": 2, "prompt_lengths": (), **settings}),
            build=self.build,
            store=self.store,
            **{"prompt": "hello", **options},
        )

    def count(self, board: FakeBoard, **options: Any) -> Any:
        return count_instructions(
            board,  # type: ignore[arg-type]
            self.models,
            CountSettings(),
            build=self.build,
            prompt="hello",
            store=self.store,
            **options,
        )

    def find_counts(self, board: FakeBoard) -> Any:
        return find_instructions(
            board.profile,
            self.models,
            CountSettings(),
            build=self.build,
            prompt="hello",
            store=self.store,
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    def deployed(
        _board: object, models: dict[str, Any], _build: object, _store: object
    ) -> tuple[str, dict[str, str]]:
        return "/b/probe", {name: f"/b/{name}" for name in models}

    monkeypatch.setattr(measure_module, "deploy_missing", deployed)
    monkeypatch.setattr(instructions, "deploy_missing", deployed)
    monkeypatch.setattr(measure_module, "_facts", lambda _board: {"ram_bytes": 1})
    return World(tmp_path)


def test_repeats_are_interleaved_over_the_models(world: World) -> None:
    board = FakeBoard()
    world.measure(board, repeats=3)
    assert board.order == ["/b/Q2_K", "/b/Q8_0"] * 3


def test_every_load_prefill_and_token_is_a_row(world: World) -> None:
    latency = world.measure(FakeBoard())
    frame = pd.read_parquet(latency.path, dtype_backend="pyarrow")
    assert list(frame.columns) == list(LATENCY.columns)
    one = frame[(frame["quantization"] == "Q8_0") & (frame["repeat"] == 2)]
    assert one["phase"].to_list() == ["load", "prefill", *["decode"] * 5]
    assert one["index"].to_list() == [0, 0, 1, 2, 3, 4, 5]
    assert values(one["token_id"]) == [None, 16, 86, 86, 86, 109, 34]
    assert one["seconds"].iloc[1] == pytest.approx((781_047 + 1_021) / 1e9)
    assert one["seconds"].iloc[2] == pytest.approx(116_322 / 1e9)
    assert list(one["prompt_tokens"].unique()) == [8]
    assert list(one["latency_source"].unique()) == ["measured"]
    assert one["model_sha256"].nunique() == 1
    assert one["frequency_hz"].isna().all()


def test_the_artefact_says_what_it_was_made_from(world: World) -> None:
    manifest = world.measure(FakeBoard(), threads=3).artefact.manifest
    assert manifest.llama_cpp_commit == "abc"
    assert set(manifest.inputs) == {"board", "probe", "model Q2_K", "model Q8_0"}
    assert manifest.parameters["threads"] == 3
    assert manifest.parameters["prompt"] == "hello"
    assert manifest.details["board_facts"] == {"ram_bytes": 1}
    assert any(name.startswith("raw/Q2_K") for name in manifest.files)


def test_the_same_measurement_is_found_and_needs_no_board(world: World) -> None:
    first = world.measure(FakeBoard())
    board = FakeBoard()
    again = world.measure(board)
    assert again.reused
    assert not board.commands
    assert again.path == first.path
    found = find_latency(
        profile(),
        world.models,
        MeasureSettings(tokens=6, repeats=2, prompt_lengths=()),
        build=world.build,
        prompt="hello",
        store=world.store,
    )
    assert found is not None
    assert found.path == first.path


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "other"},
        {"tokens": 7},
        {"repeats": 1},
        {"threads": 2},
        {"repack": False},
        {"cache_type_k": "q8_0"},
        {"prompt_lengths": (16,)},
        {"force": True},
    ],
)
def test_what_can_change_the_times_is_measured_anew(
    world: World, change: dict[str, object]
) -> None:
    world.measure(FakeBoard())
    board = FakeBoard()
    assert not world.measure(board, **change).reused
    assert board.commands


def test_another_model_binary_or_board_is_measured_anew(world: World) -> None:
    first = world.measure(FakeBoard()).artefact.key
    other_board = FakeBoard()
    other_board.profile = profile(cpu={"threads": 2})
    assert world.measure(other_board).artefact.key != first
    described = FakeBoard()
    described.profile = profile(description="other words")
    assert world.measure(described).artefact.key == first
    world.models["Q2_K"].write_text("another")
    second = world.measure(FakeBoard()).artefact.key
    assert second != first
    world.build.binary("").write_text("another probe")
    assert world.measure(FakeBoard()).artefact.key not in (first, second)


def test_how_a_board_is_reached_does_not_make_it_another(world: World) -> None:
    virtual: dict[str, object] = {"kind": "virtual", "ssh": {"host": "127.0.0.1", "port": 4000}}
    moved = virtual | {"ssh": {"host": "127.0.0.1", "port": 5000, "identity_file": "/k"}}
    assert board_identity(profile(**virtual)) == board_identity(profile(**moved))
    elsewhere = virtual | {"remote_folder": "/sdcard"}
    assert board_identity(profile(**virtual)) != board_identity(profile(**elsewhere))
    assert board_identity(profile()) != board_identity(profile(ssh={"host": "another"}))
    keyed = profile(ssh={"host": "fake", "identity_file": "/k"})
    assert board_identity(profile()) == board_identity(keyed)


def test_a_virtual_boards_clock_is_part_of_the_measurement(world: World) -> None:
    board = FakeBoard()
    board.profile = profile(kind="virtual", ssh={})
    keys = set()
    clocks: tuple[Clock, ...] = ("host", "instructions")
    for clock in clocks:
        board.clock = clock
        latency = world.measure(board)
        assert latency.artefact.manifest.parameters["clock"] == clock
        keys.add(latency.artefact.key)
    assert len(keys) == 2


def test_a_virtual_board_with_the_other_clock_is_refused(world: World) -> None:
    board = FakeBoard()
    board.profile = profile(kind="virtual", ssh={})
    board.clock = "instructions"
    with pytest.raises(VirtualBoardError, match="instructions clock"):
        world.measure(board, clock="host")
    board.clock = "host"
    with pytest.raises(VirtualBoardError, match="host clock"):
        world.count(board)
    assert not board.commands


def test_a_connection_that_breaks_under_the_instruction_clock_costs_no_run(world: World) -> None:
    def breaking(call: int, _command: str) -> tuple[list[str], int] | BaseException:
        return BoardUnreachableError("broke") if call == 2 else (WHOLE, 0)

    board = FakeBoard(breaking)
    board.profile = profile(kind="virtual", ssh={})
    board.clock = "instructions"
    assert not world.measure(board).frame["failed"].any()
    assert len(board.commands) == 5


def test_a_failed_run_is_a_row_and_the_others_count(world: World) -> None:
    def third_fails(call: int, _command: str) -> tuple[list[str], int]:
        return (TRUNCATED, 1) if call == 3 else (WHOLE, 0)

    latency = world.measure(FakeBoard(third_fails))
    by_name = {s.quantization: s for s in latency.summaries}
    assert by_name["Q2_K"].failed_repeats == 1
    assert "not within the file bounds" in by_name["Q2_K"].error
    assert by_name["Q2_K"].n == 5
    assert by_name["Q8_0"].failed_repeats == 0
    failed = latency.frame[latency.frame["failed"]]
    assert values(failed["seconds"]) == [None]
    assert failed["repeat"].to_list() == [2]


def test_only_failed_runs_are_tried_again(world: World) -> None:
    world.measure(FakeBoard(lambda call, _: (TRUNCATED, 1) if call == 3 else (WHOLE, 0)))
    board = FakeBoard()
    latency = world.measure(board)
    assert board.order == ["/b/Q2_K"]
    assert not latency.frame["failed"].any()
    assert world.measure(FakeBoard()).reused


def test_a_model_that_always_fails_does_not_hide_the_other(world: World) -> None:
    latency = world.measure(
        FakeBoard(lambda _, command: ([], 137) if "Q8_0" in command else (WHOLE, 0))
    )
    assert [m.quantization for m in latency.paces] == ["Q2_K"]
    assert "out of memory" in {s.quantization: s for s in latency.summaries}["Q8_0"].error


def test_when_all_fail_it_is_an_error_and_nothing_is_stored(world: World) -> None:
    with pytest.raises(ProbeError, match="not within the file bounds"):
        world.measure(FakeBoard(lambda _call, _command: (TRUNCATED, 1)))
    assert not list((world.store.root / "latency").glob("*/manifest.json"))


def test_a_board_that_goes_away_for_good_is_said_to_be_away(world: World) -> None:
    def cut(call: int, _command: str) -> tuple[list[str], int] | BaseException:
        return BoardUnreachableError("no answer", subject="board fake")

    with pytest.raises(BoardUnreachableError):
        world.measure(FakeBoard(cut))


def test_an_interrupted_measurement_goes_on_where_it_stopped(world: World) -> None:
    def interrupted(call: int, _command: str) -> tuple[list[str], int] | BaseException:
        return KeyboardInterrupt() if call == 3 else (WHOLE, 0)

    with pytest.raises(KeyboardInterrupt):
        world.measure(FakeBoard(interrupted))
    assert not list((world.store.root / "latency").glob("*/manifest.json"))
    board = FakeBoard()
    latency = world.measure(board)
    assert board.order == ["/b/Q2_K", "/b/Q8_0"]
    assert len(latency.frame) == 4 * 7


def test_force_measures_everything_even_after_an_interruption(world: World) -> None:
    with pytest.raises(KeyboardInterrupt):
        world.measure(FakeBoard(lambda call, _: KeyboardInterrupt() if call == 4 else (WHOLE, 0)))
    board = FakeBoard()
    world.measure(board, force=True)
    assert len(board.commands) == 4


def test_a_damaged_kept_run_is_measured_again(world: World) -> None:
    with pytest.raises(KeyboardInterrupt):
        world.measure(FakeBoard(lambda call, _: KeyboardInterrupt() if call == 4 else (WHOLE, 0)))
    kept = sorted((world.store.root / "latency").glob("*.work/*.jsonl"))
    assert len(kept) == 3
    kept[0].write_text(WHOLE[0])
    board = FakeBoard()
    world.measure(board)
    assert len(board.commands) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": 1},
        {"repeats": 0},
        {"prompt": ""},
        {"prompt": "a\0b"},
        {"prompt_lengths": (64, 0)},
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_the_board_is_asked(
    world: World, options: dict[str, object]
) -> None:
    board = FakeBoard()
    with pytest.raises(ProbeError):
        world.measure(board, **options)
    assert not board.commands


def test_a_missing_model_is_an_error(world: World) -> None:
    world.models["Q8_0"] = Path("/nowhere/x.gguf")
    with pytest.raises(ProbeError, match="no such file"):
        world.measure(FakeBoard())


def test_models_are_named_for_their_quantization_unless_two_share_it() -> None:
    types = {"a.gguf": "Q2_K", "b.gguf": "Q8_0", "c.gguf": "Q8_0", "d.gguf": "unknown"}
    named = name_models([Path(p) for p in types], lambda path: types[path.name])
    assert {name: path.name for name, path in named.items()} == {
        "Q2_K": "a.gguf",
        "b": "b.gguf",
        "c": "c.gguf",
        "d": "d.gguf",
    }
    same = name_models([Path("x/m.gguf"), Path("y/m.gguf")], lambda _path: "Q8_0")
    assert list(same) == ["m", "m (2)"]


def as_long_as(_call: int, command: str) -> tuple[list[str], int]:
    """The recorded run of "hello", a prompt of 8 tokens, made as long as the command's prompt.

    1000 ns for each prompt token more or less, and 10 for each token before a decoded one.
    """
    words = shlex.split(command)
    prompt = words[words.index("--prompt") + 1]
    length, tokens = 8 * len(prompt) // len("hello"), int(words[words.index("-n") + 1])
    start, load, prefill, first, step, *_ = [json.loads(line) for line in WHOLE]
    start["prompt_tokens"] = prefill["tokens"] = length
    prefill["nanoseconds"] = 781_047 + 1000 * (length - 8)
    steps = [
        {**step, "index": index, "nanoseconds": 116_322 + 10 * (length + index - 9)}
        for index in range(1, tokens)
    ]
    end = {"event": "end", "stop_reason": "limit", "tokens": tokens, "nanoseconds": 1}
    return [json.dumps(event) for event in (start, load, prefill, first, *steps, end)], 0


def prompts_of(board: FakeBoard) -> list[str]:
    words = [shlex.split(command) for command in board.commands]
    return [line[line.index("--prompt") + 1] for line in words]


def test_prompts_of_other_lengths_are_run_for_a_few_tokens(world: World) -> None:
    board = FakeBoard(as_long_as)
    latency = world.measure(board, tokens=16, prompt="hello" * 5, prompt_lengths=None)
    assert board.order == ["/b/Q2_K", "/b/Q8_0"] * 2 + ["/b/Q2_K"] * 2 + ["/b/Q8_0"] * 2
    assert prompts_of(board)[4:6] == [("hello" * 5)[:12], "hello" * 10]
    assert all("-n 8 " in command for command in board.commands[4:])
    frame = latency.frame[latency.frame["quantization"] == "Q8_0"]
    runs = frame[["repeat", "prompt_tokens"]].drop_duplicates()
    assert runs.to_numpy().tolist() == [[1, 40], [2, 40], [3, 19], [4, 80]]
    (summary, _) = latency.summaries
    assert (summary.prompt_tokens, summary.n, summary.repeats) == (40, 30, 2)
    errors = latency.paces[0].errors
    assert errors.prompt_tokens == (19, 40, 80)
    assert errors.prefill_held_out == pytest.approx(0, abs=0.01)


def test_an_interrupted_measurement_finds_its_short_runs_too(world: World) -> None:
    def interrupted(call: int, command: str) -> tuple[list[str], int] | BaseException:
        return KeyboardInterrupt() if call == 7 else as_long_as(call, command)

    options: dict[str, Any] = {"prompt": "hello" * 5, "prompt_lengths": (16, 100)}
    with pytest.raises(KeyboardInterrupt):
        world.measure(FakeBoard(interrupted), **options)
    board = FakeBoard(as_long_as)
    world.measure(board, **options)
    assert board.order == ["/b/Q8_0", "/b/Q8_0"]


def test_a_short_run_that_fails_is_a_row_and_is_tried_again(world: World) -> None:
    def one_fails(call: int, command: str) -> tuple[list[str], int]:
        return ([], 137) if call == 5 else as_long_as(call, command)

    options: dict[str, Any] = {"prompt": "hello" * 5, "prompt_lengths": (16, 100)}
    latency = world.measure(FakeBoard(one_fails), **options)
    assert latency.frame[latency.frame["failed"]]["repeat"].to_list() == [3]
    assert [pace.quantization for pace in latency.paces] == ["Q2_K", "Q8_0"]
    board = FakeBoard(as_long_as)
    assert not world.measure(board, **options).frame["failed"].any()
    assert board.order == ["/b/Q2_K"]


@pytest.mark.parametrize(
    ("prompt_tokens", "wanted", "context", "lengths"),
    [
        (80, None, None, [40, 160]),
        (8, None, None, [64, 128]),
        (80, None, 170, [40, 20]),
        (80, None, 512, [40, 160]),
        (80, (), 512, []),
        (80, (16, 80, 300, 16), 512, [16, 300]),
        (80, (16, 300), 256, [16]),
    ],
)
def test_a_prompt_is_no_longer_than_its_models_context(
    prompt_tokens: int, wanted: tuple[int, ...] | None, context: int | None, lengths: list[int]
) -> None:
    assert further_lengths(prompt_tokens, wanted, context) == lengths


def test_a_prompt_that_a_command_line_just_holds_is_not_doubled(world: World) -> None:
    board = FakeBoard(as_long_as)
    latency = world.measure(board, prompt="hello" * 4000, prompt_lengths=None)
    assert not latency.frame["failed"].any()
    assert [len(prompt) for prompt in prompts_of(board)[4:6]] == [10_000, 5_000]


def test_short_runs_are_no_longer_than_the_others(world: World) -> None:
    latency = world.measure(FakeBoard(as_long_as), tokens=3, repeats=1, prompt_lengths=None)
    assert [summary.prompt_tokens for summary in latency.summaries] == [8, 8]
    assert latency.frame["index"].max() == 2


def test_a_prompt_is_cut_and_repeated_from_its_own_text() -> None:
    assert prompt_of("abcdefgh", 4, 2) == "abcd"
    assert prompt_of("abcdefgh", 4, 8) == "abcdefgh" * 2
    assert prompt_of("abcdefgh", 4, 9) == "abcdefgh" * 2 + "ab"
    assert prompt_of("a", 100, 1) == "a"


def test_instructions_are_counted_once(world: World) -> None:
    board = FakeBoard(as_long_as)
    assert world.find_counts(board) is None
    counts = world.count(board).of
    assert counts["Q2_K"].prompt.linear == pytest.approx(1000)
    assert counts["Q2_K"].decode.linear == pytest.approx(10, rel=1e-3)
    assert float(counts["Q2_K"].decode.at(8)) == pytest.approx(116_322, rel=1e-3)
    assert prompts_of(board)[:3] == ["hello", "he", "hellohello"]
    assert all("--threads 1" in command for command in board.commands)
    assert world.find_counts(board).of == counts


def counting_board() -> FakeBoard:
    board = FakeBoard(as_long_as)
    board.profile = profile(kind="virtual", ssh={}, cpu={"threads": 1})
    board.clock = "instructions"
    return board


def test_what_was_measured_is_not_counted_again(world: World) -> None:
    board = counting_board()
    measured = world.measure(board, tokens=16, repeats=2, prompt_lengths=None)
    board.commands.clear()
    counts = world.count(board, measured=measured).of
    assert not board.commands
    another = World(world.store.root.parent)
    another.store = Store(world.store.root.parent / "another")
    apart = another.count(board).of
    for name, count in counts.items():
        assert count.prompt.linear == pytest.approx(apart[name].prompt.linear)
        assert count.decode.linear == pytest.approx(apart[name].decode.linear, rel=1e-3)


@pytest.mark.parametrize(
    "settings",
    [{"repack": False}, {"cache_type_k": "q8_0"}, {"prompt": "other"}, {"prompt_lengths": (64,)}],
)
def test_what_was_measured_otherwise_is_counted(world: World, settings: dict[str, Any]) -> None:
    board = counting_board()
    measured = world.measure(board, **{"tokens": 16, "prompt_lengths": None, **settings})
    board.commands.clear()
    world.count(board, measured=measured)
    assert len(board.commands) == 6


@pytest.mark.parametrize(("breaks", "calls"), [(2, 8), (3, 3)])
def test_counting_goes_on_after_a_broken_connection(world: World, breaks: int, calls: int) -> None:
    def breaking(call: int, command: str) -> tuple[list[str], int] | BaseException:
        return BoardUnreachableError("broke") if call <= breaks else as_long_as(call, command)

    board = FakeBoard(breaking)
    if breaks < measure_module.TRIES:
        world.count(board)
    else:
        with pytest.raises(BoardUnreachableError):
            world.count(board)
        assert world.find_counts(board) is None
    assert len(board.commands) == calls


@pytest.mark.parametrize(("cold", "calls"), [(1, 7), (2, 8), (3, 3)])
def test_a_run_that_waited_for_storage_is_no_count(world: World, cold: int, calls: int) -> None:
    def from_storage(call: int, command: str) -> tuple[list[str], int]:
        lines, status = as_long_as(call, command)
        if call > cold:
            return lines, status
        # As a freshly booted board did: 9 faults in the prefill, ten times its instructions.
        events = [json.loads(line) for line in lines]
        for event in events:
            if event["event"] == "prefill":
                event |= {"nanoseconds": 10 * event["nanoseconds"], "major_faults": 9}
        return [json.dumps(event) for event in events], status

    board = FakeBoard(from_storage)
    if cold < measure_module.TRIES:
        counts = world.count(board).of
        assert counts["Q2_K"].prompt.linear == pytest.approx(1000)
        assert counts["Q2_K"] == counts["Q8_0"]
    else:
        with pytest.raises(ProbeError, match="read from storage"):
            world.count(board)
        assert world.find_counts(board) is None
    assert len(board.commands) == calls


def test_read_bytes_alone_tell_of_storage(world: World) -> None:
    assert not measure_module.waited_for_storage(parse_probe_output(WHOLE))
    read = [line.replace('"read_bytes":0', '"read_bytes":4096') for line in WHOLE]
    assert measure_module.waited_for_storage(parse_probe_output(read))


@pytest.mark.parametrize(
    ("threads", "clock", "refused"),
    [
        (None, "host", False),
        (4, "host", False),
        (5, "host", True),
        (1, "instructions", False),
        (2, "instructions", True),
        (None, "instructions", False),
    ],
)
def test_more_threads_than_cores_are_refused(
    threads: int | None, clock: Literal["host", "instructions"], refused: bool
) -> None:
    four_cores = profile(cpu={"cores": 4})
    if not refused:
        check_threads(four_cores, threads, clock)
        return
    with pytest.raises(ProbeError, match="wait for each other"):
        check_threads(four_cores, threads, clock)


def test_a_board_of_unknown_cores_may_have_any_number() -> None:
    check_threads(profile(cpu={}), 64, "host")
