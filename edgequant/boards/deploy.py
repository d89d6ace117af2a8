"""Bring files to a board: content-addressed, checked, and never sent twice.

On the board a file lies at ``REMOTE_FOLDER/store/SHA256/NAME``. Beside it, ``.ok`` is written
last, with the file's size: a file whose marker fits and is not older than the file is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from pydantic import BaseModel, ConfigDict

from edgequant.boards.board import Board, quote
from edgequant.boards.compatibility import check_binaries
from edgequant.boards.facts import collect_facts, parse_df
from edgequant.core.artefact import ArtefactDraft, Recipe, Store
from edgequant.core.errors import BoardSpaceError, TransferError
from edgequant.core.files import write_json
from edgequant.core.hashing import sha256_file
from edgequant.core.progress import say, task

RECEIPT_NAME = "receipt.json"
# Left free on the board: the file system's own needs, and the board's.
SPARE_BYTES = 16 << 20
VERIFY_BYTES_PER_SECOND = 5e6
SHOWN_LARGEST = 5


class DeployedFile(BaseModel):
    """One file as it lies on the board."""

    model_config = ConfigDict(frozen=True)

    remote_path: str
    sha256: str
    bytes: int
    sent: bool
    """False where it was there already."""


class Receipt(BaseModel):
    """What lies on a board, verified by hash."""

    model_config = ConfigDict(frozen=True)

    board: str
    remote_folder: str
    """Absolute."""
    entries: dict[str, DeployedFile]
    """By the name that the caller gave."""
    seconds: float
    sent_bytes: int
    verified: bool
    """Whether what was there already was hashed anew, too."""


@dataclass(frozen=True)
class _Planned:
    local: Path
    sha256: str
    size_bytes: int
    remote_path: str

    @property
    def folder(self) -> str:
        return self.remote_path.rpartition("/")[0]


def deploy(
    board: Board,
    files: Mapping[str, Path],
    *,
    store: Store | None = None,
    verify: bool = False,
) -> Receipt:
    """Bring files to a board; what is there and whole is not sent again.

    Args:
        board: a connected board.
        files: local path by a name of the caller's choice.
        store: where the receipt is kept, by default the cache.
        verify: hash anew what is remembered here and what lies there, which may take a minute
            for some gigabytes.

    Raises:
        TransferError: a local file is missing, or one did not arrive whole.
        AuditError: a program cannot run on this board's CPU.
        BoardSpaceError: there is too little free space.
        BoardUnreachableError: the connection broke and did not come back.
    """
    start = monotonic()
    hashed = {name: _hashed(path, verify=verify) for name, path in files.items()}
    programs = [path for path in files.values() if is_program(path)]
    if programs:
        check_binaries(programs, collect_facts(board), board.profile)
    root = _remote_root(board)
    plan = {
        name: _Planned(path, sha256, path.stat().st_size, f"{root}/store/{sha256}/{path.name}")
        for name, (path, sha256) in hashed.items()
    }
    whole = _whole_files(board, list(plan.values()), verify=verify)
    missing = {p.remote_path: p for p in plan.values() if p.remote_path not in whole}
    if missing:
        _check_space(board, root, list(missing.values()), plan)
        for planned in missing.values():
            _send(board, planned)
    receipt = Receipt(
        board=board.profile.name,
        remote_folder=root,
        entries={
            name: DeployedFile(
                remote_path=p.remote_path,
                sha256=p.sha256,
                bytes=p.size_bytes,
                sent=p.remote_path in missing,
            )
            for name, p in plan.items()
        },
        seconds=round(monotonic() - start, 3),
        sent_bytes=sum(p.size_bytes for p in missing.values()),
        verified=verify,
    )
    _keep(receipt, store if store is not None else Store())
    return receipt


def is_program(path: Path) -> bool:
    """Whether a file is an ELF program or a script."""
    with path.open("rb") as stream:
        start = stream.read(4)
    return start == b"\x7fELF" or start.startswith(b"#!")


def _hashed(path: Path, *, verify: bool) -> tuple[Path, str]:
    if not path.is_file():
        raise TransferError("no such file", subject=path, next_step="check the path")
    if "\n" in path.name:
        raise TransferError("a file name with a line end cannot be deployed", subject=repr(path))
    return path, sha256_file(path, verify=verify)


def _remote_root(board: Board) -> str:
    folder = quote(board.profile.remote_folder)
    return board.run(f"mkdir -p {folder}/store && cd {folder} && pwd").stdout.rstrip("\n")


def _whole_files(board: Board, plan: list[_Planned], *, verify: bool) -> set[str]:
    """Remote paths that hold what they should, asked for with one command."""
    if not plan:
        return set()
    parts = []
    for planned in plan:
        path, marker = quote(planned.remote_path), quote(f"{planned.folder}/.ok")
        fits = (
            f'[ -f {path} ] && [ "$(cat {marker} 2>/dev/null)" = {planned.size_bytes} ] && '
            f"! [ {path} -nt {marker} ] && set -- $(ls -ln {path}) && "
            f'[ "$5" = {planned.size_bytes} ]'
        )
        if verify:
            fits += f' && h=$(sha256sum < {path}) && [ "${{h%% *}}" = {planned.sha256} ]'
        # A file under its final name that is not known to be whole is hashed, not trusted.
        known = (
            f"[ -f {path} ] && h=$(sha256sum < {path}) && "
            f'[ "${{h%% *}}" = {planned.sha256} ] && echo {planned.size_bytes} > {marker}'
        )
        parts.append(f"if {fits}; then echo ok; elif {known}; then echo ok; else echo no; fi")
    seconds = 60.0 + sum(p.size_bytes for p in plan) / VERIFY_BYTES_PER_SECOND
    with task(f"Looking what lies on {board.profile.name}"):
        printed = board.run("\n".join(parts), timeout_seconds=seconds).stdout.split()
    return {p.remote_path for p, answer in zip(plan, printed, strict=True) if answer == "ok"}


def _check_space(
    board: Board, root: str, missing: list[_Planned], plan: Mapping[str, _Planned]
) -> None:
    """Compare what is still to be written with what is free.

    Raises:
        BoardSpaceError: says how much is needed, how much is free, and what could be deleted.
    """
    disk = parse_df(board.run(f"df -P {quote(root)}").stdout)
    if disk is None:
        say(f"{board.profile.name} does not tell its free space; sending all the same")
        return
    partials = "; ".join(
        f"if [ -f {q} ]; then set -- $(ls -ln {q}); echo $5; else echo 0; fi"
        for q in (quote(f"{p.remote_path}.partial") for p in missing)
    )
    there = [int(size) for size in board.run(partials).stdout.split()]
    needed = sum(max(p.size_bytes - t, 0) for p, t in zip(missing, there, strict=True))
    if needed + SPARE_BYTES <= disk.free_bytes:
        return
    others = _largest_others(board, root, {p.folder for p in plan.values()})
    advice = (
        f"delete one of the larger files there: {', '.join(others)}"
        if others
        else (f"free space on {disk.mount_point}, or set remote_folder to another disk")
    )
    raise BoardSpaceError(
        f"{needed / 1e6:.1f} MB are to be sent (and {SPARE_BYTES / 1e6:.0f} MB stay spare), "
        f"{disk.free_bytes / 1e6:.1f} MB are free on {disk.mount_point}",
        subject=f"board {board.profile.name}",
        next_step=advice,
    )


def _largest_others(board: Board, root: str, wanted: set[str]) -> list[str]:
    """The largest folders of the store that this deploy does not need, with their sizes."""
    printed = board.run(f"du -k {quote(root)}/store/* 2>/dev/null || true", check=False).stdout
    sizes = []
    for line in printed.splitlines():
        kilobytes, _, path = line.partition("\t")
        if kilobytes.isdigit() and path not in wanted:
            sizes.append((int(kilobytes) * 1024, path))
    largest = sorted(sizes, reverse=True)[:SHOWN_LARGEST]
    return [f"{path} ({size / 1e6:.1f} MB)" for size, path in largest]


def _send(board: Board, planned: _Planned) -> None:
    board.run(f"mkdir -p {quote(planned.folder)} && rm -f {quote(planned.folder)}/.ok")
    title = f"Sending {planned.local.name} to {board.profile.name}"
    with task(title, total=planned.size_bytes, unit="bytes") as shown:
        board.send(planned.local, planned.remote_path, sha256=planned.sha256, on_bytes=shown.update)
    path = quote(planned.remote_path)
    executable = f"chmod 755 {path} && " if is_program(planned.local) else ""
    # The marker comes after the data are on the disk, or a power cut could leave it alone there.
    board.run(f"{executable}sync && echo {planned.size_bytes} > {quote(planned.folder)}/.ok")


def _keep(receipt: Receipt, store: Store) -> None:
    inputs = {name: entry.sha256 for name, entry in receipt.entries.items()}
    parameters: dict[str, object] = {
        "board": receipt.board,
        "remote_folder": receipt.remote_folder,
    }

    def make(draft: ArtefactDraft) -> None:
        draft.manifest.timings["deploy"] = receipt.seconds
        write_json(draft.folder / RECEIPT_NAME, receipt.model_dump(mode="json"))

    # What was found there now is what counts, not what an earlier receipt says.
    store.get_or_make(Recipe("receipt", inputs, parameters), make, force=True)
