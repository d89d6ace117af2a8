from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.build.targets.target import TARGETS_KIND, load_target, target_names
from edgequant.core.errors import TargetError
from edgequant.core.paths import list_data_files


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with data files of their own beside the shipped ones."""
    (tmp_path / "toolchain" / "targets").mkdir(parents=True)
    (tmp_path / "boards").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sorted(list_data_files(TARGETS_KIND)))
def test_every_shipped_target_is_valid(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert "edgequant-probe" in target.tools
    if not target.is_host:
        assert target.linkage == "static"
        assert target.zig.target == "aarch64-linux-musl"
        assert target.isa[0] == name.partition("+")[0]


@pytest.mark.parametrize("name", sorted(list_data_files("boards")))
def test_every_shipped_board_names_a_known_target(name: str) -> None:
    assert load_target(name).name in target_names()


def test_the_host_builds_what_the_mirror_needs() -> None:
    host = load_target("host")
    assert host.is_host
    assert {"llama-server", "llama-quantize", "llama-imatrix", "llama-perplexity"} <= {*host.tools}


def test_a_board_stands_for_its_target(own_files: Path) -> None:
    (own_files / "boards" / "mine.toml").write_text('[build]\ntarget = "armv8-a"\n')
    assert load_target("mine").name == "armv8-a"


def test_a_users_own_target_needs_no_code(own_files: Path) -> None:
    (own_files / "toolchain" / "targets" / "armv9-a.toml").write_text(
        'description = "x"\narchitecture = "aarch64"\nisa = ["armv9-a"]\nlinkage = "static"\n'
        'tools = ["edgequant-probe"]\n[zig]\ntarget = "aarch64-linux-musl"\n'
    )
    assert load_target("armv9-a").isa == ("armv9-a",)


@pytest.mark.parametrize(
    ("board", "says"),
    [
        ("[ssh]\nhost = 'x'\n", "does not say what to build for"),
        ("[build]\ntarget = 'z80'\n", "'z80' is no known target"),
        ("[build\n", "not valid TOML"),
    ],
)
def test_a_board_without_a_usable_target_is_an_error(
    own_files: Path, board: str, says: str
) -> None:
    (own_files / "boards" / "mine.toml").write_text(board)
    with pytest.raises(TargetError, match=says) as caught:
        load_target("mine")
    assert caught.value.subject is not None
    assert "mine.toml" in caught.value.subject


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(TargetError, match="armv8-a"):
        load_target("z80")


def test_a_misspelt_field_is_an_error(own_files: Path) -> None:
    (own_files / "toolchain" / "targets" / "mine.toml").write_text(
        'description = "x"\narchitecture = "aarch64"\nisa = []\nlinkage = "static"\n'
        'tools = ["edgequant-probe"]\nflag = ["-O3"]\n'
    )
    with pytest.raises(TargetError, match="flag"):
        load_target("mine")
