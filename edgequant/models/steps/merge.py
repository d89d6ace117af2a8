"""A split GGUF as one file: every later stage then takes one file, and the board is sent one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import require_space
from edgequant.core.errors import GgufError
from edgequant.core.hashing import sha256_file
from edgequant.core.progress import task
from edgequant.models.formats.gguf import GgufInfo, read_gguf
from edgequant.models.steps.step import SPARE_BYTES, STAGE, header_facts

# Raise it when a change here makes other files from the same inputs.
RECIPE = 1

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True)
class SplitModel:
    """All parts of a split GGUF, in order."""

    stem: str
    parts: tuple[Path, ...]

    def recipe(self) -> Recipe:
        """All that decides what the merged file is."""
        inputs = {part.name: sha256_file(part) for part in self.parts}
        return Recipe(STAGE, inputs, {"step": "merge", "recipe": RECIPE})

    def make(self, draft: ArtefactDraft) -> None:
        """Write the merged file.

        Raises:
            GgufError: a part is damaged, or they are not parts of one model.
            DiskFullError: too little space.
        """
        headers = [read_gguf(part) for part in self.parts]
        needed = sum(h.file_bytes for h in headers) + SPARE_BYTES
        require_space(draft.folder, needed, f"merging {self.stem}")
        out = draft.folder / f"{self.stem}.gguf"
        with draft.timed("merge"), task(f"Merging {self.stem}", len(self.parts)) as shown:
            _merge(self.parts, headers[0], out, shown.advance)
        merged = read_gguf(out)
        expected = sum(len(header.tensors) for header in headers)
        if len(merged.tensors) != expected:
            raise GgufError(
                f"holds {len(merged.tensors)} of the {expected} tensors of its parts", subject=out
            )
        draft.manifest.details |= header_facts(merged)
        out.chmod(0o444)


def find_parts(path: Path) -> SplitModel | None:
    """All parts of the split GGUF that a file belongs to; None where it is whole by itself.

    Raises:
        GgufError: the file is damaged, or parts are missing; all of them are named.
    """
    count = read_gguf(path).metadata.get("split.count", 0)
    if not isinstance(count, int) or count <= 1:
        return None
    named = _PART.fullmatch(path.name)
    if named is None or int(named["count"]) != count:
        raise GgufError(
            f"is one of {count} parts, and its name does not say which",
            subject=path,
            next_step="name the parts as they came: NAME-00001-of-0000N.gguf",
        )
    names = [f"{named['stem']}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise GgufError(
            f"is one of {count} parts, and {len(missing)} are missing: {', '.join(missing[:8])}",
            subject=path,
            next_step="put all parts into one folder",
        )
    parts = tuple(path.parent / name for name in names)
    headers = [read_gguf(part) for part in parts]
    for number, (part, header) in enumerate(zip(parts, headers, strict=True)):
        found = header.metadata
        if (found.get("split.no"), found.get("split.count")) != (number, count):
            raise GgufError(
                f"calls itself part {found.get('split.no')} of {found.get('split.count')}",
                subject=part,
                next_step="see that all parts are of one model",
            )
    held = sum(len(header.tensors) for header in headers)
    told = headers[0].metadata.get("split.tensors.count", held)
    if told != held:
        raise GgufError(
            f"tells of {told} tensors in all parts, and they hold {held}",
            subject=parts[0],
            next_step="see that all parts are of one model, and whole",
        )
    return SplitModel(named["stem"], parts)


def _merge(parts: tuple[Path, ...], first: GgufInfo, out: Path, advance: Any) -> None:
    from gguf import GGUFReader, GGUFWriter

    writer = GGUFWriter(out, first.architecture)
    readers = [GGUFReader(part) for part in parts]
    for field in readers[0].fields.values():
        name = str(field.name)
        if name.startswith("GGUF.") or name in (*_SPLIT_KEYS, "general.architecture"):
            continue
        kind, inner = field.types[0], field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), kind, inner)
    for reader in readers:
        for tensor in reader.tensors:
            writer.add_tensor(
                tensor.name,
                tensor.data,
                raw_shape=tuple(int(size) for size in tensor.data.shape),
                raw_dtype=tensor.tensor_type,
            )
        advance()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
