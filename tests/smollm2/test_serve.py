"""The rebuilt folder as a hub: what a command behind it finds there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgequant.models.adapter import read_adapter

ROOT = Path(__file__).parents[2]
LOOK = """
import json, os, urllib.request
name = "rebuilt/SmolLM2-135M-Instruct"
url = f"{os.environ['HF_ENDPOINT']}/api/models/{name}/revision/main?blobs=true"
print(urllib.request.urlopen(url).read().decode())
raise SystemExit(7)
"""


def look(folder: Path) -> tuple[int, dict[str, object]]:
    program = [sys.executable, "-m", "experiments.smollm2.serve", str(folder)]
    done = subprocess.run(
        [*program, "--", sys.executable, "-c", LOOK],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def test_a_command_finds_the_folder_as_a_model_of_a_hub(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    status, found = look(tmp_path)
    assert status == 7
    files = {file["rfilename"]: file for file in found["siblings"]}  # type: ignore[attr-defined]
    assert files["config.json"]["size"] == 2
    assert files["model.safetensors"]["lfs"]["size"] == 7
    commit = str(found["sha"])
    assert len(commit) == 40
    assert look(tmp_path)[1]["sha"] == commit
    (tmp_path / "config.json").write_text("[]")
    assert look(tmp_path)[1]["sha"] != commit


def test_the_shipped_adapter_is_a_plain_one_of_ten_megabytes() -> None:
    folder = ROOT / "experiments" / "smollm2" / "adapter"
    adapter = read_adapter(folder)
    assert (adapter.rank, adapter.scale, len(adapter.pairs)) == (16, 2.0, 7 * 30)
    assert (folder / "adapter_model.safetensors").stat().st_size < 10_000_000
    a, b = adapter.matrices("model.layers.0.mlp.down_proj")
    assert a.shape == (16, 1536) and b.shape == (576, 16)
