"""Proofs for outsiders: signed heads, a record that stands in one, a head that continues an older one.

A *checkpoint* is a feed's head as a C2SP tlog-checkpoint, signed by the feed's own ledger key or by an auditor's; a file of
them, a blank line between two, is a *bundle*. `prove` gives a C2SP tlog-proof that bears the record's canonical bytes in its
extra line: with the signer's key and nothing else, `check_proof` shows which entries were in the feed. `prove_growth`
gives the body of C2SP tlog-witness's add-checkpoint: that a head only grew from an older one.

The keys are handed in. Reads, never writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ledger import codec
from ledger.entry import Observed
from ledger.errors import NotCovered, Refused
from ledger.feeds import FeedReader
from ledger.identity import Feed
from ledger.merkle import Frontier, consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion
from ledger.notes import Checkpoint, Note, Signer, VerifierKey, key_bytes, open_checkpoint, open_note, parse_note, sign_checkpoint
from ledger.origins import origin_of
from ledger.proofs import Proof, parse_proof
from ledger.texts import hash_from_base64, is_number, plain, to_base64
from replay import receipts
from replay.soundness import verify_bytes
from replay.union import Union, spelled


class Proven(msgspec.Struct, frozen=True):
    """What a proof shows: in the log `origin`, whose head of `size` records is signed by `by`, stands record number `record`
    with these entries, the first of which has index `first`.
    """

    origin: str
    size: int
    root: bytes
    by: tuple[VerifierKey, ...]
    record: int
    first: int
    entries: tuple[Observed, ...]


class Grown(msgspec.Struct, frozen=True):
    """What a consistency proof shows: the log's head of `size` records, signed by `by`, begins with the `old_size` that
    have the root `old_root`.
    """

    origin: str
    old_size: int
    old_root: bytes
    size: int
    root: bytes
    by: tuple[VerifierKey, ...]


# Heads.


def checkpoint(union: Union, signer: Signer | None = None) -> receipts.Checkpoint:
    """The head of every feed, signed if there is a `signer`, once every byte under it was read and hashed. `bundle` makes
    one text of them. Raises Damaged.
    """
    names = spelled(union.feeds())
    heads = []
    for feed in union.feeds():
        reader = union.reader(feed)
        verify_bytes(reader)
        head = reader.head()
        peaks = [head.frontier[at : at + 32] for at in range(0, len(head.frontier), 32)]
        root = Frontier(head.records, peaks).root()
        stated = Checkpoint(origin_of(feed), head.records, root)
        text = stated.text if signer is None else sign_checkpoint(stated, signer)
        heads.append(receipts.Head(names[feed], head.records, root.hex(), head.sealed, signer is not None, text))
    return receipts.Checkpoint(heads=heads)


def bundle(answer: receipts.Checkpoint) -> str:
    """The heads as one text, to be kept elsewhere: a blank line between two."""
    return "\n".join(head.text for head in answer.heads)


def read_bundle(text: str) -> list[tuple[Checkpoint, Note | None]]:
    """The heads in a text, signed (with their note, unchecked) or not. Raises Refused for anything else."""
    found: list[tuple[Checkpoint, Note | None]] = []
    body: str | None = None
    for block in plain(text, "file of checkpoints").removesuffix("\n").split("\n\n") if text else []:
        if body is not None and all(line.startswith("— ") for line in block.split("\n")):
            found.append((Checkpoint.parse(body), parse_note(f"{body}\n{block}\n")))
            body = None
            continue
        if body is not None:
            found.append((Checkpoint.parse(body), None))
        body = f"{block}\n"
    if body is not None:
        found.append((Checkpoint.parse(body), None))
    if not found:
        raise Refused("no checkpoint in this file", hint="`checkpoint` writes such a file")
    return found


# Proofs.


def prove(union: Union, feed: Feed, index: int, signer: Signer | None = None) -> receipts.Prove:
    """That the record which holds entry `index` stands in the feed's head; `text` is a `.tlog-proof` that says it alone.

    Without a `signer` a signed head that the ledger holds must cover it. Raises NotCovered for an entry that no record
    covers yet, Refused if there is no such entry, or nobody to sign.
    """
    reader = union.reader(feed)
    if not 1 <= index <= reader.head().last:
        raise Refused(f"there is no {feed.at(index)}", hint=f"the feed ends at {feed.at(reader.head().last)}")
    row = reader.holding(index)
    if row is None:
        raise NotCovered(f"{feed.at(index)} is in no sealed record yet", hint="prove it once its machine has sealed it")
    leaves = _leaves(reader)
    note = _signed_head(union, feed, leaves, row.n, signer)
    size = Checkpoint.parse(note.text).size
    hashes = inclusion_proof(leaves[:size], row.n - 1)
    proof = Proof(row.n - 1, tuple(hashes), note, codec.encode_record(reader.canonical(row)))
    return receipts.Prove(
        proof="inclusion",
        feed=spelled(union.feeds())[feed],
        records=size,
        root=Checkpoint.parse(note.text).root.hex(),
        hashes=[one.hex() for one in hashes],
        pos=feed.at(index),
        rec=row.n,
        leaf=row.leaf.hex(),
        text=str(proof),
    )


def prove_growth(union: Union, feed: Feed, old: int, new: int | None = None, signer: Signer | None = None) -> receipts.Prove:
    """That the head of `new` records (default: all) only grew from that of `old`. `text` is C2SP tlog-witness's
    add-checkpoint body: the old size, the hashes, the new head as a note. Raises Refused for sizes that never were.
    """
    reader = union.reader(feed)
    leaves = _leaves(reader)
    new = len(leaves) if new is None else new
    if not 0 <= old <= new <= len(leaves):
        raise Refused(f"{feed.name} has {len(leaves)} records; from {old} to {new} it never grew")
    hashes = consistency_proof(leaves[:new], old)
    roots = [_root(leaves[:size]) for size in (old, new)]
    text = None
    if signer is not None:
        note = sign_checkpoint(Checkpoint(origin_of(feed), new, roots[1]), signer)
        text = "\n".join([f"old {old}", *map(to_base64, hashes), "", note])
    return receipts.Prove(
        proof="consistency",
        feed=spelled(union.feeds())[feed],
        records=new,
        root=roots[1].hex(),
        hashes=[one.hex() for one in hashes],
        old_records=old,
        old_root=roots[0].hex(),
        text=text,
    )


def _leaves(reader: FeedReader) -> list[bytes]:
    """The leaf hashes, of which the head's tree is made. Raises Damaged."""
    head = reader.head()
    leaves = reader.leaves()[: head.records]
    if b"".join(_tree(leaves).hashes) != head.frontier:
        raise reader.damaged("the head does not follow from the records", head.sealed)
    return leaves


def _tree(leaves: Sequence[bytes]) -> Frontier:
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree


def _root(leaves: Sequence[bytes]) -> bytes:
    return _tree(leaves).root()


def _signed_head(union: Union, feed: Feed, leaves: Sequence[bytes], record: int, signer: Signer | None) -> Note:
    """A signed head that covers a record: of all there is, by `signer`; else the newest that the ledger holds."""
    if signer is not None:
        return parse_note(sign_checkpoint(Checkpoint(origin_of(feed), len(leaves), _root(leaves)), signer))
    for _size, text in sorted(union.ledger(feed).signatures(feed), reverse=True):
        note = parse_note(text)
        stated = Checkpoint.parse(note.text)
        if record <= stated.size <= len(leaves) and stated.root == _root(leaves[: stated.size]):
            return note
    raise Refused(f"no signed head of {feed.name} covers record {record}", hint="sign one: --key FILE")


# Checking, offline: nothing but the text and the keys.


def check_proof(text: str, keys: Iterable[str | VerifierKey]) -> Proven:
    """What a proof file shows, given the keys that its reader trusts (`ed25519:…`, or `name+hash+base64`).

    Raises Refused if it is no proof or bears no record, BadSignature or BadProof if it does not hold.
    """
    proof = parse_proof(text)
    if not proof.extra:
        raise Refused("this proof bears no record", hint="`prove` puts the record's bytes into its extra line")
    origin = Checkpoint.parse(proof.checkpoint.text).origin
    known = trusted(keys, origin)
    head = open_checkpoint(proof.checkpoint, known, origin=origin)
    verify_inclusion(leaf_hash(proof.extra), proof.index, head.size, proof.hashes, head.root)
    record = codec.decode_record(proof.extra)
    by = open_note(proof.checkpoint, known).by
    entries = tuple(codec.open_record(record))
    return Proven(origin, head.size, head.root, by, proof.index + 1, record.first, entries)


def check_growth(text: str, old_root: bytes, keys: Iterable[str | VerifierKey]) -> Grown:
    """What a consistency proof shows to whoever kept `old_root`, the root of the older head.

    Raises Refused if it is no such proof, BadSignature or BadProof if it does not hold.
    """
    first, _, rest = text.partition("\n\n")
    line, *hashes = first.split("\n")
    size = line.removeprefix("old ")
    if not line.startswith("old ") or not is_number(size):
        raise Refused("this is no consistency proof", hint="it begins with a line such as: old 7")
    note = parse_note(rest)
    origin = Checkpoint.parse(note.text).origin
    known = trusted(keys, origin)
    head = open_checkpoint(note, known, origin=origin)
    verify_consistency(int(size), head.size, old_root, head.root, [hash_from_base64(one) for one in hashes])
    return Grown(origin, int(size), old_root, head.size, head.root, open_note(note, known).by)


def trusted(keys: Iterable[str | VerifierKey], origin: str) -> list[VerifierKey]:
    """The keys as verifiers know them: a bare ledger key signs under the name of whatever log it heads."""
    result = []
    for key in keys:
        if isinstance(key, VerifierKey):
            result.append(key)
        else:
            result.append(VerifierKey(origin, key_bytes(key)) if key.startswith("ed25519:") else VerifierKey.parse(key))
    return result
