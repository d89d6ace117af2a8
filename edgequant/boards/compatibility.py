"""Whether a program can run on a board's CPU, before it dies there of an illegal instruction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgequant.boards.facts import BoardFacts
from edgequant.boards.profile import BoardProfile
from edgequant.build.targets.isa import elf_machine, missing_features
from edgequant.build.targets.target import load_target
from edgequant.core.errors import AuditError, EdgequantError

# ELF's e_machine to what `uname -m` says.
MACHINES = {
    183: ("aarch64", "arm64"),
    62: ("x86_64", "amd64"),
    40: ("armv7l", "armv6l", "armv8l", "arm"),
    3: ("i386", "i686"),
    243: ("riscv64",),
}


def check_binaries(programs: Iterable[Path], facts: BoardFacts, profile: BoardProfile) -> None:
    """Compare programs with a board's CPU.

    The ISA level is that of the profile's build target; a script is not checked.

    Raises:
        AuditError: a program is for another architecture, or needs what the CPU lacks.
    """
    isa: list[str] | None = None
    for path in programs:
        machine = elf_machine(path)
        if machine is None:
            continue
        names = MACHINES.get(machine, (f"machine {machine}",))
        if facts.architecture not in names:
            raise AuditError(
                f"is built for {names[0]}, the board {facts.board} is {facts.architecture}",
                subject=path,
                next_step=f"edgequant build --target {profile.build.target}",
            )
        if isa is None:
            isa = _target_isa(profile)
        lacking = missing_features(isa, facts.isa_flags)
        if lacking:
            raise AuditError(
                f"is built for {profile.build.target}, and the CPU of {facts.board} "
                f"({', '.join(facts.cpu_parts) or 'unknown'}) lacks {', '.join(lacking)}: it would "
                "die of an illegal instruction",
                subject=path,
                next_step="set build.target in the profile to an older level (armv8-a runs "
                "on every 64-bit ARM), and build again",
            )


def _target_isa(profile: BoardProfile) -> list[str]:
    try:
        return list(load_target(profile.build.target).isa)
    except EdgequantError:
        return []
