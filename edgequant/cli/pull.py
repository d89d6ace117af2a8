"""``edgequant pull``: a model, GGUF files or a data set from a Hugging Face hub."""

from __future__ import annotations

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table


def command(
    name: str = typer.Argument(help="org/name, or org/name@revision.", metavar="ID[@REVISION]"),
    files: list[str] = typer.Option(
        [],
        "--file",
        help="Only files of this pattern, such as '*Q4_K_M*.gguf'; repeatable.",
        metavar="PATTERN",
    ),
    dataset: bool = typer.Option(False, "--dataset", help="A data set, not a model."),
    allow_pickle: bool = typer.Option(
        False, "--allow-pickle", help="Also weights that can run code when they are loaded."
    ),
    remote_code: bool = typer.Option(
        False, "--remote-code", help="Also programs. Nothing here runs them."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Pull what is needed of a model, or files of it, into the hub's own cache, and verify it.

    HF_ENDPOINT names a mirror, HF_HOME another place for the cache, HF_TOKEN a token.

    Example: edgequant pull HuggingFaceTB/SmolLM2-135M-Instruct
    """
    from edgequant.models.pull.pull import pull
    from edgequant.models.pull.request import PullRequest, split_id

    id_, revision = split_id(name)
    request = PullRequest(
        id_,
        revision,
        kind="dataset" if dataset else "model",
        files=tuple(dict.fromkeys(files)),
        pickles=allow_pickle,
        code=remote_code,
    )
    pulled = pull(request)
    if as_json:
        print_json(
            {
                "id": request.id,
                "kind": request.kind,
                "revision": request.revision,
                "commit": pulled.commit,
                "folder": str(pulled.folder),
                "bytes": pulled.bytes,
                "files": dict(pulled.files),
            }
        )
        return
    print_table(["file", "bytes"], [*pulled.files.items()], title=request.shown)
    echo(f"commit {pulled.commit}")
    echo(str(pulled.folder))
