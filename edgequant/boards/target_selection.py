"""Which target fits a board: by what its CPU can do, not by what somebody wrote down."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable
from dataclasses import dataclass

from edgequant.boards.board import open_board
from edgequant.boards.facts import BoardFacts, collect_facts
from edgequant.boards.profile import BoardProfile, load_profile
from edgequant.build.targets.isa import BASE_LEVEL, features, missing_features
from edgequant.build.targets.target import HOST, Target, load_target, target_names
from edgequant.core.errors import TargetError

ARM_64 = ("aarch64", "arm64")


@dataclass(frozen=True)
class Choice:
    """The target for a board, and what to say about it."""

    board: str
    target: Target
    written: str
    """What the board's profile says."""
    note: str | None = None
    """Where the profile says something else: what, and what that means."""


def best_target(flags: Iterable[str], targets: Iterable[Target]) -> Target:
    """The richest target that a CPU can run: the one that uses most of its features.

    Of two that use as many, the one whose file lists fewer words, then the first by name.

    Args:
        flags: the kernel's feature names, as in /proc/cpuinfo.
        targets: what there is to choose from; those for this host, those that are built on
            request only, and those with unknown words are passed over.

    Raises:
        TargetError: none of them can run there.
    """
    have = set(flags)
    fitting: list[tuple[int, int, str, Target]] = []
    for target in targets:
        needed = features(target)
        if needed is not None and needed <= have and not target.on_request:
            fitting.append((-len(needed), len(target.isa), target.name, target))
    if not fitting:
        raise TargetError(
            "there is no target that this CPU can run",
            next_step=f"add a file to toolchain/targets with isa = ['{BASE_LEVEL}']",
        )
    return min(fitting, key=lambda entry: entry[:3])[3]


def choose_target(facts: BoardFacts, profile: BoardProfile, targets: Iterable[Target]) -> Choice:
    """The target for a board that told what it is.

    Args:
        facts: what the board said.
        profile: the board's, whose ``build.target`` is only compared.
        targets: what there is to choose from.

    Raises:
        TargetError: it is no 64-bit ARM (nor this machine), or can run none of them.
    """
    targets = list(targets)
    written = profile.build.target
    by_name = {target.name: target for target in targets}
    here = profile.kind == "local" and facts.architecture == platform.machine()
    if here and written == HOST and HOST in by_name:
        return Choice(profile.name, by_name[HOST], written)
    if facts.architecture not in ARM_64:
        if here and HOST in by_name:
            return Choice(profile.name, by_name[HOST], written, _host_note(profile.name, written))
        raise TargetError(
            f"is {facts.architecture or 'of an unknown architecture'}; targets are for 64-bit ARM "
            "(aarch64)",
            subject=f"board {profile.name}",
            next_step=_other_architecture(facts.architecture),
        )
    asked = by_name.get(written)
    if asked is not None and asked.on_request and not missing_features(asked.isa, facts.isa_flags):
        return Choice(profile.name, asked, written)
    best = best_target(facts.isa_flags, targets)
    return Choice(profile.name, best, written, _note(facts, best, written, by_name))


def target_of_board(name: str) -> Choice:
    """Ask a board what its CPU can do, and choose its target by that.

    Args:
        name: a board's profile, by its name or path.

    Raises:
        ProfileError: there is no such profile, or it is invalid.
        BoardUnreachableError: the board does not answer; other errors of boards likewise.
        TargetError: see :func:`choose_target`.
    """
    profile = load_profile(name)
    with contextlib.closing(open_board(profile)) as board:
        facts = collect_facts(board)
    return choose_target(facts, profile, [load_target(known) for known in target_names()])


def _note(facts: BoardFacts, best: Target, written: str, by_name: dict[str, Target]) -> str | None:
    if written == best.name:
        return None
    cpu = ", ".join(facts.cpu_parts) or "CPU"
    said = f"the profile of {facts.board} says {written}"
    advice = f'set build.target = "{best.name}" in it: deploy and measure go by the profile'
    known = by_name.get(written)
    if known is None:
        return f"{said}, which is no target; its {cpu} can run {best.name}: {advice}"
    lacking = missing_features(known.isa, facts.isa_flags)
    if known.is_host:
        return f"{said}, which is for this machine; its {cpu} can run {best.name}: {advice}"
    if lacking:
        return (
            f"{said}, which its {cpu} cannot run, as it lacks {', '.join(lacking)}; "
            f"building {best.name}: {advice}"
        )
    return f"{said}; its {cpu} can run {best.name}, which may be faster: {advice}"


def _host_note(name: str, written: str) -> str | None:
    return f"the profile of {name} says {written}, but the board is this machine: building {HOST}"


def _other_architecture(architecture: str) -> str:
    if architecture.startswith("armv"):
        return (
            "install a 64-bit system where the CPU is a 64-bit one (Raspberry Pi 3 and later); "
            "32-bit ARM is not supported"
        )
    if architecture == platform.machine():
        return 'to measure this machine, use a board of kind = "local" and --target host'
    return "use a 64-bit ARM board; this machine itself is --target host"
