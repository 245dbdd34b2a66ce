"""The Merkle tree, against the reference vectors of Certificate Transparency and the RFC's own recursive definition."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rfc6962 import mth, path, proof

from ledger.errors import BadProof, Damaged, Refused
from ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

# The reference vectors of Certificate Transparency: eight leaves, and the root after each of them.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
INCLUSION = {  # (index, size): proof
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}
CONSISTENCY = {  # (old size, new size): proof
    (1, 1): (),
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}


@cache
def data(size):
    """Leaves that are told apart by their bytes; the first are those of any smaller tree."""
    return [b"record %d" % index for index in range(size)]


@cache
def hashes(size):
    return [leaf_hash(one) for one in data(size)]


def flipped(one, bit):
    """`one` with a single bit changed."""
    return bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(one))


def test_the_published_roots():
    """The eight leaves of Certificate Transparency give its nine published roots, whole and one leaf at a time."""
    frontier = Frontier()
    assert root([]) == EMPTY_ROOT == ROOTS[0] == sha256(b"").digest() == frontier.root()
    for size in range(1, 9):
        frontier.append(leaf_hash(LEAVES[size - 1]))
        assert root([leaf_hash(one) for one in LEAVES[:size]]) == ROOTS[size] == frontier.root()
        assert mth(LEAVES[:size]) == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_published_inclusion_proofs(index, size):
    """Inclusion proofs come out as Certificate Transparency published them, and hold."""
    expected = [bytes.fromhex(text) for text in INCLUSION[index, size]]
    assert inclusion_proof([leaf_hash(one) for one in LEAVES[:size]], index) == expected
    verify_inclusion(leaf_hash(LEAVES[index]), index, size, expected, ROOTS[size])


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_the_published_consistency_proofs(old, new):
    """Consistency proofs come out as Certificate Transparency published them, and hold."""
    expected = [bytes.fromhex(text) for text in CONSISTENCY[old, new]]
    assert consistency_proof([leaf_hash(one) for one in LEAVES[:new]], old) == expected
    verify_consistency(old, new, ROOTS[old], ROOTS[new], expected)


def test_leaves_and_nodes_cannot_pass_for_each_other():
    """A leaf that holds two hashes hashes otherwise than the node over them."""
    left, right = hashes(2)
    assert leaf_hash(left + right) != node_hash(left, right) == root([left, right])


def test_all_sizes_to_64_agree_with_the_recursive_definition():
    """For every size to 64, every index and every older size: root and proofs are the RFC's, and all of them hold."""
    for size in range(65):
        top = root(hashes(size))
        assert top == mth(data(size))
        for index in range(size):
            way = inclusion_proof(hashes(size), index)
            assert way == path(index, data(size))
            verify_inclusion(hashes(size)[index], index, size, way, top)
        for old in range(1, size):
            way = consistency_proof(hashes(size), old)
            assert way == proof(old, data(size))
            verify_consistency(old, size, mth(data(old)), top, way)


@given(st.integers(1, 300), st.data())
def test_any_size_agrees_with_the_recursive_definition(size, draw):
    """Roots and proofs of trees up to 300 leaves are those of the RFC's recursive definition, and hold."""
    index, old = draw.draw(st.integers(0, size - 1)), draw.draw(st.integers(1, size))
    top = root(hashes(size))
    assert top == mth(data(size))
    way = inclusion_proof(hashes(size), index)
    assert way == path(index, data(size))
    verify_inclusion(hashes(size)[index], index, size, way, top)
    way = consistency_proof(hashes(size), old)
    assert way == proof(old, data(size))
    verify_consistency(old, size, root(hashes(old)), top, way)


@given(st.integers(1, 300), st.data())
def test_no_changed_bit_is_included(size, draw):
    """One bit changed in the leaf, the root or any hash of the proof, and the inclusion proof does not hold."""
    index = draw.draw(st.integers(0, size - 1))
    parts = [hashes(size)[index], root(hashes(size)), *inclusion_proof(hashes(size), index)]
    which, bit = draw.draw(st.integers(0, len(parts) - 1)), draw.draw(st.integers(0, 255))
    parts[which] = flipped(parts[which], bit)
    with pytest.raises(BadProof):
        verify_inclusion(parts[0], index, size, parts[2:], parts[1])


@given(st.integers(1, 300), st.data())
def test_no_changed_bit_is_consistent(size, draw):
    """One bit changed in either root or any hash of the proof, and the consistency proof does not hold."""
    old = draw.draw(st.integers(0, size))
    parts = [root(hashes(old)), root(hashes(size)), *consistency_proof(hashes(size), old)]
    # From the empty tree every tree grows: there the new root is not bound, so only the old one is changed.
    which, bit = draw.draw(st.integers(0, len(parts) - 1 if old else 0)), draw.draw(st.integers(0, 255))
    parts[which] = flipped(parts[which], bit)
    with pytest.raises(BadProof):
        verify_consistency(old, size, parts[0], parts[1], parts[2:])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 11])
def test_a_proof_fits_one_leaf_only(size):
    """A proof holds at its own index and at no other, with nothing missing, nothing added and nothing out of order."""
    top = root(hashes(size))
    for index in range(size):
        leaf, way = hashes(size)[index], inclusion_proof(hashes(size), index)
        wrong = [(other, way) for other in range(-1, size + 1) if other != index]
        wrong += [(index, [*way, top]), (index, [EMPTY_ROOT, *way])]
        wrong += [(index, way[:-1]), (index, way[1:]), (index, way[::-1])] if len(way) > 1 else []
        for at, other_way in wrong:
            with pytest.raises(BadProof):
                verify_inclusion(leaf, at, size, other_way, top)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 11])
def test_a_consistency_proof_fits_its_sizes_only(size):
    """A tree is consistent with its own older sizes, by a whole proof; not with a longer tree or another root."""
    top = root(hashes(size))
    for old in range(size + 1):
        way, before = consistency_proof(hashes(size), old), root(hashes(old))
        verify_consistency(old, size, before, top, way)
        wrong = [(old, before, [*way, top]), (old, before, [EMPTY_ROOT, *way]), (old, leaf_hash(b"else"), way)]
        wrong += [(old, before, way[:-1]), (old, before, [])] if way else []
        wrong += [(size + 1, before, way), (-1, before, way)]
        for at, claimed, other_way in wrong:
            with pytest.raises(BadProof):
                verify_consistency(at, size, claimed, top, other_way)


@pytest.mark.parametrize(
    ("index", "size", "claimed_index", "claimed_size"), [(1, 2, 0, 1), (2, 4, 0, 2), (3, 4, 8, 9), (0, 2, 0, 3)]
)
def test_a_proof_does_not_move_to_another_tree(index, size, claimed_index, claimed_size):
    """A proof that is too long or too short for the claimed size does not hold, although its hashes meet the root."""
    with pytest.raises(BadProof):
        verify_inclusion(
            hashes(size)[index], claimed_index, claimed_size, inclusion_proof(hashes(size), index), root(hashes(size))
        )


@pytest.mark.parametrize(("old", "new", "claimed_old", "claimed_new"), [(7, 8, 3, 4), (7, 8, 6, 8), (1, 2, 1, 3), (2, 3, 4, 9)])
def test_a_consistency_proof_does_not_move_to_other_trees(old, new, claimed_old, claimed_new):
    """A consistency proof too long or too short for the claimed sizes does not hold, although it meets both roots."""
    way, before, after = consistency_proof(hashes(new), old), root(hashes(old)), root(hashes(new))
    with pytest.raises(BadProof):
        verify_consistency(claimed_old, claimed_new, before, after, way)


@given(st.integers(2, 300), st.data())
def test_a_rewritten_record_breaks_consistency(size, draw):
    """If a record below the old size was rewritten, no proof made from the new tree shows that it only grew."""
    old = draw.draw(st.integers(1, size))
    rewritten = list(hashes(size))
    rewritten[draw.draw(st.integers(0, old - 1))] = leaf_hash(b"rewritten")
    with pytest.raises(BadProof):
        verify_consistency(old, size, root(hashes(old)), root(rewritten), consistency_proof(rewritten, old))


def test_the_empty_tree_grows_into_any():
    """The empty tree is consistent with every tree, but only under its one root; two empty trees are the same."""
    verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    verify_consistency(0, 5, EMPTY_ROOT, root(hashes(5)), [])
    for old_root, new_size, new_root in [(hashes(1)[0], 5, hashes(5)[0]), (EMPTY_ROOT, 0, hashes(1)[0])]:
        with pytest.raises(BadProof):
            verify_consistency(0, new_size, old_root, new_root, [])


def test_hashes_of_another_length_prove_nothing():
    """A proof whose pieces are not 32 bytes long is refused, even where their concatenation would hash to the root."""
    first, second = hashes(2)
    with pytest.raises(BadProof):
        verify_inclusion(first + second[:8], 0, 2, [second[8:]], root([first, second]))
    with pytest.raises(BadProof):
        verify_consistency(1, 2, first + second[:8], root([first, second]), [second[8:]])


def test_what_is_not_in_the_tree_has_no_proof():
    """Asking for a proof of a leaf or an older size that the tree does not have is a caller's mistake."""
    for wrong in (-1, 3):
        with pytest.raises(Refused):
            inclusion_proof(hashes(3), wrong)
    for wrong in (-1, 4):
        with pytest.raises(Refused):
            consistency_proof(hashes(3), wrong)
    assert issubclass(BadProof, Damaged)


def test_a_frontier_knows_the_root_of_every_size():
    """A frontier that grows leaf by leaf has at each size the tree's root, and as many hashes as the size has bits."""
    frontier = Frontier()
    for size, leaf in enumerate(hashes(300)):
        assert (frontier.size, frontier.root()) == (size, root(hashes(300)[:size]))
        assert len(frontier.hashes) == size.bit_count()
        frontier.append(leaf)


@given(st.integers(0, 200), st.integers(0, 100))
def test_a_frontier_is_resumed_from_its_hashes(size, more):
    """A frontier made from another's size and hashes is equal to it and grows alike; a copy grows on its own."""
    frontier = Frontier()
    for leaf in hashes(300)[:size]:
        frontier.append(leaf)
    resumed, copy = Frontier(frontier.size, frontier.hashes), frontier.copy()
    assert resumed == copy == frontier
    for leaf in hashes(300)[size : size + more]:
        resumed.append(leaf)
    assert resumed.root() == root(hashes(300)[: size + more])
    assert (frontier.size, frontier.root()) == (copy.size, copy.root()) == (size, root(hashes(300)[:size]))


def test_no_frontier_from_hashes_that_do_not_fit():
    """A frontier takes just one hash of 32 bytes for each bit set in its size, and leaves of 32 bytes."""
    for size, given_hashes in [(3, hashes(1)), (0, hashes(1)), (1, []), (-1, hashes(1)), (1, [b"short"])]:
        with pytest.raises(Refused):
            Frontier(size, given_hashes)
    with pytest.raises(Refused):
        Frontier().append(b"short")


def test_a_frontiers_hashes_are_a_copy():
    """Whoever changes the list of hashes that a frontier gave out does not change the frontier."""
    frontier = Frontier(1, hashes(1))
    frontier.hashes.clear()
    assert frontier.root() == hashes(1)[0]
