"""What no stage explained: one error with its own exit code, and no traceback on the screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.core.errors import DiskFullError, FileAccessError, InternalError
from edgequant.core.unexpected import explain


def test_a_full_disk_is_told_with_its_file() -> None:
    error = explain(OSError(28, "No space left on device", "/srv/run/answers.parquet"))
    assert isinstance(error, DiskFullError)
    assert error.subject == "/srv/run/answers.parquet"


def test_of_a_copy_the_written_file_is_named() -> None:
    error = explain(OSError(28, "No space left on device", "/srv/from", None, "/srv/to"))
    assert error.subject == "/srv/to"


@pytest.mark.parametrize("kind", [PermissionError, IsADirectoryError, NotADirectoryError])
def test_a_file_that_cannot_be_used_is_named(kind: type[OSError]) -> None:
    error = explain(kind(13, "Permission denied", b"/srv/run/manifest.json"))
    assert isinstance(error, FileAccessError)
    assert error.subject == "/srv/run/manifest.json"
    assert "Permission denied" in error.cause


def test_a_mistake_of_ours_leaves_its_traceback_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path))
    try:
        raise ValueError("no such luck")
    except ValueError as caught:
        error = explain(caught)
    assert isinstance(error, InternalError)
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in str(error)
    assert "no such luck" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_traceback_is_kept_where_the_cache_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    error = explain(ValueError("no such luck"))
    assert isinstance(error, InternalError)
    assert len(list(tmp_path.glob("crash-*.log"))) == 1
