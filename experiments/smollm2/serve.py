"""Serve the rebuilt folder as a Hugging Face hub on this machine.

    python -m experiments.smollm2.serve FOLDER -- edgequant pull rebuilt/SmolLM2-135M-Instruct

The command behind ``--`` runs with ``HF_ENDPOINT`` at that hub, and its status is this one's.
Without a command the hub runs until it is interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.models.pull.hub_server import Server, serve

NAME = "rebuilt/SmolLM2-135M-Instruct"


def add_folder(server: Server, name: str, folder: Path) -> str:
    """Serve a folder's files as the only commit of a model.

    Returns:
        The commit: a hash of the files' names and contents.
    """
    files = {f.name: f.read_bytes() for f in sorted(folder.iterdir()) if f.is_file()}
    commit = hashlib.sha1(usedforsecurity=False)
    for file, content in files.items():
        commit.update(f"{hashlib.sha256(content).hexdigest()}  {file}\n".encode())
    return server.add_model(name, files, commit=commit.hexdigest()).commit


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default=NAME, help="the model's id")
    parser.add_argument("command", nargs="*", help="what to run, behind --")
    arguments = parser.parse_args()
    with serve() as server:
        commit = add_folder(server, arguments.name, arguments.folder)
        print(f"{arguments.name}@{commit}: HF_ENDPOINT={server.url}", file=sys.stderr, flush=True)
        try:
            if arguments.command:
                environment = os.environ | {"HF_ENDPOINT": server.url}
                sys.exit(subprocess.run(arguments.command, env=environment, check=False).returncode)
            while True:
                time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
