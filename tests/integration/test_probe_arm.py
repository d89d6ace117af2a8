"""The cross-built probe under qemu-user: it runs on the CPU it is for, and on no lesser one."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgequant.boards.board import Board, open_board
from edgequant.boards.profile import BoardProfile
from edgequant.core.artefact import Store, load_artefact
from edgequant.core.errors import ArtefactError, ProbeError
from edgequant.latency.probe import PROBE_NAME, ProbeOptions, run_probe

pytestmark = pytest.mark.integration

TARGET = "armv8.2-a+dotprod+fp16"


@pytest.fixture(scope="module")
def qemu() -> str:
    found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if found is None:
        pytest.skip("no qemu-aarch64 (Debian package qemu-user-static)")
    return found


@pytest.fixture(scope="module")
def probe() -> Path:
    manifests = (Store().root / "build").glob("*/manifest.json")
    for path in sorted(manifests, key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            artefact = load_artefact(path.parent)
        except ArtefactError:
            continue
        binary = path.parent / "bin" / PROBE_NAME
        if artefact.manifest.parameters.get("target") == TARGET and binary.is_file():
            return binary
    pytest.skip(f"no build for {TARGET} in the cache (edgequant build --target rk3568 makes one)")


@pytest.fixture(scope="module")
def model(host_build: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, small and in Q8_0: its dot products need the features of the target."""
    import sys

    sys.path.insert(0, str(host_build.source.folder / "gguf-py"))
    try:
        import gguf
        import numpy
    except ImportError as error:
        pytest.skip(f"gguf-py cannot be imported: {error}")
    finally:
        sys.path.pop(0)
    path = tmp_path_factory.mktemp("model") / "tiny-Q8_0.gguf"
    width, inner, vocabulary = 64, 128, 300
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    pieces = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{byte:02X}>".encode() for byte in range(256)]
    pieces += [f"w{number}".encode() for number in range(len(pieces), vocabulary)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * vocabulary)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (vocabulary - 259))
    generator = numpy.random.default_rng(1)
    shapes = {"token_embd": (vocabulary, width)}
    shapes |= {f"blk.0.attn_{name}": (width, width) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (inner, width), "blk.0.ffn_up": (inner, width)}
    shapes["blk.0.ffn_down"] = (width, inner)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, shape in shapes.items():
        values = generator.standard_normal(shape).astype(numpy.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(width, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def board_of(folder: Path) -> Board:
    profile = {"name": "qemu-user", "kind": "local", "build": {"target": TARGET}}
    place = {"remote_folder": str(folder / "board")}
    return open_board(BoardProfile.model_validate(profile | place))


def emulated(qemu: str, probe: Path, cpu: str, folder: Path) -> str:
    """A program that runs the probe under an emulated CPU."""
    script = folder / f"probe-{cpu}"
    words = shlex.join([qemu, "-cpu", cpu, str(probe)])
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_it_runs_on_the_cpu_it_is_for(qemu: str, probe: Path, model: Path, tmp_path: Path) -> None:
    script = emulated(qemu, probe, "cortex-a76", tmp_path)
    options = ProbeOptions(tokens=3, threads=1)
    runs = [run_probe(board_of(tmp_path), script, str(model), "it's 5", options) for _ in range(2)]
    assert "DOTPROD = 1" in runs[0].start.system_info
    assert len(runs[0].tokens) == 3
    assert [t.token_id for t in runs[0].tokens] == [t.token_id for t in runs[1].tokens]


def test_on_a_lesser_cpu_it_is_explained(
    qemu: str, probe: Path, model: Path, tmp_path: Path
) -> None:
    script = emulated(qemu, probe, "cortex-a53", tmp_path)
    with pytest.raises(ProbeError, match="built for a CPU with features") as caught:
        run_probe(board_of(tmp_path), script, str(model), "x", ProbeOptions(tokens=3, threads=1))
    assert "build.target" in (caught.value.next_step or "")
