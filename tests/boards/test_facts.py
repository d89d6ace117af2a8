"""Facts: parsers on what real machines printed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from edgequant.boards.facts import (
    complete,
    facts_command,
    fewer_cores,
    parse_cpuinfo,
    parse_df,
    parse_facts,
    parse_frequencies,
    parse_memory,
    parse_temperatures,
    sections,
)
from edgequant.boards.profile import BoardProfile, Clock

FOLDER = Path(__file__).parent / "facts"
PARSERS: dict[str, Callable[[str], object]] = {
    "facts": lambda text: parse_facts(text, board="b", remote_folder="/data/edgequant"),
    "cat /proc/cpuinfo": parse_cpuinfo,
    "cat /proc/meminfo": parse_memory,
    "df -P": parse_df,
    "cat cpufreq": parse_frequencies,
    "cat thermal": parse_temperatures,
}
"""What reads the output of which command; "facts" is the whole of ``facts_command``."""


def recorded_facts() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every command with what a board printed; a new board's output is one file more."""
    for path in sorted(FOLDER.glob("*.toml")):
        for number, fact in enumerate(tomllib.loads(path.read_text(encoding="utf-8"))["fact"]):
            yield f"{path.stem}-{number}-{fact['command']}", fact


FACTS = dict(recorded_facts())


@pytest.mark.parametrize("name", FACTS)
def test_what_a_board_printed_is_read(name: str) -> None:
    fact = FACTS[name]
    found = PARSERS[fact["command"]](fact["output"])
    expected = fact.get("expected")
    if not isinstance(expected, dict):
        assert found == expected
        return
    assert isinstance(found, BaseModel)
    values = json.loads(found.model_dump_json())
    assert {key: values[key] for key in expected} == expected
    assert {key: values[key] for key in fact.get("missing", [])} == dict.fromkeys(
        fact.get("missing", [])
    )


def test_sections_survive_a_file_without_a_line_end() -> None:
    text = ["=== edgequant model", "Board=== edgequant compatible", "a,b"]
    assert sections(text) == {"model": "Board", "compatible": "a,b"}


def test_the_command_quotes_the_folder() -> None:
    assert "'/a b/$(x)'" in facts_command("/a b/$(x)")


def test_what_a_profile_leaves_out_is_found_and_what_it_says_stays() -> None:
    values = {"name": "b", "kind": "local", "build": {"target": "host"}}
    facts = parse_facts(
        FACTS["virtual-0-facts"]["output"], board="b", remote_folder="/x"
    ).model_copy(update={"maximum_clock_hz": 1.8e9})
    bare = complete(BoardProfile.model_validate(values), facts)
    assert (bare.cpu.cores, bare.cpu.clock_hz) == (4, 1.8e9)
    assert bare.memory.ram_bytes == facts.ram_bytes
    told = BoardProfile.model_validate(
        values | {"cpu": {"cores": 2, "clock_hz": 1e9}, "memory": {"ram_bytes": 5}}
    )
    assert complete(told, facts) == told


@pytest.mark.parametrize(
    ("clock", "found", "said"),
    [
        ("instructions", 1, "1 of 4: the instruction clock counts one core alone"),
        ("host", 4, None),
        ("host", 2, "2 of the 4 that the profile says"),
        ("host", 0, None),
    ],
)
def test_fewer_cores_than_the_profile_says_have_a_reason(
    clock: Clock, found: int, said: str | None
) -> None:
    values = {"name": "b", "kind": "virtual", "build": {"target": "t"}, "cpu": {"cores": 4}}
    profile = BoardProfile.model_validate(values)
    assert fewer_cores(profile, clock, found) == said
    assert profile.running_cores("instructions") == 1
