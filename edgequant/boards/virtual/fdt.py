"""Read, change and write a flattened device tree (DTB, version 17).

Only what the virtual board needs: set a property of a node, and write the tree back at its
real size. qemu's own dump is padded to 1 MiB, which the kernel does not accept with ``-dtb``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAGIC = 0xD00DFEED
VERSION = 17
LAST_COMPATIBLE_VERSION = 16
BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9
HEADER = struct.Struct(">10I")
RESERVATION = struct.Struct(">QQ")


class FdtError(ValueError):
    """The bytes are not a device tree that this module can read."""


@dataclass
class Node:
    """One node: its properties in order, and its children in order."""

    name: str
    properties: dict[str, bytes] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def child(self, name: str) -> Node:
        """The child of that name, unit address included.

        Raises:
            KeyError: there is none.
        """
        for candidate in self.children:
            if candidate.name == name:
                return candidate
        raise KeyError(name)


@dataclass
class Tree:
    """A whole device tree."""

    root: Node
    reservations: list[tuple[int, int]] = field(default_factory=list)
    """Address and size in bytes of memory that must not be used."""
    boot_cpu: int = 0


def strings(*values: str) -> bytes:
    """A property value that is a list of strings."""
    return b"".join(value.encode() + b"\0" for value in values)


def parse(data: bytes) -> Tree:
    """Read a device tree blob.

    Raises:
        FdtError: not a device tree, of another version, or damaged.
    """
    try:
        return _parse(data)
    except FdtError:
        raise
    except (struct.error, IndexError, ValueError) as error:
        raise FdtError(f"damaged device tree: {error}") from error


def _parse(data: bytes) -> Tree:
    (magic, total, structure, names, reservation, _version, compatible, boot_cpu, _, _) = (
        HEADER.unpack_from(data)
    )
    if magic != MAGIC:
        raise FdtError("not a device tree")
    if compatible > VERSION or total > len(data):
        raise FdtError("a device tree of another version, or cut short")
    reservations = []
    while True:
        entry = RESERVATION.unpack_from(data, reservation)
        if entry == (0, 0):
            break
        reservations.append(entry)
        reservation += RESERVATION.size
    return Tree(_parse_nodes(data, structure, names), reservations, boot_cpu)


def _parse_nodes(data: bytes, position: int, names: int) -> Node:
    above = Node("")  # holds the root, so that every node has a parent
    path = [above]
    while True:
        (token,) = struct.unpack_from(">I", data, position)
        position += 4
        if token == BEGIN_NODE:
            end = data.index(b"\0", position)
            node = Node(data[position:end].decode())
            path[-1].children.append(node)
            path.append(node)
            position = _aligned(end + 1)
        elif token == END_NODE:
            path.pop()
        elif token == PROPERTY:
            size, name_offset = struct.unpack_from(">II", data, position)
            position += 8
            start = names + name_offset
            name = data[start : data.index(b"\0", start)].decode()
            path[-1].properties[name] = data[position : position + size]
            position = _aligned(position + size)
        elif token == END:
            break
        elif token != NOP:
            raise FdtError(f"unknown token {token} in a device tree")
    if len(path) != 1 or len(above.children) != 1:
        raise FdtError("a device tree whose nodes do not close")
    return above.children[0]


def _aligned(position: int) -> int:
    return position + -position % 4


def serialise(tree: Tree) -> bytes:
    """The blob of a tree, no byte longer than it has to be."""
    names = bytearray()
    offsets: dict[str, int] = {}
    structure = bytearray()
    _append_node(tree.root, structure, names, offsets)
    structure += struct.pack(">I", END)
    reservations = b"".join(RESERVATION.pack(*r) for r in [*tree.reservations, (0, 0)])
    reservation_offset = HEADER.size
    structure_offset = reservation_offset + len(reservations)
    names_offset = structure_offset + len(structure)
    header = HEADER.pack(
        MAGIC,
        names_offset + len(names),
        structure_offset,
        names_offset,
        reservation_offset,
        VERSION,
        LAST_COMPATIBLE_VERSION,
        tree.boot_cpu,
        len(names),
        len(structure),
    )
    return header + reservations + bytes(structure) + bytes(names)


def _append_node(
    node: Node, structure: bytearray, names: bytearray, offsets: dict[str, int]
) -> None:
    structure += struct.pack(">I", BEGIN_NODE) + node.name.encode() + b"\0"
    structure += bytes(-len(structure) % 4)
    for name, value in node.properties.items():
        if name not in offsets:
            offsets[name] = len(names)
            names += name.encode() + b"\0"
        structure += struct.pack(">III", PROPERTY, len(value), offsets[name]) + value
        structure += bytes(-len(structure) % 4)
    for child in node.children:
        _append_node(child, structure, names, offsets)
    structure += struct.pack(">I", END_NODE)
