"""``edgequant serve``: the mirror, by hand."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION, LARGEST_COUNT, echo, print_json


def command(
    model: Path = typer.Argument(help="GGUF file to serve."),
    port: int | None = typer.Option(
        None, min=1, max=65535, help="Port on 127.0.0.1; by default a free one."
    ),
    slots: int = typer.Option(
        1,
        min=1,
        max=LARGEST_COUNT,
        help="Answers at once. More than one is no longer the reference mode.",
    ),
    threads: int | None = typer.Option(
        None, min=1, max=LARGEST_COUNT, help="CPU threads; by default one for each core."
    ),
    context: int = typer.Option(
        4096, min=64, max=LARGEST_COUNT, help="Tokens that prompt and answer may have."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Run llama-server for one GGUF on the loopback address until Ctrl-C.

    With one slot it is in reference mode: one answer at a time, no prompt cache.

    Example: edgequant serve models/Q4_K_M.gguf --port 8080
    """
    from edgequant.answers.mirrors.llama_server.process import ServerPolicy
    from edgequant.answers.mirrors.llama_server.server import LlamaServer
    from edgequant.build.build import build
    from edgequant.core.paths import cache_root
    from edgequant.core.progress import say, task

    policy = ServerPolicy(
        slots=slots, threads=threads or len(os.sched_getaffinity(0)), context=context
    )
    host = build("host")
    log = cache_root() / "logs" / f"serve-{os.getpid()}.log"
    mirror = LlamaServer(host.binary("llama-server"), model, policy=policy, port=port, log=log)
    try:
        with task(f"Loading {model.name}"):
            mirror.start()
            mirror.wait_until_ready()
        if as_json:
            print_json(
                {
                    "url": mirror.url,
                    "pid": mirror.pid,
                    "model": str(model),
                    "context": mirror.context,
                    "slots": policy.slots,
                    "threads": policy.threads,
                    "reference_mode": policy.is_reference,
                    "llama_cpp_commit": host.llama_cpp_commit,
                    "log": str(log),
                }
            )
        else:
            echo(f"{model.name} is served at {mirror.url}")
        if not policy.is_reference:
            say(f"{slots} slots: greedy answers may differ from the reference mode's")
        say("Press Ctrl-C to stop.")
        mirror.wait()
    except KeyboardInterrupt:
        say("Stopping llama-server ...")
    finally:
        mirror.stop()
    say("Stopped.")
