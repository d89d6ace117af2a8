"""Facts: parsers on what real machines printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.boards.facts import (
    complete,
    facts_command,
    parse_cpuinfo,
    parse_df,
    parse_facts,
    parse_frequencies,
    parse_memory,
    parse_temperatures,
    sections,
)
from edgequant.boards.profile import BoardProfile

RECORDED = Path(__file__).parent / "recorded"
BIG_LITTLE = """\
processor\t: 0
Features\t: fp asimd evtstrm aes atomics fphp asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd05

processor\t: 1
Features\t: fp asimd aes atomics fphp asimdhp asimddp i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd0b
"""


def test_the_virtual_board_s_facts() -> None:
    facts = parse_facts(
        (RECORDED / "virtual.txt").read_text(), board="virtual", remote_folder="/data/edgequant"
    )
    assert facts.compatible == ("rockchip,rk3568",)
    assert facts.model == "edgequant virtual board (qemu virt, RK3568 class)"
    assert facts.architecture == "aarch64"
    assert facts.kernel == "Linux 6.1.0-56-cloud-arm64"
    assert (facts.cores, facts.cpu_parts) == (4, ("Cortex-A76",))
    assert {"asimddp", "asimdhp"} <= set(facts.isa_flags)
    assert not {"i8mm", "sve"} & set(facts.isa_flags)
    assert facts.ram_bytes == 2082709504
    assert facts.swap_bytes == 0
    assert facts.filesystem == "/dev/vda"
    assert facts.free_bytes is not None
    # qemu has neither cpufreq nor a thermal zone: missing stays missing.
    assert facts.maximum_clock_hz is facts.frequency_hz is facts.temperature_celsius is None


def test_a_board_that_tells_nothing_has_no_facts_instead_of_zeros() -> None:
    facts = parse_facts("", board="b", remote_folder="/x")
    assert facts.ram_bytes is facts.free_bytes is facts.model is None
    assert facts.isa_flags == facts.cpu_parts == ()


def test_features_are_those_of_every_core() -> None:
    info = parse_cpuinfo(BIG_LITTLE)
    assert info.cores == 2
    assert info.parts == ("Cortex-A55", "Cortex-A76")
    assert info.features == ("fp", "asimd", "aes", "atomics", "fphp", "asimdhp", "asimddp")


def test_an_unknown_core_keeps_its_numbers() -> None:
    text = "processor : 0\nCPU implementer : 0x51\nCPU part : 0x802\n"
    assert parse_cpuinfo(text).parts == ("implementer 0x51 part 0x802",)


def test_meminfo_is_in_kibibytes() -> None:
    info = parse_memory("MemTotal:        2033896 kB\nMemAvailable:    1947000 kB\n")
    assert info.total_bytes == 2033896 * 1024
    assert info.available_bytes == 1947000 * 1024
    assert info.swap_bytes is None


@pytest.mark.parametrize(
    ("text", "free_bytes", "mount"),
    [
        (
            "Filesystem           1024-blocks    Used Available Capacity Mounted on\n"
            "/dev/vda               1992552        24   1871288   0% /data\n",
            1871288 * 1024,
            "/data",
        ),
        (
            "Filesystem     512-blocks  Used Available Capacity Mounted on\n"
            "/dev/mmcblk0p1    4096   100      3996       3% /my disk\n",
            3996 * 512,
            "/my disk",
        ),
        # More is used than ordinary users may use: nothing is free, not less than nothing.
        (
            "Filesystem 1024-blocks Used Available Capacity Mounted on\nd 100 100 -5 100% /\n",
            0,
            "/",
        ),
    ],
)
def test_df(text: str, free_bytes: int, mount: str) -> None:
    disk = parse_df(text)
    assert disk is not None
    assert (disk.free_bytes, disk.mount_point) == (free_bytes, mount)


@pytest.mark.parametrize("text", ["", "df: /x: No such file or directory\n", "a\nb\nc\n"])
def test_df_that_failed_is_missing(text: str) -> None:
    assert parse_df(text) is None


def test_frequency_is_the_highest_core_s() -> None:
    assert parse_frequencies("1800000\n2400000\n") == 2.4e9
    assert parse_frequencies("<unknown>\n") is None


def test_temperature_is_the_warmest_plausible_zone_s() -> None:
    assert parse_temperatures("45000\n0\n-274000\n52500\n") == 52.5
    assert parse_temperatures("0\n") is None


def test_sections_survive_a_file_without_a_line_end() -> None:
    text = ["=== edgequant model", "Board=== edgequant compatible", "a,b"]
    assert sections(text) == {"model": "Board", "compatible": "a,b"}


def test_the_command_quotes_the_folder() -> None:
    assert "'/a b/$(x)'" in facts_command("/a b/$(x)")


def test_what_a_profile_leaves_out_is_found_and_what_it_says_stays() -> None:
    values = {"name": "b", "kind": "local", "build": {"target": "host"}}
    facts = parse_facts(
        (RECORDED / "virtual.txt").read_text(), board="b", remote_folder="/x"
    ).model_copy(update={"maximum_clock_hz": 1.8e9})
    bare = complete(BoardProfile.model_validate(values), facts)
    assert (bare.cpu.cores, bare.cpu.clock_hz) == (4, 1.8e9)
    assert bare.memory.ram_bytes == facts.ram_bytes
    told = BoardProfile.model_validate(
        values | {"cpu": {"cores": 2, "clock_hz": 1e9}, "memory": {"ram_bytes": 5}}
    )
    assert complete(told, facts) == told
