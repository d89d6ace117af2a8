"""Data files: the user's own come first, a path is taken as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.core.paths import cache_root, find_data_file, list_data_files


def test_the_users_own_file_hides_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boards").mkdir()
    own = tmp_path / "boards" / "rk3568.toml"
    own.write_text("")
    monkeypatch.chdir(tmp_path)
    assert find_data_file("boards", "rk3568") == own
    assert list_data_files("boards")["rk3568"] == own


def test_a_name_cannot_climb_out_of_the_folder(tmp_path: Path) -> None:
    assert find_data_file("boards", "../boards/nothing") is None


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "elsewhere"))
    assert cache_root() == tmp_path / "elsewhere"
    assert cache_root().is_dir()
