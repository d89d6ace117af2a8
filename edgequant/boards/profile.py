"""A board's profile: what somebody knows of it before it is asked.

What a profile leaves out is None, and found on the board by :mod:`edgequant.boards.facts`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    create_model,
    model_validator,
)

from edgequant.boards.links.link import LinkSection
from edgequant.boards.links.registry import BUILT_IN, find_link, link_names
from edgequant.core.errors import ProfileError
from edgequant.core.fields import (
    Name,
    PositiveFloat,
    PositiveInt,
    RemotePath,
    Section,
)
from edgequant.core.paths import list_data_files
from edgequant.core.toml_file import read_toml_model, require_data_file

VIRTUAL = "virtual"
MOVED_TO_REMOTE_FOLDER = (("ssh", "remote_folder"), ("local", "folder"))

LatencySource = Literal["measured", "emulated"]
Clock = Literal["host", "instructions"]
"""What a board's time is: real time, or (a virtual board's) a nanosecond for each instruction."""


class BuildSection(Section):
    """What binaries for this board are built for."""

    target: Name
    """Name of a file in ``toolchain/targets/``."""


class CpuSection(Section):
    """The processor."""

    cores: PositiveInt | None = None
    threads: PositiveInt | None = None
    """Threads that models run with; by default one for each core."""
    clock_hz: PositiveFloat | None = None
    instructions_per_cycle: PositiveFloat | None = None
    """An assumption, for predictions alone."""


class MemorySection(Section):
    """Main memory."""

    ram_bytes: PositiveInt | None = None
    dram_bytes_per_second: PositiveFloat | None = None


class StorageSection(Section):
    """Where models lie."""

    bytes_per_second: PositiveFloat | None = None
    """Sequential reading."""


class VirtualSection(Section):
    """How qemu plays the board."""

    cpu: str = "cortex-a76"
    server: Literal["sshd", "dropbear"] = "sshd"
    disk_bytes: PositiveInt = 2 << 30
    """Size of the data disk; sparse, so only what is used takes space here."""
    compatible: str = "rockchip,rk3568"
    model: str = "edgequant virtual board (qemu virt, RK3568 class)"
    storage_bytes_per_second: PositiveInt | None = None
    """Throttles the data disk's reads."""


def _add_sections(schema: dict[str, Any]) -> None:
    """The sections of our own links, for editors; any other table may be another link's."""
    for name in BUILT_IN:
        schema["properties"][name] = find_link(name).section.model_json_schema()
    schema["additionalProperties"] = {"type": "object"}


class BoardProfile(Section):
    """One board.

    The section that is called as the board's link is, such as ``[ssh]``, is the link's to define.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra=_add_sections)
    __pydantic_extra__: dict[str, SerializeAsAny[LinkSection]]

    name: Name
    """By default the file's name without its suffix."""
    description: str = ""
    kind: Annotated[Name, Field(examples=[*BUILT_IN, VIRTUAL])] = "ssh"
    """The link that the board is reached by, or "virtual"."""
    remote_folder: RemotePath = "edgequant"
    """Where our files go on the board. Relative ones start where its shell does, mostly the user's
    home; the default is the link's to choose."""
    build: BuildSection
    cpu: CpuSection = CpuSection()
    memory: MemorySection = MemorySection()
    storage: StorageSection = StorageSection()
    virtual: VirtualSection = VirtualSection()

    @model_validator(mode="before")
    @classmethod
    def _read_section(cls, values: Any, info: ValidationInfo) -> Any:
        """Let the board's link read its section, and choose where files go."""
        if not isinstance(values, dict) or not isinstance(values.get("kind", "ssh"), str):
            return values
        kind = values.get("kind", "ssh")
        name = link_name(kind)
        link = find_link(name)
        for section, key in MOVED_TO_REMOTE_FOLDER:
            table = values.get(section)
            if isinstance(table, dict) and key in table:
                raise ValueError(
                    f"{section}.{key} is now remote_folder, at the top of the profile above its "
                    "first section"
                )
        if VIRTUAL in values and kind != VIRTUAL:
            raise ValueError(f"the section [{VIRTUAL}] needs kind = {VIRTUAL!r}")
        for key in values.keys() - cls.model_fields.keys() - {name}:
            if key not in link_names():
                raise ValueError(f"there is no key {key!r} in a board's profile")
            raise ValueError(f"the section [{key}] needs kind = {key!r}")
        # Made for this one name, so that a message says [ssh] and the key.
        one = create_model("Sections", **{name: (link.section, ...)})  # type: ignore[call-overload]
        read = one.model_validate({name: values.get(name, {})}, context=info.context)
        folder = {"remote_folder": link.default_folder(str(values.get("name")))}
        return folder | values | {name: getattr(read, name)}

    @model_validator(mode="after")
    def _has_address(self) -> BoardProfile:
        # A virtual board's address is known when it runs.
        if self.kind == "ssh" and "host" not in self.link_section.model_fields_set:
            raise ValueError("ssh.host is missing: the board's name or address")
        return self

    @property
    def link_section(self) -> LinkSection:
        """The section of the board's link."""
        return self.__pydantic_extra__[link_name(self.kind)]

    @property
    def latency_source(self) -> LatencySource:
        """How times read on this board are labelled."""
        return "emulated" if self.kind == VIRTUAL else "measured"

    @property
    def threads(self) -> int | None:
        """Threads that models run with, where the profile tells."""
        return self.cpu.threads or self.cpu.cores

    def running_cores(self, clock: Clock) -> int | None:
        """Cores that run under a clock, where the profile tells: counting instructions needs one
        core alone."""
        return 1 if clock == "instructions" else self.cpu.cores

    def without_address(self) -> dict[str, Any]:
        """What the profile says of the board itself, as JSON: not how it is reached."""
        return self.model_dump(mode="json", exclude={"remote_folder", link_name(self.kind)})

    def reached_by(self, **changes: object) -> BoardProfile:
        """The profile with other values in its link's section."""
        return self.model_copy(
            update={link_name(self.kind): self.link_section.model_copy(update=changes)}
        )


def link_name(kind: str) -> str:
    """The link that a kind of board is reached by: a virtual board has an SSH server."""
    return "ssh" if kind == VIRTUAL else kind


def load_profile(name_or_path: str) -> BoardProfile:
    """Read a profile.

    Args:
        name_or_path: a path, or the bare name of a file in ``boards/``.

    Raises:
        ProfileError: no such profile, not TOML, or a wrong or missing key.
    """
    path = require_data_file("boards", name_or_path, what="board profile", error=ProfileError)
    return read_toml_model(
        path,
        BoardProfile,
        error=ProfileError,
        next_step="see docs/verbs/board.md for every key",
        defaults={"name": path.stem},
    )


def list_profiles() -> dict[str, BoardProfile]:
    """Every profile by name.

    Raises:
        ProfileError: one of them is invalid.
    """
    return {name: load_profile(str(path)) for name, path in list_data_files("boards").items()}
