"""What a GGUF really holds: the types of its tensors, whatever its name says.

llama-quantize gives a tensor whose rows are not whole blocks another type, so that a "Q2_K" file of
a model with 576 columns may hold no Q2_K tensor at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from edgequant.models.formats.gguf import GgufInfo
from edgequant.models.formats.types import tensor_types

COMPARED_BYTES = 1 << 20

# Mixtures whose main type is not the one that their name begins with.
_MAIN_TYPES = {
    "IQ2_S": "IQ2_XS",
    "IQ2_M": "IQ2_S",
    "IQ3_XS": "IQ3_S",
    "IQ3_M": "IQ3_S",
    "MXFP4_MOE": "MXFP4",
}


@dataclass(frozen=True)
class Contents:
    """The tensors of one file."""

    tensors: Mapping[str, int]
    """Type to how many tensors have it, the type with most weights first."""
    weight_share: Mapping[str, float]
    """Type to its share of all weights, the largest first."""
    named_type: str | None
    """The type that the file is called after; None where its name tells none."""

    @property
    def holds_named_type(self) -> bool:
        """Whether any tensor has the type that the file is called after."""
        return self.named_type is None or self.named_type in self.tensors

    @property
    def rounded_share(self) -> dict[str, float]:
        """``weight_share`` as it is written down."""
        return {kind: round(share, 6) for kind, share in self.weight_share.items()}

    def describe(self) -> str:
        """As :func:`describe_tensors`."""
        return describe_tensors(self.tensors, self.weight_share)


def describe_tensors(tensors: Mapping[str, int], weight_share: Mapping[str, float]) -> str:
    """``180 Q4_0 (77 %), 30 Q3_K (22 %), 1 Q8_0 (1 %), 61 F32 (<1 %)``.

    Args:
        tensors: type to how many tensors have it.
        weight_share: type to its share of all weights; where one is absent, none is told.
    """
    return ", ".join(
        f"{count} {kind}" + (f" ({_percent(weight_share[kind])})" if kind in weight_share else "")
        for kind, count in tensors.items()
    )


def _percent(share: float) -> str:
    # Norms are many tensors of few weights: a rounded 0 would read as none.
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def read_contents(info: GgufInfo, name: str) -> Contents:
    """What a file holds.

    Args:
        info: its header.
        name: the quantization it is called.
    """
    weights: Counter[str] = Counter()
    for tensor in info.tensors:
        weights[tensor.type] += tensor.elements
    counts = Counter(tensor.type for tensor in info.tensors)
    ordered = [kind for kind, _ in weights.most_common()]
    return Contents(
        tensors={kind: counts[kind] for kind in ordered},
        weight_share={kind: weights[kind] / info.parameter_count for kind in ordered},
        named_type=_named_type(name),
    )


def _named_type(name: str) -> str | None:
    """``Q3_K_M`` to ``Q3_K``: the longest ggml type that a name begins with."""
    if name in _MAIN_TYPES:
        return _MAIN_TYPES[name]
    known = {kind.name for kind in tensor_types().values()}
    words = name.split("_")
    starts = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    return next((start for start in starts if start in known), None)


def same_tensors(infos: Mapping[str, GgufInfo]) -> dict[str, str]:
    """Files with the very tensors of an earlier one, by name to that one's name.

    Metadata may differ: llama-quantize writes the type that was asked for into each.
    """
    found: dict[str, str] = {}
    names = list(infos)
    for place, name in enumerate(names):
        for earlier in names[:place]:
            if earlier not in found and _same(infos[earlier], infos[name]):
                found[name] = earlier
                break
    return found


def _same(first: GgufInfo, second: GgufInfo) -> bool:
    layouts = [
        [(t.name, t.shape, t.type, t.offset - info.data_offset) for t in info.tensors]
        for info in (first, second)
    ]
    if layouts[0] != layouts[1]:
        return False
    if first.path.samefile(second.path):
        return True
    with first.path.open("rb") as a, second.path.open("rb") as b:
        a.seek(first.data_offset)
        b.seek(second.data_offset)
        return _same_rest(a, b)


def _same_rest(a: BinaryIO, b: BinaryIO) -> bool:
    while True:
        # Different weights differ in the first block: only equal files are read to the end.
        one, other = a.read(COMPARED_BYTES), b.read(COMPARED_BYTES)
        if one != other:
            return False
        if not one:
            return True


def marked(name: str, holds_named_type: bool, same_as: str | None) -> str:
    """A quantization's name as it stands in a row: with what it hides, if anything."""
    text = name if holds_named_type else f"{name} (name only)"
    return text if same_as is None else f"{text} = {same_as}"


def content_notes(
    contents: Mapping[str, Contents], same: Mapping[str, str], fallback_tensors: Mapping[str, int]
) -> list[str]:
    """What a reader of the names would take wrongly, one sentence each.

    Args:
        contents: of every file, by its name.
        same: from :func:`same_tensors`.
        fallback_tensors: how many tensors of each file fell back to another type, where known.
    """
    notes = []
    for name, held in contents.items():
        if not held.holds_named_type:
            notes.append(
                f"{name} holds no {held.named_type} tensor: {held.describe()}; the model's rows "
                "are not whole blocks of that type"
            )
        elif count := fallback_tensors.get(name, 0):
            notes.append(
                f"{name}: {count} of {sum(held.tensors.values())} tensors fell back to other "
                f"types, as their rows are not whole blocks: {held.describe()}"
            )
        if name in same:
            notes.append(
                f"{name} and {same[name]} have the very same tensors: they are one variant under "
                "two names"
            )
    return notes
