"""Source archives from the Python package index, fetched by pip as the user has configured it.

Nothing of an archive is executed, and nothing is installed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from edgequant.build.source.lock import SourceLock
from edgequant.core.disk import says_disk_full
from edgequant.core.errors import DiskFullError, DownloadError, EdgequantError, SourceError
from edgequant.core.json_file import parse_json
from edgequant.core.process import run_logged
from edgequant.core.progress import Task, task

NEWEST_SHOWN = 5
VERSION_PATTERN = r"[0-9][0-9A-Za-z.+!]*"

# pip will not save a source archive before it has asked the archive's build backend for its
# name and version. This stands in for that backend: nothing from the archive is executed and
# nothing else is installed.
_BACKEND = """\
import os
import pathlib


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    name = os.environ["EDGEQUANT_PIP_PROJECT"]
    version = os.environ["EDGEQUANT_PIP_VERSION"]
    folder = pathlib.Path(metadata_directory, f"{name.replace('-', '_')}-{version}.dist-info")
    folder.mkdir()
    folder.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    )
    return folder.name


def build_wheel(*_arguments, **_settings):
    raise RuntimeError("only the source is wanted")
"""
_BACKEND_MODULES = ("scikit_build_core/build", "setuptools/build_meta", "mesonpy/__init__")


def download(lock: SourceLock, folder: Path) -> Path:
    """Fetch the archive that a lock names into a folder; pip compares its SHA-256 with the lock's.

    Args:
        lock: what to fetch.
        folder: an empty folder; pip's log is kept beside it.

    Raises:
        SourceError: there is no such version, it has another SHA-256, or nothing answers.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{lock.project}=={lock.version} --hash=sha256:{lock.sha256}\n", encoding="ascii"
    )
    with task(f"Downloading the source of {lock.project} {lock.version}", unit="bytes") as shown:
        arguments: list[str | Path] = ["download", "--require-hashes", "--dest", folder]
        arguments += ["--requirement", requirements]
        _run_pip(arguments, lock.project, lock.version, folder, shown)
    archives = sorted(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise SourceError(f"pip saved {len(archives)} archives instead of one", subject=folder)
    return archives[0]


def published_sha256(project: str, version: str, folder: Path) -> str:
    """The SHA-256 that the index states for a version's source archive, as pip records it.

    pip fetches the archive and compares it with the index's hash; where an index states none, it
    records that of the file it got.

    Args:
        project: name of the project on the index.
        version: one version of it.
        folder: an empty folder; pip's log is kept beside it.

    Raises:
        SourceError: there is no such version, its archive is not what the index says, or nothing
            answers.
    """
    report = folder / "report.json"
    with task(f"Asking the package index for {project} {version}", unit="bytes") as shown:
        arguments: list[str | Path] = ["install", "--dry-run", "--ignore-installed"]
        arguments += ["--report", report, f"{project}=={version}"]
        _run_pip(arguments, project, version, folder, shown)
    sha256 = sha256_in_report(report.read_text(encoding="utf-8"))
    if sha256 is None:
        raise SourceError(
            f"pip does not tell the SHA-256 of {project} {version}",
            next_step="use a newer pip: python -m pip install --upgrade pip",
        )
    return sha256


def sha256_in_report(text: str) -> str | None:
    """The hex SHA-256 of the only archive in a ``pip install --report``; None if absent."""
    try:
        (item,) = parse_json(text)["install"]
        archive = item["download_info"]["archive_info"]
        found = archive.get("hashes", {}).get("sha256") or archive["hash"].removeprefix("sha256=")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if isinstance(found, str) and re.fullmatch("[0-9a-f]{64}", found) else None


def show_pip_progress(line: str, shown: Task) -> None:
    """Feed a line of ``pip --progress-bar raw`` (``Progress 1000 of 2000``) to a bar."""
    match = re.fullmatch(r"\s*Progress (\d+) of (\d+)\s*", line)
    if match is not None:
        shown.update(int(match[1]), total=int(match[2]))


def explain_failure(text: str, project: str, version: str, log: Path) -> EdgequantError:
    """The error for what a failed pip printed.

    Args:
        text: all that pip printed.
        project: what was asked for.
        version: which version of it.
        log: where the text lies, for whoever wants all of it.
    """
    name = f"{project} {version}"
    if "No module named pip" in text:
        return SourceError(
            f"this Python ({sys.executable}) has no pip, which fetches the source",
            next_step=f"{sys.executable} -m ensurepip",
        )
    if says_disk_full(text):
        return DiskFullError(
            f"no space left while downloading {name}",
            subject=log.parent,
            next_step="free some space, or point EDGEQUANT_CACHE (and TMPDIR, which pip uses) at "
            "another disk",
        )
    if "DO NOT MATCH THE HASHES" in text:
        hashes = re.findall(r"(?:Expected sha256|Got)\s+([0-9a-f]{64})", text)
        told = f": SHA-256 {hashes[-1]} instead of {hashes[0]}" if len(hashes) >= 2 else ""
        return SourceError(
            f"the archive of {name} is not what it should be{told}; nothing of it was kept",
            subject=log,
            next_step="run again to fetch it anew; if it stays so, the index or a cache on the "
            "way is damaged, or someone changed the archive",
        )
    versions = known_versions(text)
    if versions:
        newest = ", ".join(list(reversed(versions))[:NEWEST_SHOWN])
        return SourceError(
            f"there is no source archive of {name}; the newest versions are {newest}",
            next_step=f"name one of the {len(versions)} versions that the index has",
        )
    if re.search(r"after connection broken by|ConnectionError|ReadTimeout|timed out", text):
        return DownloadError(
            f"the package index cannot be reached, so {name} was not fetched",
            next_step="check the network and pip's configuration (pip config list), run again",
        )
    if "(from versions: none)" in text:
        return SourceError(
            f"the package index has no source archive of {project}",
            next_step="check pip's configuration (pip config list): which index does it ask?",
        )
    if re.search(r"EOFError|tarfile\.ReadError|zlib\.error|BadGzipFile|IncompleteRead", text):
        return DownloadError(
            f"the archive of {name} is damaged or was cut off; nothing of it was kept",
            subject=log,
            next_step="run again to fetch it anew (pip cache purge, if it stays so)",
        )
    tail = "\n  ".join(line for line in text.splitlines()[-12:] if line.strip())
    return DownloadError(
        f"downloading {name} with pip failed; its last lines:\n  {tail}",
        subject=log,
        next_step="check the network and pip's configuration (pip config list)",
    )


def known_versions(text: str) -> list[str]:
    """The versions that pip says there are when it does not find one, oldest first."""
    match = re.search(r"\(from versions: ([^)]*)\)", text)
    if match is None or match[1] == "none":
        return []
    return [version.strip() for version in match[1].split(",")]


class _PipFailedError(SourceError):
    """Told anew by what pip printed."""


def _run_pip(
    arguments: Sequence[str | Path], project: str, version: str, folder: Path, shown: Task
) -> None:
    log = folder.parent / "download.log"
    log.unlink(missing_ok=True)
    common = ["--no-input", "--no-deps", "--no-binary", project, "--no-build-isolation"]
    common += ["--progress-bar", "raw", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", arguments[0], *common, *arguments[1:]]
    try:
        run_logged(
            command,
            log=log,
            error=_PipFailedError,
            what=f"downloading {project} {version} with pip",
            env=_environment(project, version, folder / "backend"),
            on_line=lambda line: show_pip_progress(line, shown),
        )
    except _PipFailedError:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise explain_failure(text, project, version, log) from None


def _environment(project: str, version: str, stub: Path) -> dict[str, str]:
    for module in _BACKEND_MODULES:
        file = stub / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(_BACKEND, encoding="utf-8")
    return {
        **os.environ,
        "PYTHONPATH": str(stub),
        # What is explained is English.
        "LC_ALL": "C.UTF-8",
        "EDGEQUANT_PIP_PROJECT": project,
        "EDGEQUANT_PIP_VERSION": version,
    }
