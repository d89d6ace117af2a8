"""Memory and time of the whole quantize line, beside the pinned tree's own scripts.

    python -m benchmarks.big_models FOLDER [--gigabytes 4.2] [--type Q4_K_M] [--rounds 1]

Writes a Llama of random f16 weights in shards into FOLDER, unless it is there, and quantizes it in
turns: with convert_hf_to_gguf.py and llama-quantize as one would type them, and with `edgequant
quantize` over a cache that holds nothing of the model. Seconds are wall-clock, and those that the
processors worked. Memory is that of all processes of a side together, looked at several times a
second: what they have written themselves (anonymous pages, those that several share counted once),
and with the pages of files, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.random_model import DEMO_MODEL, SPREAD, TOKENIZER_FILES, make_config, tensor_shapes
from edgequant.build.build import build
from edgequant.core.paths import cache_root

REPOSITORY = Path(__file__).resolve().parent.parent
SHARD_BYTES = 1 << 30
LOOK_SECONDS = 0.2
NUMBERS = 1 << 24
MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """What one side took."""

    seconds: float
    processor_seconds: float
    own_bytes: int
    """Peak of what the processes wrote themselves."""
    with_files_bytes: int
    """Peak with the pages of files that they mapped."""
    parts: dict[str, float]


def write_model(folder: Path, wanted_bytes: int, hidden: int) -> None:
    """A Llama of at least so many bytes, a tensor at a time."""
    demo = json.loads((DEMO_MODEL / "config.json").read_text(encoding="utf-8"))
    layers = 1
    while model_bytes(config := make_config(demo, layers, hidden)) < wanted_bytes:
        layers += 1
    folder.mkdir(parents=True)
    for file in TOKENIZER_FILES:
        shutil.copyfile(DEMO_MODEL / file, folder / file)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    shards = list(in_shards(tensor_shapes(config)))
    random = np.random.default_rng(1)
    # One long row of numbers, each tensor begins elsewhere in it: making them takes the time.
    numbers = (random.standard_normal(NUMBERS, np.float32) * SPREAD).astype(np.float16)
    index: dict[str, str] = {}
    for number, shapes in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        index |= dict.fromkeys(shapes, name)
        write_shard(folder / name, shapes, numbers, random)
    content = {"metadata": {"total_size": model_bytes(config)}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


def model_bytes(config: dict[str, object]) -> int:
    return sum(2 * int(np.prod(shape)) for shape in tensor_shapes(config).values())


def in_shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        if size > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += 2 * int(np.prod(shape))
    yield shard


def write_shard(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    numbers: np.ndarray,
    random: np.random.Generator,
) -> None:
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            count = int(np.prod(shape))
            if len(shape) == 1:
                stream.write(np.ones(count, np.float16).tobytes())
                continue
            start = int(random.integers(NUMBERS))
            while count:
                piece = numbers[start : start + count]
                stream.write(piece.tobytes())
                count, start = count - len(piece), 0


def pages(pid: int) -> tuple[int, int]:
    """Bytes of a process's own pages and of all, each shared one in parts."""
    own = every = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                every = int(line.split()[1]) * 1024
            elif line.startswith("Pss_Anon:"):
                own = int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0, 0
    return own, every


def processor_seconds() -> float:
    """Of all processes below us that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def below(root: int) -> set[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        parents.setdefault(parent, []).append(int(place.name))
    found, left = set(), [root]
    while left:
        pid = left.pop()
        found.add(pid)
        left += parents.get(pid, [])
    return found


def measured(commands: Sequence[tuple[str, Sequence[object]]], environment: dict[str, str]) -> Run:
    """Run commands one after another."""
    parts = {}
    peaks = [0, 0]
    before = processor_seconds()
    for name, command in commands:
        start = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        said: list[str] = []
        reader = threading.Thread(target=lambda p=process, s=said: s.extend(p.stderr))
        reader.start()
        while process.poll() is None:
            found = [pages(pid) for pid in below(process.pid)]
            for which in (0, 1):
                peaks[which] = max(peaks[which], sum(each[which] for each in found))
            time.sleep(LOOK_SECONDS)
        reader.join()
        parts[name] = time.monotonic() - start
        if process.returncode:
            sys.exit(f"{name} failed:\n{''.join(said[-20:])}")
    return Run(sum(parts.values()), processor_seconds() - before, peaks[0], peaks[1], parts)


def theirs(folder: Path, kinds: Sequence[str], out: Path) -> Run:
    """The tree's own scripts."""
    host = build("host")
    out.mkdir()
    base = out / "base.gguf"
    source = host.source.folder
    convert = [sys.executable, source / "convert_hf_to_gguf.py", folder]
    convert += ["--outfile", base, "--outtype", "f16"]
    commands: list[tuple[str, Sequence[object]]] = [("convert", convert)]
    for kind in kinds:
        program = host.binary("llama-quantize")
        commands.append((kind, [program, base, out / f"{kind}.gguf", kind]))
    return measured(commands, {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"})


def ours(folder: Path, kinds: Sequence[str], cache: Path) -> Run:
    """The verb, with a cache that has the builds and nothing of the model."""
    (cache / "artefacts").mkdir(parents=True)
    for name in ("sources", "artefacts/build", "zig"):
        if (cache_root() / name).exists():
            (cache / name).symlink_to(cache_root() / name)
    program = "from edgequant.cli.app import main; main()"
    command: list[object] = [sys.executable, "-c", program, "quantize", folder]
    for kind in kinds:
        command += ["--type", kind]
    run = measured([("quantize", command)], {"EDGEQUANT_CACHE": str(cache)})
    for manifest in (cache / "artefacts" / "models").glob("*/manifest.json"):
        told = json.loads(manifest.read_text(encoding="utf-8"))
        kind = told["parameters"].get("type", "base")
        run.parts.update({f"{kind} {name}": value for name, value in told["timings"].items()})
    return run


def shown(name: str, run: Run) -> None:
    parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in run.parts.items())
    print(
        f"{name}: {run.seconds:.1f} s, {run.processor_seconds:.1f} s of processors, "
        f"{run.own_bytes / MIB:.0f} MiB of its own, "
        f"{run.with_files_bytes / MIB:.0f} MiB with files ({parts})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=4.2)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--type", action="append", dest="types")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    kinds = options.types or ["Q4_K_M"]
    if not (options.folder / "config.json").is_file():
        write_model(options.folder, int(options.gigabytes * 1e9), options.hidden)
    weights = sum(file.stat().st_size for file in options.folder.glob("*.safetensors"))
    print(f"{options.folder}: {weights / 1e9:.2f} GB of f16", flush=True)
    runs: dict[str, list[Run]] = {"theirs": [], "ours": []}
    for _ in range(options.rounds):
        for name, side in (("theirs", theirs), ("ours", ours)):
            with tempfile.TemporaryDirectory(dir=options.folder.parent) as place:
                run = side(options.folder, kinds, Path(place) / "out")
            shown(name, run)
            runs[name].append(run)
    for what in ("seconds", "processor_seconds", "own_bytes", "with_files_bytes"):
        ratio = [
            getattr(mine, what) / getattr(other, what)
            for mine, other in zip(runs["ours"], runs["theirs"], strict=True)
        ]
        print(f"{what}, ours / theirs: {statistics.median(ratio):.3f}")


if __name__ == "__main__":
    main()
