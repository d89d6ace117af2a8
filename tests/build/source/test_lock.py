from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.build.source.lock import load_lock
from edgequant.core.errors import SourceError

GOOD = f"""
project = "llama-cpp-python"
version = "1.2.3"
sha256 = "{"0a" * 32}"
llama_cpp_commit = "0c1e57098"
"""


def test_the_shipped_lock_names_one_archive() -> None:
    lock = load_lock()
    assert lock.project == "llama-cpp-python"
    assert lock.llama_cpp_commit == "0c1e57098"
    assert len(lock.sha256) == 64


def test_a_lock_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lock.toml"
    path.write_text(GOOD)
    assert load_lock(path).version == "1.2.3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("0a" * 32, "0a" * 31), "sha256"),
        (GOOD.replace('version = "1.2.3"', ""), "version"),
        (GOOD + 'mirror = "x"', "mirror"),
        (GOOD.replace("0c1e57098", "main"), "llama_cpp_commit"),
        ("project =", "not valid TOML"),
    ],
)
def test_a_bad_lock_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "lock.toml"
    path.write_text(text)
    with pytest.raises(SourceError, match=says):
        load_lock(path)


def test_a_missing_lock_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        load_lock(tmp_path / "none.toml")
