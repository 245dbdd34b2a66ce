"""What the core needs of the ledger key and of the ledger: words spoken and judged, heads signed and opened.

The newest word of every other feed is kept, for under it its entries can be given on; a word counts only once all that it states
is held. Words outlive the process in the file `words` of the node's directory: without them a feed whose machine died could not
be given on after a restart. A word that is lost or does not read costs nothing else. The ledger is handed in.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger import keys
from ledger.errors import LedgerError
from ledger.identity import Feed
from ledger.merkle import Frontier
from ledger.node.replicas import Held, Run, held, run_after, speak
from ledger.node.running import Running
from ledger.node.taking import Taken
from ledger.node.words import Word
from ledger.notes import Checkpoint, VerifierKey, key_bytes, open_checkpoint, parse_note, sign_checkpoint
from ledger.origins import origin_of
from ledger.store import Ledger

_words: Final = msgspec.msgpack.Decoder(dict[str, Word])


class OwnCraft:
    """The craft of the machine that writes `feed` with `key`. `kept`: the bytes of the file `words`."""

    def __init__(self, ledger: Ledger, feed: Feed, key: keys.LedgerKey, kept: bytes = b"") -> None:
        self._ledger = ledger
        self._key = key
        self.feed = feed
        self.words: dict[str, Word] = {}
        self.changed = False
        self.running = Running()
        self._spoken: Word | None = None
        try:
            found = _words.decode(kept) if kept else {}
        except (ValueError, RecursionError):
            found = {}
        there = {each.id: each for each in ledger.feeds()}
        for feed_id, word in found.items():
            if feed_id in there and self._complete(word, held(ledger, there[feed_id])) and self.proves(there[feed_id], word):
                self.words[feed_id] = word

    @staticmethod
    def _complete(word: Word, now: Held) -> bool:
        return word.last <= now.last and word.records <= now.records

    def encoded(self) -> bytes:
        """The words as they are kept."""
        self.changed = False
        return msgspec.msgpack.encode(self.words)

    def leave(self) -> None:
        """The own feed ends here: its last word is kept as any other feed's is."""
        self.words[self.feed.id] = self.spoken()
        self.changed = True

    def rekey(self, key: keys.LedgerKey) -> None:
        """Sign with this key from now on."""
        self._key = key

    # For the core.

    def sign(self, message: bytes) -> bytes:
        """The signature of this machine, by its ledger key."""
        return self._key.sign(message)

    def signed(self, key: str, message: bytes, signature: bytes) -> bool:
        """Whether the owner of this ledger key signed that."""
        try:
            keys.verify(key, message, signature)
        except (LedgerError, ValueError):
            return False
        return True

    def proves(self, feed: Feed, word: Word) -> bool:
        """Whether a word was spoken by the feed's own key."""
        try:
            word.check(feed)
        except LedgerError:
            return False
        return True

    def word(self, feed_id: str) -> Word | None:
        """The newest word held of a feed."""
        return self.words.get(feed_id)

    def head(self) -> str | None:
        """The newest head of the own feed, signed; None if nothing is sealed yet."""
        head = self._ledger.head(self.feed)
        if not head.records:
            return None
        peaks = [head.frontier[at : at + 32] for at in range(0, len(head.frontier), 32)]
        return sign_checkpoint(Checkpoint(origin_of(self.feed), head.records, Frontier(head.records, peaks).root()), self._key)

    def opens(self, feed: Feed, text: str) -> tuple[int, str, str] | None:
        """The records, the root and the signature lines of a feed's signed head, None if it is none."""
        if feed.ledger_key is None:
            return None
        origin = origin_of(feed)
        try:
            known = VerifierKey(origin, key_bytes(feed.ledger_key))
            stated = open_checkpoint(text, [known], origin=origin)
            lines = [str(each) for each in parse_note(text).signatures if (each.name, each.id) == (known.name, known.id)]
        except (LedgerError, ValueError):
            return None
        return stated.size, stated.root.hex(), "\n".join([*lines, ""])

    # For the daemon.

    def spoken(self) -> Word:
        """The own word, as the feed is now."""
        head = self._ledger.head(self.feed)
        said = self._spoken
        if said is None or (said.id, said.last, said.records) != (self.feed.id, head.last, head.records):
            said = self._spoken = speak(self._ledger, self.feed, self._key, self.running)
        return said

    def stated(self, feed: Feed) -> Word | None:
        """The word under which a feed can be given now: the own one as the feed is, of another the newest that is complete."""
        return self.spoken() if feed == self.feed else self.words.get(feed.id)

    def run(self, feed: Feed, after: Held) -> Run | None:
        """The next run of a feed for one who holds `after`, None if there is nothing to give."""
        word = self.stated(feed)
        return run_after(self._ledger, feed, after, word) if word is not None else None

    def learn(self, run: Run, taken: Taken) -> int:
        """Keep the word of a run that was taken, once it is complete; how far the feed can be given on."""
        word, kept = run.word, self.words.get(taken.feed.id)
        if (
            taken.refused is None
            and taken.forked is None
            and self._complete(word, taken.held)
            and (kept is None or (word.last, word.records) > (kept.last, kept.records))
        ):
            kept = self.words[taken.feed.id] = word
            self.changed = True
        return kept.last if kept is not None else 0

    def gives(self, feed: Feed) -> int:
        """How far a feed can be given on."""
        kept = self.words.get(feed.id)
        return kept.last if kept is not None else 0
