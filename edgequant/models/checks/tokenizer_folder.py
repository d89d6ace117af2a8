"""A folder as the converter and all comparisons are given it: named after the model, and loadable.

The converter takes metadata from a folder's name, and a snapshot's is a commit's hash. Newer
releases of transformers write settings that older ones cannot read, though the tokenizer itself is
whole in tokenizer.json. In both cases it is a folder of links, with settings that mean the same.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgequant.core.json_file import read_json
from edgequant.models.folder import ModelFolder

SETTINGS = "tokenizer_config.json"
NEW_CLASSES = frozenset({"TokenizersBackend"})
"""What transformers 5 calls a tokenizer that is all in tokenizer.json."""
OLD_CLASS = "PreTrainedTokenizerFast"


@contextlib.contextmanager
def loadable(folder: ModelFolder) -> Iterator[tuple[ModelFolder, tuple[str, ...]]]:
    """The folder itself, or for the time of the block one of links that has what is mended.

    Yields:
        The folder to read, and what was changed in its settings, a sentence each.
    """
    try:
        settings = read_json(folder.path / SETTINGS)
    except (OSError, ValueError):
        settings = None
    mended, changes = mend(settings if isinstance(settings, dict) else {})
    if not (folder.path / "tokenizer.json").is_file():
        changes = ()
    if not changes and folder.path.name == readable_name(folder):
        yield folder, ()
        return
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / readable_name(folder)
        copy.mkdir()
        for file in folder.path.iterdir():
            if not changes or file.name != SETTINGS:
                (copy / file.name).symlink_to(file)
        if changes:
            (copy / SETTINGS).write_text(json.dumps(mended), encoding="utf-8")
        yield replace(folder, path=copy), changes


def readable_name(folder: ModelFolder) -> str:
    """What the folder is called that the converter reads: a snapshot's own name is a hash."""
    return folder.name if folder.path.parent.name == "snapshots" else folder.path.name


def mend(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings that mean the same to transformers 4, and what was changed."""
    mended, changes = dict(settings), []
    if mended.get("tokenizer_class") in NEW_CLASSES:
        changes.append(f"tokenizer_class {mended['tokenizer_class']} is read as {OLD_CLASS}")
        mended["tokenizer_class"] = OLD_CLASS
    extra = mended.get("extra_special_tokens")
    if isinstance(extra, list):
        changes.append("extra_special_tokens, a list, is read as additional_special_tokens")
        del mended["extra_special_tokens"]
        known = mended.get("additional_special_tokens")
        known = known if isinstance(known, list) else []
        mended["additional_special_tokens"] = [*known, *(t for t in extra if t not in known)]
    return mended, tuple(changes)
