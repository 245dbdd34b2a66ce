"""Played cryptography: keys are names, and a signature is a hash. Under test is the protocol and not the cipher.

What travels is a run as it is, with a word that nobody need sign: nobody lies here. Pure.
"""

from __future__ import annotations

import hashlib

import msgspec

from ledger.entry import Entry, Observed
from ledger.identity import Feed
from ledger.node.virtual_disk import VirtualDisk
from ledger.node.words import Named, Word


class VirtualRun(msgspec.Struct, frozen=True):
    """A run of a feed: its entries as they are. `entries`: what was observed, in its place, made once for all who take it."""

    feed: Named
    after: int
    observed: tuple[Observed, ...]
    entries: tuple[Entry, ...]
    word: Word


class VirtualCraft:
    """Played craft: a signature is a hash over the key's name."""

    def __init__(self, held: VirtualDisk) -> None:
        self._held = held

    def sign(self, message: bytes) -> bytes:
        """A signature of this machine."""
        return hashlib.sha256(self._held.key.encode() + message).digest()

    def signed(self, key: str, message: bytes, signature: bytes) -> bool:
        """Whether this key signed that."""
        return hashlib.sha256(key.encode() + message).digest() == signature

    def proves(self, feed: Feed, word: Word) -> bool:
        """Nobody lies here."""
        return word.id == feed.id

    def word(self, feed_id: str) -> Word | None:
        """What is held of a feed."""
        feed = self._held.by_id.get(feed_id)
        return word_of(feed, len(self._held.disk[feed])) if feed is not None and self._held.disk.get(feed) else None

    def head(self) -> str | None:
        """Records are not sealed here."""
        return None

    def opens(self, feed: Feed, text: str) -> tuple[int, str, str] | None:  # noqa: ARG002 - no heads, no readers of them
        """There are no heads."""
        return None


def word_of(feed: Feed, last: int) -> Word:
    """The word of a feed with so many entries."""
    return Word(feed.id, last, 0, bytes(32), bytes(32), bytes(64))
