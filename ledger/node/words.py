"""The origin's word: how far its feed goes, signed, so that whoever relays its entries need not be believed.

A word states of one feed the last entry, how many records are sealed and the root of their Merkle tree (RFC 6962), and a
digest of the entries that no record covers yet. It is signed with the feed's own ledger key (Ed25519, RFC 8032) over a
text that begins with a line no other signature of that key begins with. What is held of a feed can be shown to
be a beginning of what a word states: its records by a consistency proof, its open entries by the digest.

Entries are digested one by one, in their stored form: so a digest can be taken further without the bytes before it. Pure,
but for the private key that is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from ledger import codec
from ledger.entry import Observed
from ledger.errors import BadSignature, LedgerError
from ledger.events import Count, Epoch, FeedId, Key, Machine
from ledger.identity import Feed
from ledger.notes import Signer, key_bytes, signed_by

_HEADER: Final = "meshledger word/1"
_pack: Final = msgspec.msgpack.Encoder().encode
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Named(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """A keyed feed as it is named on the wire: what its id is made of, but for the incarnation, which a link has agreed on."""

    machine: Machine
    epoch: Epoch
    key: Key

    def feed(self, incarnation: str) -> Feed:
        """The feed that is meant."""
        return Feed.of(incarnation, self.machine, self.epoch, self.key)

    @classmethod
    def of(cls, feed: Feed) -> Named:
        """How a feed is named. Precondition: it has a key."""
        assert feed.ledger_key is not None, f"{feed.name} has no key"  # noqa: S101
        return cls(feed.machine, feed.epoch, feed.ledger_key)


class Word(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """What an origin said of its feed. `last`: index of its last entry; `records`, `root`: its tree; `open`: SHA-256 over the
    entries after the last record, as `digest` takes them; `signature`: 64 bytes over `text`.
    """

    id: FeedId
    last: Count
    records: Count
    root: Hash
    open: Hash
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]

    @property
    def text(self) -> bytes:
        """What is signed."""
        return text_of(self.id, self.last, self.records, self.root, self.open)

    def check(self, feed: Feed) -> None:
        """That the feed's own key signed this. Raises BadSignature."""
        try:
            held = (
                feed.id == self.id
                and feed.ledger_key is not None
                and signed_by(key_bytes(feed.ledger_key), self.text, self.signature)
            )
        except BadSignature:
            raise
        except LedgerError as error:
            raise BadSignature(f"{feed.name}: {error.message}") from None
        if not held:
            raise BadSignature(f"{feed.name}#{self.last}: the word is not signed by the feed's key")


def text_of(feed_id: str, last: int, records: int, root: bytes, opened: bytes) -> bytes:
    """The text of a word: six lines, the first one fixed."""
    return "\n".join([_HEADER, feed_id, str(last), str(records), root.hex(), opened.hex(), ""]).encode()


def spoken(feed: Feed, last: int, records: int, *, root: bytes, opened: bytes, signer: Signer) -> Word:
    """The word of `feed`, signed."""
    return Word(feed.id, last, records, root, opened, signer.sign(text_of(feed.id, last, records, root, opened)))


def digest(entries: Iterable[Observed], begun: Any = None) -> Any:
    """A running SHA-256 over entries, each as MessagePack of its clocks and stored form. `begun`: one that is taken further
    (it is copied, and stays as it is).
    """
    running = begun.copy() if begun is not None else hashlib.sha256()
    for each in entries:
        event = each.event
        form = (each.at_ns, each.boot, each.mono_ns, event.kind, codec.version_of(event), codec.encode_event(event))
        running.update(_pack(form))
    return running
