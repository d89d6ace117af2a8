"""`edgequant pull` as a user calls it: the environment names mirror, cache and token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.models.pull.conftest import MODEL, NEEDED
from tests.models.pull.hub_server import COMMIT, TOKEN, Server, serve

MAIN = "from edgequant.cli.app import main; main()"

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        running.add_model("acme/tiny", MODEL)
        running.add_model("acme/gated", MODEL, gated=True)
        yield running


@pytest.fixture
def call(server: Server, tmp_path: Path) -> Call:
    hidden = ("HF_", "HUGGING", "TRANSFORMERS_", "http", "HTTP", "XDG_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        own = {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "hf"),
            "EDGEQUANT_CACHE": str(tmp_path / "cache"),
        }
        return subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**clean, **own, **more},
            check=False,
        )

    return run


def test_a_model_through_a_mirror(call: Call, tmp_path: Path) -> None:
    done = call("pull", "acme/tiny", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["id"], told["revision"], told["commit"]) == ("acme/tiny", "main", COMMIT)
    assert set(told["files"]) == NEEDED
    assert Path(told["folder"]).is_relative_to(tmp_path / "hf" / "hub")
    shown = call("pull", "acme/tiny")
    assert f"commit {COMMIT}\n{told['folder']}\n" in shown.stdout


def test_a_filled_cache_needs_no_network(call: Call) -> None:
    assert call("pull", "acme/tiny").returncode == 0
    for more in ({"HF_ENDPOINT": "http://127.0.0.1:1"}, {"HF_HUB_OFFLINE": "1"}):
        done = call("pull", "acme/tiny", **more)
        assert done.returncode == 0, done.stderr
        assert "taking what is kept" in done.stderr
        assert COMMIT in done.stdout


@pytest.mark.parametrize(
    ("arguments", "more", "code", "message"),
    [
        (["acme/none"], {}, 54, "there is no such model"),
        (["acme/tiny@v9"], {}, 54, "has no revision 'v9'"),
        (["acme/tiny", "--file", "*.gguf"], {}, 54, "has no file that fits '*.gguf'"),
        (["acme/tiny", "--dataset"], {}, 54, "there is no such dataset"),
        (["a b"], {}, 54, "is no id"),
        (["acme/tiny"], {"HF_ENDPOINT": "mirror.example"}, 54, "is no address of a hub"),
        (["acme/gated"], {}, 55, "is gated, and it needs a token"),
        (["acme/tiny"], {"HF_TOKEN": "hf_mistyped"}, 55, "does not accept the token"),
        (["acme/tiny"], {"HF_TOKEN": "hf_mistyped\u20ac"}, 55, "characters that no token has"),
        (["acme/tiny"], {"HF_ENDPOINT": "http://127.0.0.1:1"}, 56, "cannot be reached"),
        (["acme/tiny"], {"HF_HUB_OFFLINE": "1"}, 56, "HF_HUB_OFFLINE is set"),
    ],
)
def test_one_clear_message(
    call: Call, arguments: list[str], more: dict[str, str], code: int, message: str
) -> None:
    done = call("pull", *arguments, **more)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert "mistyped" not in done.stderr + done.stdout


def test_a_token_is_never_shown(call: Call) -> None:
    done = call("pull", "acme/gated", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_quantize_takes_an_id_and_refuses_before_it_builds(call: Call) -> None:
    done = call("quantize", "acme/none", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (54, "HubNotFoundError")
    assert call("quantize", "acme/tiny@v9").returncode == 54


def test_help_has_an_example(call: Call) -> None:
    assert "Example: edgequant pull" in call("pull", "--help").stdout
