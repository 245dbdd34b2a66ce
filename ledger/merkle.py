"""Sealed: the Merkle tree over a feed's records (RFC 6962 section 2.1, RFC 9162 section 2.1).

Each sealed record is a leaf; record r of a feed is leaf r - 1. A leaf hashes as SHA-256(0x00 || data), a node as
SHA-256(0x01 || left || right), so that neither can pass for the other. A tree is built level by level: nodes pair up,
and an odd last one moves up unchanged. That is the RFC's recursive tree, split at the largest power of two.

*Inclusion* shows that a leaf stands in a tree, *consistency* that a tree only grew. A proof is a list of 32-byte
hashes, from the leaf's side to the root's. Bytes in, bytes out: what a record is, who signs a root and where proofs
are kept is decided elsewhere. Standard library only; no I/O, no recursion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from ledger.errors import BadProof, Refused

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of the tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf that holds `data`: 32 bytes (RFC 6962 section 2.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over its two children: 32 bytes (RFC 6962 section 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaf hashes: MTH of RFC 6962 section 2.1; EMPTY_ROOT if there are none."""
    nodes = leaf_hashes
    while len(nodes) > 1:
        nodes = _parents(nodes)
    return nodes[0] if nodes else EMPTY_ROOT


class Frontier:
    """A tree that grows by appending and knows its root, but has forgotten its leaves.

    It keeps the roots of the full subtrees that make up the tree, the largest first: one for each bit set in `size`.
    `Frontier(size, hashes)` takes up again where `size` and `hashes` of another left off.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        peaks = list(hashes)
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in peaks):
            raise Refused(f"{len(peaks)} hashes are no frontier of a tree of {size} leaves")
        self.size = size
        self._peaks = peaks

    @property
    def hashes(self) -> list[bytes]:
        """The 32-byte hashes from which, with `size`, the frontier can be made again."""
        return list(self._peaks)

    def append(self, leaf: bytes) -> None:
        """One leaf more, given as its hash. O(log size), and O(1) on average. Raises Refused unless it is 32 bytes."""
        if len(leaf) != HASH_BYTES:
            raise Refused(f"a leaf hash has {HASH_BYTES} bytes, this one {len(leaf)}")
        node, full = leaf, self.size
        while full & 1:
            node = node_hash(self._peaks.pop(), node)
            full >>= 1
        self._peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree as it stands. O(log size)."""
        if not self._peaks:
            return EMPTY_ROOT
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = node_hash(peak, node)
        return node

    def copy(self) -> Frontier:
        """Another that grows on its own."""
        return Frontier(self.size, self._peaks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frontier):
            return NotImplemented
        return self.size == other.size and self._peaks == other._peaks

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Frontier(size={self.size}, root={self.root().hex()})"


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The proof that leaf `index` (from 0) is in this tree: PATH of RFC 6962 section 2.1.1. O(n) hashes.

    Raises Refused if there is no such leaf.
    """
    if not 0 <= index < len(leaf_hashes):
        raise Refused(f"a tree of {len(leaf_hashes)} leaves has no leaf {index}")
    proof = []
    for nodes in _levels(leaf_hashes):
        sibling = index ^ 1
        if sibling < len(nodes):
            proof.append(nodes[sibling])
        index >>= 1
    return proof


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """That the leaf with hash `leaf` is leaf `index` (from 0) of the tree of `size` leaves with this root.

    RFC 9162 section 2.1.3.2. Returns nothing if the proof holds; raises BadProof if it does not. `size` and `root` must
    come from one signed head: a proof alone does not pin the size.
    """
    failure = BadProof(f"the proof does not show leaf {index} in the tree of {size} records with root {root.hex()}")
    if not 0 <= index < size or not _hashes((leaf, root, *proof)):
        raise failure
    at, last, node = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise failure
        if at & 1 or at == last:
            node = node_hash(step, node)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, step)
        at, last = at >> 1, last >> 1
    if last != 0 or node != root:
        raise failure


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the tree of the first `old_size` leaves only grew into this one: PROOF of RFC 6962 section 2.1.2.

    O(n) hashes. Empty for the same size, and for an old size of 0, from which every tree grows. Raises Refused if
    `old_size` is larger than the tree.
    """
    if not 0 <= old_size <= len(leaf_hashes):
        raise Refused(f"a tree of {len(leaf_hashes)} leaves never had {old_size}")
    if old_size in {0, len(leaf_hashes)}:
        return []
    proof: list[bytes] = []
    last, joined = old_size - 1, False
    for nodes in _levels(leaf_hashes):
        if not joined:
            if last & 1:  # Still inside the last full subtree of the old tree: both trees have it.
                last >>= 1
                continue
            joined = True
            if last:  # If it were the whole old tree, the verifier would hold it already, as the old root.
                proof.append(nodes[last])
        if last & 1:
            proof.append(nodes[last - 1])
        elif last + 1 < len(nodes):
            proof.append(nodes[last + 1])
        last >>= 1
    return proof


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """That the tree of `old_size` leaves with `old_root` is the beginning of that of `new_size` leaves with `new_root`.

    RFC 9162 section 2.1.4.2; beyond it, the empty tree (with its one root) grows into any other by the empty proof.
    Returns nothing if the proof holds; raises BadProof if it does not.
    """
    failure = BadProof(
        f"the proof does not show that {new_size} records with root {new_root.hex()} "
        f"begin with {old_size} with root {old_root.hex()}"
    )
    if not 0 <= old_size <= new_size or not _hashes((old_root, new_root, *proof)):
        raise failure
    if old_size in {0, new_size}:
        known = EMPTY_ROOT if old_size == 0 else new_root
        if proof or old_root != known or (new_size == 0 and new_root != EMPTY_ROOT):
            raise failure
        return
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise failure
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            raise failure
        if at & 1 or at == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, step)
        at, last = at >> 1, last >> 1
    if last != 0 or old != old_root or new != new_root:
        raise failure


def _hashes(given: Iterable[bytes]) -> bool:
    """Whether all have the length of a hash: another length would let one input be read in two ways."""
    return all(len(one) == HASH_BYTES for one in given)


def _parents(nodes: Sequence[bytes]) -> list[bytes]:
    """The next level up; an odd last node moves up as it is. `node_hash` stands inline: this is the hot loop."""
    parents = [sha256(b"\x01" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
    if len(nodes) & 1:
        parents.append(nodes[-1])
    return parents


def _levels(leaf_hashes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The levels of the tree, from the leaves to the root, one at a time."""
    nodes = leaf_hashes
    yield nodes
    while len(nodes) > 1:
        nodes = _parents(nodes)
        yield nodes
