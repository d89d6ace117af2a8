"""Nested values as people read them: names, units, and where two descriptions differ. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from edgequant.report.style import byte_size, duration, significant


def flatten(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as (dotted name, text); what is missing is left out."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows.extend(flatten(value, f"{name}."))
        elif value not in (None, "", [], ()):
            rows.append((name, _text(str(key), value)))
    return rows


def cores_words(
    profile: Mapping[str, object], facts: Mapping[str, object], *, counts_instructions: bool
) -> str | None:
    """What to say where the board has another number of cores than its profile; None: nothing.

    Args:
        profile: of the board, as it was written.
        facts: what was found on the board.
        counts_instructions: the board's clock counts instructions.
    """
    cpu = profile.get("cpu")
    written = cpu.get("cores") if isinstance(cpu, Mapping) else None
    found = facts.get("cores")
    if not isinstance(written, int) or not isinstance(found, int) or written == found:
        return None
    why = (
        ": its clock counts instructions, which needs a machine that runs one core"
        if counts_instructions
        else ": what was measured ran on what was found"
    )
    return f"The profile says {_cores(written)}, the board had {found} while it was measured{why}."


def _cores(count: int) -> str:
    return f"{count} core" if count == 1 else f"{count} cores"


def _text(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}".replace("_", " ") for key, text in flatten(value))
    if isinstance(value, list | tuple | set | frozenset):
        between = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return between.join(_text("", item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.endswith("bytes_per_second"):
            return f"{byte_size(value)}/s"
        if name.endswith("bytes"):
            return byte_size(value)
        if name.endswith("_hz"):
            return f"{significant(value / 1e6)} MHz"
        if name.endswith("seconds"):
            return duration(value)
        return f"{value:g}" if isinstance(value, float) else str(value)
    return str(value)
