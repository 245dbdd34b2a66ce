"""Copies of feeds as plain values, and what they amount to, the slow way: the oracle of merging.

A copy is its entries, as numbers, and where its records end. `write` puts copies into a ledger file; `unite` joins all that
can be joined, over every part of every copy, until nothing new comes. It shares nothing with what it judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from ledger import codec
from ledger.entry import Observed, Opaque
from ledger.events import FeedOpened, LinkEstablished, LinkLost, NoteAdded, PingAnswered, PingFailed
from ledger.identity import IMPORTED, Feed
from ledger.store import Ledger

INCARNATION = f"{IMPORTED}words"
START_NS = 1_767_225_600_000_000_000
_EVENTS = (
    LinkEstablished("bravo", "1"),
    PingAnswered("bravo", 1, 900, "1"),
    PingAnswered("bravo", 1, 901, "1"),
    PingFailed("bravo", 1, "timeout", "1"),
    LinkLost("bravo", "timeout", "1"),
    NoteAdded("looked"),
    Opaque("link.dreamt", 1, b'{"peer":"bravo"}'),
)


class Word(NamedTuple):
    """A copy: entry i of the feed is number `entries[i - 1]`; `ends` are the indexes at which records end, ascending."""

    entries: tuple[int, ...]
    ends: tuple[int, ...] = ()


def feed_of(machine: str, epoch: int = 1) -> Feed:
    return Feed.of(INCARNATION, machine, epoch)


def entry(feed: Feed, index: int, number: int) -> Observed:
    """Entry `index` of a feed, as `number` has it: the same number, the same entry."""
    if index == 1:
        return Observed(START_NS + number, FeedOpened(feed.incarnation, feed.machine, feed.epoch))
    event = _EVENTS[(number + index) % len(_EVENTS)]
    return Observed(START_NS + index * 1_000_000_000 + number, event)


def write(path: Path, words: Mapping[Feed, Word]) -> Path:
    """A ledger file with these copies."""
    with Ledger.create(path, incarnation=INCARNATION) as ledger:
        for feed, word in words.items():
            entries = [entry(feed, index, number) for index, number in enumerate(word.entries, 1)]
            ledger.add_feed(feed)
            start = 0
            for end in word.ends:
                ledger.take(feed, codec.make_record(start + 1, entries[start:end]))
                start = end
            ledger.append(entries[start:], observer=feed, seal=False)
    return path


def compatible(one: Word, other: Word) -> bool:
    """Whether no claim of one copy is denied by the other."""
    common = min(len(one.entries), len(other.entries))
    records = min(len(one.ends), len(other.ends))
    return one.entries[:common] == other.entries[:common] and one.ends[:records] == other.ends[:records]


def parts(word: Word) -> set[Word]:
    """Every copy that says a part of what this one says."""
    return {
        Word(word.entries[:length], word.ends[:records])
        for records in range(len(word.ends) + 1)
        for length in range(([0, *word.ends])[records], len(word.entries) + 1)
    }


def unite(words: Iterable[Word]) -> set[Word]:
    """The copies that say most: one, or the branches of a fork."""
    known = set().union(*(parts(word) for word in words))
    new = set(known)
    while new:
        joined = {
            Word(max(a.entries, b.entries, key=len), max(a.ends, b.ends, key=len)) for a in new for b in known if compatible(a, b)
        }
        new = set().union(*map(parts, joined)) - known
        known |= new
    return {a for a in known if not any(a != b and a in parts(b) for b in known)}


def fork(words: Iterable[Word]) -> int | None:
    """The first index that two of these copies contradict, or None."""
    found = [
        index
        for one, other in combinations(words, 2)
        for index in range(1, min(len(one.entries), len(other.entries)) + 1)
        if one.entries[index - 1] != other.entries[index - 1] or _ends_differ(one, other, index)
    ]
    return min(found, default=None)


def _ends_differ(one: Word, other: Word, index: int) -> bool:
    known = index <= min(max(one.ends, default=0), max(other.ends, default=0))
    return known and (index in one.ends) != (index in other.ends)
