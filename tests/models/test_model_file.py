"""Finding a model's file again by its hash."""

from __future__ import annotations

from pathlib import Path

from edgequant.core.artefact import ArtefactDraft, Recipe, Store
from edgequant.core.hashing import sha256_file
from edgequant.models.model_file import STAGE, find_file


def test_a_file_is_found_among_artefacts_and_what_lies_beside_them(tmp_path: Path) -> None:
    def make(draft: ArtefactDraft) -> None:
        (draft.folder / "m.gguf").write_bytes(b"weights")

    store = Store(tmp_path)
    made = store.get_or_make(Recipe(STAGE, {}, {}), make)
    file = made.file("m.gguf")
    beside = made.folder.parent
    assert made.folder.with_name(f"{made.folder.name}.lock").is_file()
    (beside / "0.lock").touch()
    (beside / "0.draft-1").mkdir()
    damaged = beside / "0"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")

    assert find_file(sha256_file(file), store) == file
    assert find_file("0" * 64, store) is None
