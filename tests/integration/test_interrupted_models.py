"""Disks that fill up and processes that end midway: a clear error, and the next run goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import DiskFullError
from edgequant.models import make
from edgequant.models.make import make_models
from edgequant.models.ready import take_in
from edgequant.models.steps import base as base_step
from edgequant.models.steps import merge as merge_step
from edgequant.models.steps import quantize as quantize_step
from edgequant.models.variant import variants_of_types
from tests.integration import needs
from tests.models.gguf_writer import write_split
from tests.models.hf_folder import write_llama_folder
from tests.processes import ended

pytestmark = [
    pytest.mark.integration,
    needs.CONVERTER,
]
SECONDS = 60


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of so many KiB; called again, gives it another size."""
    place = tmp_path / "disk"
    place.mkdir()

    def make(kilobytes: int) -> Path:
        what = "remount," if place.is_mount() else ""
        options = ["-t", "tmpfs", "-o", f"{what}size={kilobytes}k", "none", str(place)]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("no file system may be mounted here")
        return place

    yield make
    if place.is_mount():
        subprocess.run(["umount", "--lazy", place], check=True)


def ggufs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.gguf"))


def convert(folder: Path, types: list[str], host: Any, place: Path) -> Any:
    return make_models(folder, variants_of_types(types), host=host, store=Store(place / "store"))


def another_takes_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """There was enough when it was looked at."""
    for step in (base_step, quantize_step, merge_step):
        monkeypatch.setattr(step, "require_space", lambda *_: None)
    monkeypatch.setattr(make, "require_room", lambda *_: None)


def test_a_disk_that_fills_up_while_converting(
    tiny: Path, disk: Callable[[int], Path], host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_takes_the_room(monkeypatch)
    place = disk(800)
    with pytest.raises(DiskFullError, match="no space left"):
        convert(tiny, ["BF16"], host_build, place)
    assert ggufs(place) == []
    disk(20_000)
    assert ggufs(convert(tiny, ["BF16"], host_build, place)["BF16"].path.parent) == [
        "tiny-BF16.gguf"
    ]


def test_a_disk_that_fills_up_while_quantizing(
    tiny: Path, disk: Callable[[int], Path], host_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_takes_the_room(monkeypatch)
    place = disk(20_000)
    base = convert(tiny, ["BF16"], host_build, place)["BF16"]
    disk(base.bytes // 1024 + 300)
    with pytest.raises(DiskFullError, match="no space left"):
        convert(tiny, ["Q8_0"], host_build, place)
    assert ggufs(place) == ["tiny-BF16.gguf"]
    disk(20_000)
    made = convert(tiny, ["Q8_0"], host_build, place)
    assert made.base.path == base.path
    assert ggufs(place) == ["tiny-BF16.gguf", "tiny-Q8_0.gguf"]


def test_a_disk_that_fills_up_while_merging(
    tiny: Path,
    tmp_path: Path,
    disk: Callable[[int], Path],
    host_build: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = convert(tiny, ["BF16"], host_build, tmp_path)["BF16"]
    parts = write_split(whole.path, tmp_path / "parts", 2)
    another_takes_the_room(monkeypatch)
    place = disk(800)
    with pytest.raises(DiskFullError, match="no space left"):
        take_in({"mine": parts[0]}, name="tiny", store=Store(place / "store"))
    assert ggufs(place) == []
    disk(20_000)
    take_in({"mine": parts[0]}, name="tiny", store=Store(place / "store"))
    assert len(ggufs(place)) == 1


RUN = """
import sys
from pathlib import Path
from edgequant.core.artefact import Store
from edgequant.models.make import make_models
from edgequant.models.steps import base
from edgequant.models.variant import variants_of_types
from tests.integration.conftest import HostBuild, HostSource
folder, store, binaries, source = map(Path, sys.argv[1:5])
host = HostBuild(binaries, HostSource(source), sys.argv[5])
# What is run instead needs none of it.
base.IMPORTED = ()
make_models(folder, variants_of_types(["Q8_0"]), host=host, store=Store(store))
"""
# Half of what it should write, and then it does not end.
HALF = """#!{python}
import os, sys, time
from pathlib import Path
arguments = sys.argv[1:]
out = arguments[arguments.index("--outfile") + 1] if "--outfile" in arguments else arguments[1]
Path(out).write_bytes(b"GGUF" + bytes(1000))
Path(r"{mark}").write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize("step", ["convert", "quantize"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_midway_leaves_nothing_to_trust(
    tiny: Path, tmp_path: Path, host_build: Any, step: str, number: signal.Signals
) -> None:
    mark = tmp_path / "mark"
    half = HALF.format(python=sys.executable, mark=mark)
    binaries, source = tmp_path / "bin", tmp_path / "source"
    binaries.mkdir()
    library = host_build.binary("libllama.so")
    for place in library.parent.iterdir():
        (binaries / place.name).symlink_to(place)
    if step == "convert":
        source.mkdir()
        (source / "convert_hf_to_gguf.py").write_text(half)
    else:
        source.symlink_to(host_build.source.folder)
        (binaries / "llama-quantize").unlink()
        (binaries / "llama-quantize").write_text(half)
        (binaries / "llama-quantize").chmod(0o755)
        convert(tiny, ["BF16"], host_build, tmp_path)
    store = tmp_path / "store"
    arguments = [tiny, store, binaries, source, host_build.llama_cpp_commit]
    command = [sys.executable, "-c", RUN, *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        wait_for(mark, process)
        assert [path for path in store.rglob("*.gguf") if ".draft-" in str(path)]
        process.send_signal(number)
        process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode != 0
    assert ended(mark.read_text())
    whole = [path.name for path in store.rglob("*.gguf") if ".draft-" not in str(path)]
    assert whole == ([] if step == "convert" else ["tiny-BF16.gguf"])
    if number == signal.SIGINT:
        assert not list(store.rglob("*.draft-*"))
    # The next one makes the rest, and removes what was left.
    convert(tiny, ["Q8_0"], host_build, tmp_path)
    assert ggufs(store) == ["tiny-BF16.gguf", "tiny-Q8_0.gguf"]
    assert not list(store.rglob("*.draft-*"))


def wait_for(mark: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10 * SECONDS
    while not (mark.is_file() and mark.read_text()):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
