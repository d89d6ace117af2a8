from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.boards import target_selection as selection
from edgequant.boards.facts import BoardFacts
from edgequant.boards.profile import BoardProfile, list_profiles
from edgequant.boards.target_selection import (
    best_target,
    choose_target,
    target_of_board,
)
from edgequant.build.targets.isa import BASE_LEVEL, ISA_FEATURES, features, missing_features
from edgequant.build.targets.target import Target, load_target, target_names
from edgequant.core.errors import ProfileError, TargetError

TARGETS = [load_target(name) for name in target_names()]
# The line of /proc/cpuinfo of such cores, without what is of no matter here.
A53 = ["fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "cpuid"]
A72 = [*A53]
A55 = [*A53, *["atomics", "fphp", "asimdhp", "asimdrdm", "lrcpc", "dcpop", "asimddp"]]
A510_WITHOUT_SVE = [*A55, "i8mm", "bf16"]
A510 = [*A510_WITHOUT_SVE, "sve", "sve2"]
WORDS = st.sampled_from([BASE_LEVEL, *ISA_FEATURES])


def make_target(name: str, isa: tuple[str, ...]) -> Target:
    return Target(
        name=name,
        description="",
        architecture="aarch64",
        isa=isa,
        linkage="static",
        tools=("edgequant-probe",),
    )


def facts(architecture: str = "aarch64", flags: list[str] | None = None) -> BoardFacts:
    values = dict.fromkeys(BoardFacts.model_fields)
    return BoardFacts.model_validate(
        values
        | {
            "board": "mine",
            "compatible": (),
            "architecture": architecture,
            "kernel": "Linux 6.1",
            "cores": 4,
            "cpu_parts": ("Cortex-A55",),
            "isa_flags": tuple(A55 if flags is None else flags),
            "remote_folder": "edgequant",
        }
    )


def profile(target: str, kind: str = "ssh") -> BoardProfile:
    ssh = {"ssh": {"host": "board"}} if kind == "ssh" else {}
    return BoardProfile.model_validate(
        {"name": "mine", "kind": kind, "build": {"target": target}, **ssh}
    )


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (A53, "armv8-a"),
        (A72, "armv8-a"),
        (A55, "armv8.2-a+dotprod+fp16"),
        (A510_WITHOUT_SVE, "armv8.2-a+dotprod+fp16+i8mm"),
        # SVE is built on request only: it takes more instructions than without.
        (A510, "armv8.2-a+dotprod+fp16+i8mm"),
        ([*A53, "i8mm", "sve"], "armv8-a"),
        ([], "armv8-a"),
    ],
)
def test_real_cores_get_their_level(flags: list[str], name: str) -> None:
    assert best_target(flags, TARGETS).name == name


@given(
    st.lists(st.lists(WORDS, min_size=1, max_size=4, unique=True), max_size=5),
    st.sets(st.sampled_from(sorted({f for fs in ISA_FEATURES.values() for f in fs}))),
)
def test_what_is_chosen_runs_there_and_nothing_richer_does(
    levels: list[list[str]], flags: set[str]
) -> None:
    targets = [make_target("base", (BASE_LEVEL,))]
    targets += [make_target(f"t{n}", tuple(isa)) for n, isa in enumerate(levels)]
    best = best_target(flags, targets)
    assert missing_features(best.isa, flags) == []
    for other in targets:
        if not missing_features(other.isa, flags):
            assert len(features(other) or ()) <= len(features(best) or ())
    assert best_target(flags, list(reversed(targets))) == best


@given(st.sets(st.sampled_from(A510)), st.sets(st.sampled_from(A510)))
def test_a_cpu_that_can_more_gets_no_poorer_target(fewer: set[str], more: set[str]) -> None:
    poor, rich = best_target(fewer, TARGETS), best_target(fewer | more, TARGETS)
    assert len(features(poor) or ()) <= len(features(rich) or ())


def test_a_target_with_an_unknown_word_is_never_chosen() -> None:
    """Nobody can tell whether it runs there."""
    odd = make_target("armv9-a", ("armv9-a", "dotprod"))
    assert features(odd) is None
    assert best_target(A510, [*TARGETS, odd]).name != "armv9-a"


def test_no_target_at_all_is_an_error() -> None:
    with pytest.raises(TargetError, match="no target that this CPU can run"):
        best_target(A53, [make_target("x", ("armv8.2-a",)), load_target("host")])


def test_a_profile_that_agrees_is_not_mentioned() -> None:
    choice = choose_target(facts(), profile("armv8.2-a+dotprod+fp16"), TARGETS)
    assert choice.target.name == "armv8.2-a+dotprod+fp16"
    assert choice.note is None


def test_a_profile_that_says_too_little_is_told_so() -> None:
    choice = choose_target(facts(), profile("armv8-a"), TARGETS)
    assert choice.target.name == "armv8.2-a+dotprod+fp16"
    assert choice.note is not None
    assert "says armv8-a; its Cortex-A55 can run armv8.2-a+dotprod+fp16" in choice.note


def test_what_is_built_on_request_is_chosen_where_a_profile_asks_for_it() -> None:
    name = "armv8.2-a+dotprod+fp16+i8mm+sve"
    choice = choose_target(facts(flags=A510), profile(name), TARGETS)
    assert (choice.target.name, choice.note) == (name, None)
    choice = choose_target(facts(flags=A510_WITHOUT_SVE), profile(name), TARGETS)
    assert choice.target.name == "armv8.2-a+dotprod+fp16+i8mm"
    assert choice.note is not None
    assert "lacks sve" in choice.note


def test_a_profile_that_says_too_much_is_told_what_lacks() -> None:
    choice = choose_target(facts(flags=A53), profile("armv8.2-a+dotprod+fp16"), TARGETS)
    assert choice.target.name == "armv8-a"
    assert choice.note is not None
    assert "cannot run, as it lacks" in choice.note
    assert "asimddp" in choice.note
    assert 'build.target = "armv8-a"' in choice.note


@pytest.mark.parametrize(("said", "words"), [("z80", "no target"), ("host", "for this machine")])
def test_a_profile_that_says_something_else_is_told(said: str, words: str) -> None:
    note = choose_target(facts(), profile(said), TARGETS).note
    assert note is not None
    assert words in note


@pytest.mark.parametrize(
    ("architecture", "step"),
    [("armv7l", "64-bit system"), ("riscv64", "64-bit ARM board"), ("", "64-bit ARM board")],
)
def test_a_board_that_is_no_64_bit_arm_is_an_error(architecture: str, step: str) -> None:
    with pytest.raises(TargetError, match="targets are for 64-bit ARM") as caught:
        choose_target(facts(architecture), profile("armv8-a"), TARGETS)
    assert caught.value.subject == "board mine"
    assert step in str(caught.value.next_step)


def test_an_x86_board_is_an_error_but_this_machine_is_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection.platform, "machine", lambda: "x86_64")
    with pytest.raises(TargetError, match="is x86_64"):
        choose_target(facts("x86_64", []), profile("armv8-a"), TARGETS)
    local = choose_target(facts("x86_64", []), profile("armv8-a", "local"), TARGETS)
    assert local.target.is_host
    assert "the board is this machine" in str(local.note)
    said = choose_target(facts("x86_64", []), profile("host", "local"), TARGETS)
    assert said.target.is_host
    assert said.note is None


def test_an_arm_machine_that_says_host_stays_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection.platform, "machine", lambda: "aarch64")
    assert choose_target(facts(), profile("host", "local"), TARGETS).target.is_host


def test_a_board_is_asked_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Asked:
        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(selection, "open_board", lambda _profile: Asked())
    monkeypatch.setattr(selection, "collect_facts", lambda _board: facts(flags=A510))
    assert target_of_board("rk3568").target.name.endswith("+i8mm")
    assert closed == [True]


@pytest.mark.parametrize("name", sorted(list_profiles()))
def test_every_shipped_profile_names_a_target_whose_features_are_known(name: str) -> None:
    target = load_target(list_profiles()[name].build.target)
    assert target.is_host or features(target) is not None


def test_this_very_machine_is_asked_really(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path))
    here = tmp_path / "here.toml"
    here.write_text('kind = "local"\n[build]\ntarget = "host"\n')
    assert target_of_board(str(here)).target.is_host


def test_a_board_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ProfileError):
        target_of_board("no-such-board")
