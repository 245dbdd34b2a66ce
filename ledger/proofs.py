"""One record, shown to an outsider: the way from a leaf to a signed root (C2SP tlog-proof@v1, `*.tlog-proof`).

A proof file needs nothing beside it but the leaf and the keys its reader trusts: it holds the leaf's index, the hashes
from its sibling up to the root, and the checkpoint that signs this root. `prove` writes it; whoever doubts checks it
offline, with our code or another's.

Text in, values out: no files, no keys, no tree of its own. What was read always formats back to the same text;
anything else is Refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from ledger.errors import Refused
from ledger.merkle import verify_inclusion
from ledger.notes import Checkpoint, Note, VerifierKey, open_checkpoint, parse_note
from ledger.texts import from_base64, hash_from_base64, is_number, plain, to_base64

HEADER: Final = "c2sp.org/tlog-proof@v1"


class Proof(msgspec.Struct, frozen=True, gc=False):
    """A leaf's index (from 0), the hashes from its sibling up to the root, and the signed checkpoint as it came.

    `extra` is opaque and unauthenticated; empty means that there is none. `str(proof)` is the file, `*.tlog-proof`.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes = b""

    def __str__(self) -> str:
        extra = [f"extra {to_base64(self.extra)}"] if self.extra else []
        hashes = [to_base64(one) for one in self.hashes]
        return "\n".join([HEADER, *extra, f"index {self.index}", *hashes, "", str(self.checkpoint)])


def parse_proof(text: str) -> Proof:
    """The proof that a `.tlog-proof` file holds; nothing in it is believed yet. Raises Refused."""
    head, _, note = plain(text, "proof").partition("\n\n")
    header, *lines = head.split("\n")
    extra = from_base64(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else b""
    word, _, index = lines.pop(0).partition(" ") if lines else ("", "", "")
    if header != HEADER or extra is None or word != "index" or not is_number(index):
        raise Refused("this is no proof", hint=f"a proof begins with {HEADER}, and a line such as: index 7")
    proof = Proof(int(index), tuple(hash_from_base64(line) for line in lines), parse_note(note), extra)
    if str(proof) != text:
        raise Refused("this is no proof: it does not read back as it was written")
    return proof


def verify_proof(proof: Proof, leaf: bytes, keys: Iterable[VerifierKey], *, origin: str) -> Checkpoint:
    """The signed head under which the leaf with hash `leaf` stands at the proof's index, in the log `origin`.

    Raises BadSignature or BadProof if anything does not hold, and Refused as `open_note` does.
    """
    checkpoint = open_checkpoint(proof.checkpoint, keys, origin=origin)
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint
