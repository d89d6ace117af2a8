"""Profiles: the shipped ones load, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.boards.profile import BoardProfile, list_profiles, load_profile
from edgequant.build.targets.target import load_target
from edgequant.core.errors import ProfileError


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_every_shipped_profile_loads_and_names_a_known_target() -> None:
    profiles = list_profiles()
    assert {"local", "rk3568", "rk3588", "rpi4", "rpi5", "virtual"} <= profiles.keys()
    for profile in profiles.values():
        assert load_target(profile.build.target).name == profile.build.target
        assert profile.threads is not None or profile.kind == "local"


def test_study_board_has_the_study_s_figures() -> None:
    profile = load_profile("rk3568")
    assert (profile.cpu.cores, profile.memory.ram_bytes) == (4, 2 << 30)
    assert profile.storage.bytes_per_second == pytest.approx(173e6, rel=0.01)
    assert profile.latency_source == "measured"


def test_virtual_board_is_labelled_emulated() -> None:
    assert load_profile("virtual").latency_source == "emulated"


def test_unknown_board_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="no board profile 'rk9999'") as caught:
        load_profile("rk9999")
    assert "rk3568" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind = ", "not valid TOML"),
        ("[ssh]\nhost='h'", "build: Field required"),
        ("[build]\ntarget='armv8-a'", "ssh.host is missing"),
        ("[build]\ntarget='armv8-a'\n[ssh]\nhost='h'\nport=70000", "ssh.port"),
        ("[build]\ntarget='armv8-a'\n[ssh]\nhost='h'\nhots='x'", "ssh.hots: Extra inputs"),
        ("[build]\ntarget='armv8-a'\n[ssh]\nhost='h'\n[virtual]\ncpu='x'", "needs kind"),
        ("kind='local'\n[build]\ntarget='host'\n[ssh]\nhost='h'", r"\[ssh\] needs kind = 'ssh'"),
        ("kind='smoke'\n[build]\ntarget='host'", "no link 'smoke'; known are ssh, local, adb, hdc"),
        ("colour=1\n[build]\ntarget='a'\n[ssh]\nhost='h'", "no key 'colour'"),
        (
            "[build]\ntarget='a'\n[ssh]\nhost='h'\nremote_folder='/x'",
            "ssh.remote_folder is now remote_folder, at the top of the profile",
        ),
        (
            "kind='local'\n[build]\ntarget='a'\n[local]\nfolder='/x'",
            "local.folder is now remote_folder",
        ),
        ("[build]\ntarget='a'\n[ssh]\nhost='h'\nconnect_timeout_seconds=inf", "ssh.connect_t"),
        ("[build]\ntarget='armv8-a'\n[ssh]\nhost='h'\n[cpu]\ncores=0", "cpu.cores"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ProfileError, match=message) as caught:
        load_profile(path)
    assert "mine.toml" in str(caught.value)


def test_name_comes_from_the_file_and_paths_start_there(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "[build]\ntarget='armv8-a'\n[ssh]\nhost='h'\nidentity_file='key'\nknown_hosts_file='/k'",
    )
    profile = load_profile(path)
    assert profile.name == "mine"
    assert profile.link_section.identity_file == tmp_path / "key"
    assert profile.link_section.known_hosts_file == Path("/k")


def test_threads_default_to_cores() -> None:
    values = {"name": "b", "kind": "local", "build": {"target": "host"}}
    assert BoardProfile.model_validate(values).threads is None
    assert BoardProfile.model_validate(values | {"cpu": {"cores": 4}}).threads == 4
    assert BoardProfile.model_validate(values | {"cpu": {"cores": 8, "threads": 4}}).threads == 4
