"""``edgequant serve``: the mirror, by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

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
    prompt_cache: bool = typer.Option(
        False, "--prompt-cache", help="Keep prompts between answers; no longer the reference mode."
    ),
    cache_type_k: str = typer.Option("f16", help="Type of the key cache."),
    cache_type_v: str = typer.Option("f16", help="Type of the value cache."),
    flash_attention: str = typer.Option("auto", help="on, off, or as llama.cpp chooses (auto)."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Run llama-server for one GGUF on the loopback address until Ctrl-C.

    With one slot it is in reference mode: one answer at a time, no prompt cache.

    Example: edgequant serve models/Q4_K_M.gguf --port 8080
    """
    from edgequant.answers.mirrors.llama_server.process import FlashAttention, ServerPolicy
    from edgequant.answers.mirrors.llama_server.server import LlamaServer
    from edgequant.build.build import build
    from edgequant.core.paths import cache_root
    from edgequant.core.progress import say, task
    from edgequant.latency.probe import CACHE_TYPES

    _check_choice("--cache-type-k", cache_type_k, CACHE_TYPES)
    _check_choice("--cache-type-v", cache_type_v, CACHE_TYPES)
    _check_choice("--flash-attention", flash_attention, get_args(FlashAttention))
    policy = ServerPolicy(
        slots=slots,
        prompt_cache=prompt_cache,
        threads=threads or len(os.sched_getaffinity(0)),
        context=context,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
        flash_attention=cast(FlashAttention, flash_attention),
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
            say("Several slots or a prompt cache: answers may differ from the reference mode's")
        say("Press Ctrl-C to stop.")
        mirror.wait()
    except KeyboardInterrupt:
        say("Stopping llama-server ...")
    finally:
        mirror.stop()
    say("Stopped.")


def _check_choice(option: str, value: str, values: Sequence[str]) -> None:
    if value not in values:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(values)}", param_hint=option)
