"""Models from a hub that speaks the protocol: what is fetched, what is refused, what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import (
    DiskFullError,
    EdgequantError,
    HubAccessError,
    HubAnswerError,
    HubNotFoundError,
    HubUnreachableError,
)
from edgequant.models.pull.hub import Hub
from edgequant.models.pull.pull import Pulled, expected_bytes, find_pulled, pull
from edgequant.models.pull.request import PullRequest
from edgequant.models.pull.space import Conversion
from edgequant.models.variant import Variant
from tests.models.pull.conftest import MODEL, NEEDED, WEIGHTS
from tests.models.pull.hub_server import COMMIT, TOKEN, Repo, Server

TINY = PullRequest("acme/tiny")


def pulled(hub: Hub, store: Store, request: PullRequest = TINY, **more: Any) -> Pulled:
    return pull(request, hub=hub, store=store, **more)


def gone(hub: Hub) -> Hub:
    """The same cache, and nothing that answers."""
    return replace(hub, endpoint="http://127.0.0.1:1")


# What is fetched ------------------------------------------------------------------------------


def test_only_what_a_conversion_needs(server: Server, hub: Hub, store: Store) -> None:
    found = pulled(hub, store)
    assert set(found.files) == NEEDED
    assert {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*.*")} == NEEDED
    assert found.commit == COMMIT
    assert found.bytes == sum(len(MODEL[name]) for name in NEEDED)
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert found.model_folder.name == "tiny"


def test_the_cache_is_the_hubs_own(server: Server, hub: Hub, store: Store) -> None:
    from huggingface_hub import snapshot_download

    found = pulled(hub, store)
    theirs = snapshot_download("acme/tiny", cache_dir=hub.cache, local_files_only=True)
    assert Path(theirs) == found.folder
    assert (found.folder / "model.safetensors").is_symlink()


def test_what_another_program_pulled_is_not_fetched_again(
    server: Server, hub: Hub, store: Store
) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download("acme/tiny", cache_dir=hub.cache, endpoint=server.url)
    server.asked.clear()
    assert set(pulled(hub, store).files) == NEEDED
    assert server.paths() == ["api/models/acme/tiny/revision/main"]


def test_a_finished_pull_is_found_without_the_hub(server: Server, hub: Hub, store: Store) -> None:
    first = pulled(hub, store)
    server.asked.clear()
    assert find_pulled(TINY, hub=gone(hub), store=store) == pulled(hub, store, refresh=False)
    assert server.asked == []
    (first.folder / "config.json").unlink()
    assert find_pulled(TINY, hub=hub, store=store) is None
    assert pulled(hub, store, refresh=False).model_folder.path == first.folder


def test_a_branch_that_moved_is_followed_when_asked(server: Server, hub: Hub, store: Store) -> None:
    old = pulled(hub, store)
    moved = "f" * 40
    server.add_model(
        "acme/tiny", {**MODEL, "config.json": b'{"architectures":["B"]}'}
    ).commit = moved
    assert pulled(hub, store, refresh=False).commit == COMMIT
    server.asked.clear()
    new = pulled(hub, store)
    assert new.commit == moved
    assert new.model_folder.architecture == "B"
    assert old.model_folder.architecture == "LlamaForCausalLM"
    # The weights are the same blob, and stay.
    assert not [path for path in server.paths() if path.endswith("safetensors")]


def test_a_commit_is_pulled_once(server: Server, hub: Hub, store: Store) -> None:
    request = replace(TINY, revision=COMMIT)
    pulled(hub, store, request)
    server.asked.clear()
    assert pulled(hub, store, request).commit == COMMIT
    assert server.asked == []


def test_ggufs_by_pattern(server: Server, hub: Hub, store: Store) -> None:
    parts = [f"big-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]
    names = ["small-Q2_K.gguf", "small-Q8_0.gguf", *parts]
    server.add_model("acme/ggufs", {name: name.encode() * 99 for name in names})
    found = pulled(
        hub,
        store,
        PullRequest("acme/ggufs", files=("*Q2_K*.gguf", "*Q4_K_M*.gguf")),
    )
    assert set(found.files) == {"small-Q2_K.gguf", *parts}
    assert found.gguf("*Q2_K*.gguf").name == "small-Q2_K.gguf"
    assert found.gguf("*Q4_K_M*").name == parts[0]
    with pytest.raises(HubNotFoundError, match="fit '\\*Q9\\*', not one"):
        found.gguf("*Q9*")
    with pytest.raises(HubNotFoundError, match=r"it has small-Q2_K\.gguf, small-Q8_0\.gguf"):
        pulled(hub, store, PullRequest("acme/ggufs", files=("*Q9_K*.gguf",)))
    with pytest.raises(HubNotFoundError, match="no safetensors, but GGUF files") as raised:
        pulled(hub, store, PullRequest("acme/ggufs"))
    assert "--file" in str(raised.value.next_step)


def test_a_data_set(server: Server, hub: Hub, store: Store) -> None:
    server.repos["datasets/acme/sums"] = Repo(
        {"main/test.parquet": b"PAR1", "sums.py": b"", "README.md": b"", "a.zip": b""}
    )
    found = pulled(hub, store, PullRequest("acme/sums", kind="dataset"))
    assert set(found.files) == {"main/test.parquet", "README.md"}
    assert found.folder.parent.parent.name == "datasets--acme--sums"


def test_pickles_and_programs_come_only_when_asked_for(
    server: Server, hub: Hub, store: Store
) -> None:
    server.add_model(
        "acme/old", {name: c for name, c in MODEL.items() if not name.endswith("safetensors")}
    )
    old = PullRequest("acme/old")
    with pytest.raises(HubNotFoundError, match=r"pickles only.*pytorch_model\.bin"):
        pulled(hub, store, old)
    assert "pytorch_model.bin" in pulled(hub, store, replace(old, pickles=True)).files
    with pytest.raises(HubNotFoundError, match="may run code"):
        pulled(hub, store, replace(TINY, files=("*.py",)))
    assert "modeling_tiny.py" in pulled(hub, store, replace(TINY, code=True)).files
    assert "pytorch_model.bin" not in pulled(hub, store, replace(TINY, files=("*",))).files


# Links and mirrors ----------------------------------------------------------------------------


def test_a_broken_link_is_taken_up_where_it_broke(server: Server, hub: Hub, store: Store) -> None:
    server.break_after = [200_000, 100_000]
    assert pulled(hub, store).model_folder
    ranges = [r for _, path, r, _ in server.asked if path.startswith("cdn/")]
    assert ranges[0] is None
    assert [r is not None and r.startswith("bytes=") for r in ranges] == [False, True, True]


def test_an_interrupted_pull_goes_on_in_the_next(server: Server, hub: Hub, store: Store) -> None:
    server.break_after = [200_000, *[0] * 9]
    with pytest.raises(HubUnreachableError, match=r"broke off.*not wholly"):
        pulled(hub, store)
    assert find_pulled(TINY, hub=hub, store=store) is None
    partial = next((hub.cache / "models--acme--tiny" / "blobs").glob("*.incomplete"))
    kept = partial.stat().st_size
    assert 0 < kept <= 200_000
    server.break_after.clear()
    server.asked.clear()
    assert pulled(hub, store).model_folder
    assert [r for _, path, r, _ in server.asked if path.startswith("cdn/")] == [f"bytes={kept}-"]
    assert not partial.exists()


def test_a_server_without_ranges_sends_all_of_it_again(
    server: Server, hub: Hub, store: Store
) -> None:
    server.no_ranges = True
    server.break_after = [200_000]
    assert (pulled(hub, store).folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_slow_link_is_waited_for_and_a_stalled_one_is_not(
    server: Server, hub: Hub, store: Store
) -> None:
    server.chunk, server.chunk_seconds = 1 << 17, 0.6
    # Longer in all than the wait for a single byte.
    assert pulled(replace(hub, timeout_seconds=2.0), store).model_folder
    server.add_model("acme/stalled", MODEL | {"model.safetensors": WEIGHTS + b" "})
    server.chunk, server.chunk_seconds = 1000, 5.0
    with pytest.raises(HubUnreachableError):
        pulled(replace(hub, timeout_seconds=0.2), store, PullRequest("acme/stalled"))


def test_a_mirror_whose_listing_tells_no_hashes(server: Server, hub: Hub, store: Store) -> None:
    server.no_blobs = True
    assert pulled(hub, store).bytes == sum(len(MODEL[name]) for name in NEEDED)
    server.add_model("acme/other", MODEL)
    server.no_hashes = True
    with pytest.raises(HubAnswerError, match="could not be verified"):
        pulled(hub, store, PullRequest("acme/other"))


def test_a_renamed_repository_is_followed(server: Server, hub: Hub, store: Store) -> None:
    server.add_model("acme/was", MODEL, renamed_to="models/acme/tiny")
    assert pulled(hub, store, PullRequest("acme/was")).commit == COMMIT


# What is verified -----------------------------------------------------------------------------


def test_a_damaged_file_is_fetched_again_and_never_kept(
    server: Server, hub: Hub, store: Store
) -> None:
    server.spoilt = 1
    assert (pulled(hub, store).folder / "model.safetensors").read_bytes() == WEIGHTS
    server.add_model("acme/bad", MODEL | {"model.safetensors": WEIGHTS + b" "})
    server.spoilt = 2
    with pytest.raises(HubAnswerError, match="another hash, twice"):
        pulled(hub, store, PullRequest("acme/bad"))
    bad = hub.cache / "models--acme--bad"
    assert not list(bad.rglob("*.safetensors"))
    assert not list(bad.rglob("*.incomplete"))


def test_what_was_left_half_is_no_part_of_another_file(
    server: Server, hub: Hub, store: Store
) -> None:
    blobs = hub.cache / "models--acme--tiny" / "blobs"
    blobs.mkdir(parents=True)
    name = f"{server.repos['models/acme/tiny'].hash_of('model.safetensors')}.incomplete"
    for size in (1000, len(WEIGHTS) + 1):
        (blobs / name).write_bytes(b"x" * size)
        found = pulled(hub, store).folder / "model.safetensors"
        assert found.read_bytes() == WEIGHTS
        found.resolve().unlink()


def test_a_file_in_the_cache_that_was_changed_is_fetched_again(
    server: Server, hub: Hub, store: Store
) -> None:
    blob = (pulled(hub, store).folder / "model.safetensors").resolve()
    blob.write_bytes(b"\1" + WEIGHTS[1:])
    assert (pulled(hub, store).folder / "model.safetensors").read_bytes() == WEIGHTS


def test_more_bytes_than_told_end_it(server: Server, hub: Hub, store: Store) -> None:
    server.endless = True
    with pytest.raises(HubAnswerError, match="sends more than"):
        pulled(hub, store)
    sizes = [p.stat().st_size for p in hub.cache.rglob("*") if p.is_file()]
    assert max(sizes, default=0) <= len(WEIGHTS)


@pytest.mark.parametrize(
    "path",
    [
        "../../../outside",
        "/etc/passwd",
        "a/../../outside.json",
        "a//b.json",
        "a\\..\\b.json",
        "\x1b[2J.json",
        "./config.json",
        "",
        "x" * 300 + ".json",
    ],
)
def test_a_path_out_of_the_folder_ends_it(
    server: Server, hub: Hub, store: Store, tmp_path: Path, path: str
) -> None:
    file = {"rfilename": path, "size": 1, "blobId": "0" * 40}
    server.listing = json.dumps({"sha": COMMIT, "siblings": [file]}).encode()
    with pytest.raises(HubAnswerError, match="does not send a list of files"):
        pulled(hub, store)
    assert not hub.cache.exists()


@pytest.mark.parametrize(
    "listing",
    [
        b"<html>captive portal</html>",
        b"[]",
        b"{}",
        b'{"sha": "../../x", "siblings": []}',
        b'{"sha": "' + b"0" * 40 + b'", "siblings": [{"rfilename": "a", "size": -1}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_listing(server: Server, hub: Hub, store: Store, listing: bytes) -> None:
    server.listing = listing
    with pytest.raises(HubAnswerError):
        pulled(hub, store)


def test_sizes_that_no_disk_has_are_refused_before_anything_is_fetched(
    server: Server, hub: Hub, store: Store
) -> None:
    file = {"rfilename": "model.safetensors", "size": 10**18, "blobId": "0" * 40}
    server.listing = json.dumps({"sha": COMMIT, "siblings": [file]}).encode()
    with pytest.raises(DiskFullError, match="pulling acme/tiny needs"):
        pulled(hub, store)
    assert server.paths() == ["api/models/acme/tiny/revision/main"]


def test_room_is_needed_for_what_is_made_of_it(
    server: Server, hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgequant.core.disk.free_bytes", lambda folder: int(1.5 * len(WEIGHTS)))
    conversion = Conversion(store.root, (Variant.of_type("Q8_0"),))
    with pytest.raises(DiskFullError, match="and making its variants"):
        pulled(hub, store, conversion=conversion)
    assert not [path for path in server.paths() if path.startswith("cdn/")]
    assert pulled(hub, store).model_folder


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "token", "kind", "message", "step"),
    [
        (PullRequest("acme/none"), "", HubNotFoundError, "no such model", "check its spelling"),
        (PullRequest("acme/none"), TOKEN, HubNotFoundError, "no such model", "spelling"),
        (PullRequest("acme/tiny", "v9"), "", HubNotFoundError, "no revision 'v9'", "a branch"),
        (PullRequest("acme/gated"), "", HubAccessError, "gated, and it needs a token", "HF_TOKEN"),
        (
            PullRequest("acme/gated"),
            f"{TOKEN}-not-let-in",
            HubAccessError,
            "gated, and its account was not let in",
            "ask for access",
        ),
        (PullRequest("acme/tiny"), "hf_wrong", HubAccessError, "not accept the token", "HF_TOKEN"),
    ],
)
def test_one_clear_message(
    server: Server,
    hub: Hub,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    request_: PullRequest,
    token: str,
    kind: type[EdgequantError],
    message: str,
    step: str,
) -> None:
    server.add_model("acme/gated", MODEL, gated=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(kind, match=message) as raised:
        pulled(hub, store, request_)
    assert step in str(raised.value.next_step)
    assert not token or token not in str(raised.value)


def test_a_token_opens_a_gated_one_and_stays_with_the_hub(
    server: Server, hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_model("acme/gated", MODEL, gated=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pulled(hub, store, PullRequest("acme/gated")).model_folder
    sent = {path.startswith("cdn/"): token for _, path, _, token in server.asked}
    assert sent == {False: f"Bearer {TOKEN}", True: None}
    kept = [p.read_bytes() for p in store.root.rglob("*") if p.is_file()]
    assert kept
    assert not any(TOKEN.encode() in content for content in kept)


def test_no_network_and_a_filled_cache(
    server: Server, hub: Hub, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pulled(hub, store)
    assert pulled(gone(hub), store) == first
    assert "cannot be reached; taking what is kept" in capsys.readouterr().err
    # One that another program filled, which left no record here.
    other = pulled(gone(hub), Store(tmp_path / "other"))
    assert (other.folder, other.commit, other.artefact) == (first.folder, COMMIT, None)


def test_no_network_and_half_a_cache(
    server: Server, hub: Hub, store: Store, tmp_path: Path
) -> None:
    folder = pulled(hub, store).folder
    (folder / "model.safetensors").resolve().unlink()
    for kept in (store, Store(tmp_path / "other")):
        with pytest.raises(HubUnreachableError, match="cannot be reached, and acme/tiny is not"):
            pulled(gone(hub), kept)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_down(server: Server, hub: Hub, store: Store, status: int) -> None:
    server.status = status
    with pytest.raises(HubUnreachableError):
        pulled(hub, store)


@pytest.mark.parametrize("id_", ["../x", "a/b/c", "a--b/c", "", "a b", "org/..", "-x/y"])
def test_what_is_no_id(id_: str) -> None:
    with pytest.raises(HubNotFoundError, match="is no id"):
        PullRequest(id_)


@pytest.mark.parametrize("revision", ["", "../x", "a/../b", "/etc", "a b", "refs/", ".git"])
def test_what_is_no_revision(revision: str) -> None:
    with pytest.raises(HubNotFoundError, match="is no name of a revision"):
        PullRequest("acme/tiny", revision)


def test_a_password_in_the_address_is_not_shown(hub: Hub, store: Store) -> None:
    secret = replace(hub, endpoint="http://me:hush@127.0.0.1:1")
    with pytest.raises(HubUnreachableError) as raised:
        pulled(secret, store)
    assert "hush" not in str(raised.value)


def test_what_it_comes_to_before_it_is_pulled(server: Server, hub: Hub) -> None:
    assert expected_bytes(TINY, hub=hub) == sum(len(MODEL[name]) for name in NEEDED)
    assert expected_bytes(PullRequest("acme/none"), hub=hub) is None
    assert expected_bytes(TINY, hub=gone(hub)) is None
