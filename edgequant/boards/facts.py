"""What a board says of itself: read by one command, parsed by pure functions.

A fact that a board does not tell is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from edgequant.boards.board import Board, quote
from edgequant.boards.profile import BoardProfile, Clock
from edgequant.core.host import parse_meminfo

FACTS_TIMEOUT_SECONDS = 60.0
SECTION = "=== edgequant "

# Arm's part numbers, from the MIDR register that /proc/cpuinfo shows as "CPU part".
ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
}
ARM_IMPLEMENTER = 0x41


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class CpuInfo(_Frozen):
    """What /proc/cpuinfo tells."""

    cores: int
    features: tuple[str, ...]
    """Features that every core has, in the kernel's order."""
    parts: tuple[str, ...]
    """Kinds of core, e.g. ``("Cortex-A55", "Cortex-A76")``."""


class MemoryInfo(_Frozen):
    """What /proc/meminfo tells."""

    total_bytes: int | None
    available_bytes: int | None
    swap_bytes: int | None


class DiskInfo(_Frozen):
    """The line of ``df -P`` for one folder."""

    filesystem: str
    total_bytes: int
    free_bytes: int
    mount_point: str


class BoardFacts(_Frozen):
    """Everything a board told."""

    board: str
    model: str | None
    compatible: tuple[str, ...]
    architecture: str
    kernel: str
    cores: int
    """Those that run."""
    fewer_cores: str | None = None
    """Why that is less than the profile says; None where it is not."""
    cpu_parts: tuple[str, ...]
    isa_flags: tuple[str, ...]
    ram_bytes: int | None
    available_bytes: int | None
    swap_bytes: int | None
    maximum_clock_hz: float | None
    """The highest frequency that any core may run at."""
    frequency_hz: float | None
    """The highest that any core runs at just now."""
    temperature_celsius: float | None
    """The warmest thermal zone."""
    remote_folder: str
    free_bytes: int | None
    """Free space where the remote folder is, or will be."""
    filesystem: str | None


def parse_cpuinfo(text: str) -> CpuInfo:
    """Parse /proc/cpuinfo of an ARM (or x86) Linux."""
    features: list[str] | None = None
    parts: list[str] = []
    names: list[str] = []
    cores = 0
    implementer = ""
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():
            cores += 1
        elif key in ("Features", "flags"):
            here = value.split()
            features = here if features is None else [f for f in features if f in set(here)]
        elif key == "CPU implementer":
            implementer = value
        elif key == "CPU part":
            parts.append(_part_name(implementer, value))
        elif key == "model name":
            names.append(value)
    # Where ARM's numbers are told, a name is the chip's or the architecture's, not the core's.
    kinds = tuple(dict.fromkeys(parts or names))
    return CpuInfo(cores=cores, features=tuple(features or ()), parts=kinds)


def _part_name(implementer: str, part: str) -> str:
    """A core's name; one that nobody knows is called by what the kernel printed."""
    known = ARM_PARTS.get(_hex(part) or 0) if _hex(implementer) == ARM_IMPLEMENTER else None
    return known or f"implementer {implementer or 'unknown'} part {part or 'unknown'}"


def _hex(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else None


def parse_memory(text: str) -> MemoryInfo:
    """What a board's /proc/meminfo tells."""
    found = parse_meminfo(text)
    return MemoryInfo(
        total_bytes=found.get("MemTotal"),
        available_bytes=found.get("MemAvailable"),
        swap_bytes=found.get("SwapTotal"),
    )


def parse_df(text: str) -> DiskInfo | None:
    """Parse what ``df -P FOLDER`` printed (1024-byte or 512-byte blocks, as its head says)."""
    lines = text.strip().splitlines()
    # "1024-blocks" in the board's language.
    head = re.search(r"\s(\d{3,5})-\S", lines[0]) if lines else None
    if len(lines) < 2 or head is None:
        return None
    match = re.match(r"(.+?)\s+(\d+)\s+\d+\s+(-?\d+)\s+\S+\s+(/.*)$", lines[-1])
    if match is None:
        return None
    block = int(head[1])
    return DiskInfo(
        filesystem=match[1],
        total_bytes=int(match[2]) * block,
        free_bytes=max(int(match[3]), 0) * block,
        mount_point=match[4],
    )


def parse_device_tree_strings(text: str) -> tuple[str, ...]:
    """A device tree's list of strings, whose NULs were turned into line ends."""
    return tuple(line for line in text.splitlines() if line.strip())


def parse_frequencies(text: str) -> float | None:
    """The highest of cpufreq's values, one in kHz a line; in Hz, None where there is none."""
    values = [int(line) for line in text.split() if line.isdigit()]
    return max(values) * 1000.0 if values else None


def parse_temperatures(text: str) -> float | None:
    """The warmest of the thermal zones' values, one a line, in degrees Celsius.

    A zone tells thousandths of a degree, on some kernels whole degrees: a number that is plausible
    in one of them is not in the other. Zones that are switched off report 0 or absurd values, and
    are passed over.
    """
    values = [int(line) for line in text.split() if re.fullmatch(r"-?\d{1,9}", line)]
    celsius = [float(value) if abs(value) < 1000 else value / 1000.0 for value in values]
    plausible = [value for value in celsius if 1.0 < value < 150.0]
    return max(plausible, default=None)


def facts_command(remote_folder: str) -> str:
    """The shell program whose output :func:`parse_facts` reads; every part may be missing."""
    frequency = "/sys/devices/system/cpu/cpu*/cpufreq"
    folder = quote(remote_folder)
    # df of the nearest folder that exists: the remote folder is made by the first deploy.
    nearest = (
        f'd={folder}; case "$d" in /*) ;; *) d="$PWD/$d";; esac; '
        'while [ ! -e "$d" ]; do d=${d%/*}; d=${d:-/}; done; df -P "$d"'
    )
    parts = {
        "machine": "uname -m",
        "kernel": "uname -sr",
        "model": "tr '\\0' '\\n' < /proc/device-tree/model",
        "compatible": "tr '\\0' '\\n' < /proc/device-tree/compatible",
        "cpuinfo": "cat /proc/cpuinfo",
        "meminfo": "cat /proc/meminfo",
        "maximum": f"cat {frequency}/cpuinfo_max_freq",
        "frequency": f"cat {frequency}/scaling_cur_freq",
        "thermal": "cat /sys/class/thermal/thermal_zone*/temp",
        "df": nearest,
    }
    lines = [
        f"echo '{SECTION}{name}'; {{ {command}; }} 2>/dev/null" for name, command in parts.items()
    ]
    return "\n".join([*lines, "true"])


def sections(lines: Iterable[str]) -> dict[str, str]:
    """Text by section of what :func:`facts_command` printed."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        # A file without a line end before the next section's name.
        before, mark, name = line.partition(SECTION)
        if mark:
            if before:
                current.append(before)
            current = found.setdefault(name.strip(), [])
        else:
            current.append(line)
    return {name: "\n".join(text) for name, text in found.items()}


def parse_facts(text: str, *, board: str, remote_folder: str) -> BoardFacts:
    """Parse all that :func:`facts_command` printed."""
    found = sections(text.splitlines())
    cpu = parse_cpuinfo(found.get("cpuinfo", ""))
    memory = parse_memory(found.get("meminfo", ""))
    disk = parse_df(found.get("df", ""))
    return BoardFacts(
        board=board,
        model=next(iter(parse_device_tree_strings(found.get("model", ""))), None),
        compatible=parse_device_tree_strings(found.get("compatible", "")),
        architecture=found.get("machine", "").strip(),
        kernel=found.get("kernel", "").strip(),
        cores=cpu.cores,
        cpu_parts=cpu.parts,
        isa_flags=cpu.features,
        ram_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        swap_bytes=memory.swap_bytes,
        maximum_clock_hz=parse_frequencies(found.get("maximum", "")),
        frequency_hz=parse_frequencies(found.get("frequency", "")),
        temperature_celsius=parse_temperatures(found.get("thermal", "")),
        remote_folder=remote_folder,
        free_bytes=None if disk is None else disk.free_bytes,
        filesystem=None if disk is None else disk.filesystem,
    )


def collect_facts(board: Board) -> BoardFacts:
    """Ask a board for all of it, with one command.

    Raises:
        BoardUnreachableError: the connection broke.
        RemoteCommandError: it took too long.
    """
    folder = board.profile.remote_folder
    result = board.run(facts_command(folder), timeout_seconds=FACTS_TIMEOUT_SECONDS)
    facts = parse_facts(result.stdout, board=board.profile.name, remote_folder=folder)
    return facts.model_copy(
        update={"fewer_cores": fewer_cores(board.profile, board.clock, facts.cores)}
    )


def fewer_cores(profile: BoardProfile, clock: Clock, found: int) -> str | None:
    """What to say where a board runs fewer cores than its profile says.

    Args:
        profile: of the board.
        clock: that it runs with.
        found: cores that it told of; 0 where it told of none.
    """
    said = profile.cpu.cores
    if said is None or not 0 < found < said:
        return None
    if found == profile.running_cores(clock):
        return f"{found} of {said}: the instruction clock counts one core alone"
    return f"{found} of the {said} that the profile says"


def complete(profile: BoardProfile, facts: BoardFacts) -> BoardProfile:
    """The profile with what it leaves out filled in from the board; what it says stays."""
    cpu = profile.cpu.model_copy(
        update={
            "cores": profile.cpu.cores or facts.cores or None,
            "clock_hz": profile.cpu.clock_hz or facts.maximum_clock_hz,
        }
    )
    memory = profile.memory.model_copy(
        update={"ram_bytes": profile.memory.ram_bytes or facts.ram_bytes}
    )
    return profile.model_copy(update={"cpu": cpu, "memory": memory})
