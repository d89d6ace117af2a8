"""What pip prints and records, told in our words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgequant.build.source.package_index import explain_failure, known_versions, sha256_in_report
from edgequant.core.errors import DiskFullError, DownloadError, SourceError

RECORDED = Path(__file__).parent / "recorded"
LOG = Path("download.log")


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


def test_a_version_that_is_not_there_names_the_newest() -> None:
    text = recorded("pip-no-such-version.txt")
    error = explain_failure(text, "llama-cpp-python", "9.9.9", LOG)
    assert type(error) is SourceError and error.fault == "user"
    assert "the newest versions are 0.3.36, 0.3.35, 0.3.34, 0.3.33, 0.3.32" in error.cause
    assert len(known_versions(text)) > 200
    assert "208 versions" in str(error.next_step)


def test_an_index_that_cannot_be_reached_is_not_called_empty() -> None:
    error = explain_failure(recorded("pip-no-network.txt"), "llama-cpp-python", "0.3.35", LOG)
    assert "cannot be reached" in error.cause
    assert isinstance(error, DownloadError) and error.fault == "infrastructure"


def test_an_empty_index_is_not_called_unreachable() -> None:
    text = "ERROR: Could not find a version that satisfies the requirement x (from versions: none)"
    assert "has no source archive of x" in explain_failure(text, "x", "1", LOG).cause


def test_other_failures_show_pips_last_words() -> None:
    error = explain_failure("one\n\ntwo: it broke\n", "x", "1", LOG)
    assert "two: it broke" in error.cause
    assert error.subject == str(LOG)


def test_a_full_disk_is_called_that() -> None:
    text = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    assert isinstance(explain_failure(text, "x", "1", LOG), DiskFullError)


def report(archive: object) -> str:
    return json.dumps({"install": [{"download_info": {"archive_info": archive}}]})


@pytest.mark.parametrize(
    ("text", "sha256"),
    [
        (report({"hashes": {"sha256": "0a" * 32}}), "0a" * 32),
        (report({"hash": "sha256=" + "0b" * 32}), "0b" * 32),
        (report({"hash": "md5=" + "0b" * 16}), None),
        (report({"hashes": {}}), None),
        (report(None), None),
        (json.dumps({"install": []}), None),
        ("{", None),
        ("[]", None),
    ],
)
def test_the_hash_is_read_from_pips_report(text: str, sha256: str | None) -> None:
    assert sha256_in_report(text) == sha256
