"""Following a record that grows: each step gives what came since, and a token from which the next one goes on.

A token says how far each feed was read: {feed id: index}. An index is never reused and entries of a feed come in its
order, so a step that begins after the token misses nothing and repeats nothing, whatever was appended in between, sealed,
or begun; also after a restart, with the token kept as text: `alpha#12,bravo#7`, `alpha~3f2a#12` where two feeds share a name.
A feed that the token does not name is new, and is read from its beginning.

Nothing waits here: who follows decides when to step again, and opens the files anew for it, so that new feeds are seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from ledger.entry import Entry
from ledger.errors import NotCovered, Refused
from ledger.feeds import FeedReader
from ledger.heads import Timeline
from ledger.identity import Feed, parse_position
from replay.history import History
from replay.select import ALL, Selection, opened
from replay.streams import Piece, in_order, onwards
from replay.text import shorten
from replay.union import spelled


class Step(msgspec.Struct, frozen=True):
    """What came: `entries` in display order, and `after`, the token behind them."""

    entries: list[Entry]
    after: dict[str, int]


def follow(
    source: History | str | Path | Sequence[str | Path],
    after: Mapping[str, int],
    selection: Selection = ALL,
    *,
    limit: int | None = None,
) -> Step:
    """The entries behind the token `after` that are asked for, `limit` of them at most, and the next token.

    `source`: paths of ledgers, opened for this step only, or a history as it was opened. Within a step entries stand in
    display order; an entry that comes late may bear an earlier instant than those of the step before. Raises NotCovered
    where a feed holds less than was read of it already, and what `History.open` raises.
    """
    if isinstance(source, History):
        return _step(source, after, selection, limit)
    with History.open(*([source] if isinstance(source, str | Path) else source)) as history:
        return _step(history, after, selection, limit)


def ends(history: History) -> dict[str, int]:
    """The token behind everything that there is."""
    return {feed.id: history.last(feed) for feed in history.feeds}


def _step(history: History, after: Mapping[str, int], selection: Selection, limit: int | None) -> Step:
    following = dict(after)
    grown: dict[Feed, int] = {}
    for feed in history.feeds:
        last, done = history.last(feed), after.get(feed.id, 0)
        if last > done:
            grown[feed] = following[feed.id] = last
        elif last < done and feed.id not in history.contradicted:
            raise NotCovered(
                f"{feed.name} ends at #{last}, and was read to #{done} already",
                hint="this is an older copy: name the ledger that was followed, or begin without a token",
            )

    def wanted(reader: FeedReader, piece: Piece, timeline: Timeline) -> list[Entry]:
        done, until = after.get(reader.feed.id, 0), grown[reader.feed]
        return [entry for entry in opened(selection, reader, piece, timeline) if done < entry.index <= until]

    streams = [
        (history.reader(feed), rank, _pieces(history.reader(feed), rank, after.get(feed.id, 0)))
        for rank, feed in enumerate(grown)
        if selection.reads(feed)
    ]
    found = in_order(streams, wanted, reverse=False)
    entries = list(found if limit is None else islice(found, limit + 1))
    if limit is not None and len(entries) > limit:
        del entries[limit:]
        # Not all that came was given: each feed was read to its last entry among these, if there is one.
        following = {**following, **{feed.id: after.get(feed.id, 0) for feed in grown}}
        for entry in entries:
            following[entry.feed.id] = entry.index
    return Step(entries, {feed_id: index for feed_id, index in following.items() if index or feed_id in after})


def _pieces(reader: FeedReader, rank: int, after: int) -> Iterator[Piece]:
    """The pieces of a feed from the one that holds the entry behind `after`."""
    record = reader.holding(after + 1)
    return onwards(reader, rank, reader.head().records if record is None else record.n - 1)


# Tokens as text.


def token_text(after: Mapping[str, int], feeds: Iterable[Feed]) -> str:
    """A token as text, feeds in their order. Feeds of which nothing was read are left out."""
    names = spelled(feeds)
    return ",".join(f"{names[feed]}#{after[feed.id]}" for feed in sorted(names) if after.get(feed.id))


def parse_token(text: str, feeds: Iterable[Feed]) -> dict[str, int]:
    """The token that `text` spells; an empty one is the beginning. Raises Refused for what is none, or names no single feed."""
    known, found = list(feeds), dict[str, int]()
    for part in text.split(",") if text.strip() else ():
        position = parse_position(part)
        meant = [feed for feed in known if position is not None and position.names(feed)]
        if position is None or not meant:
            what = "is no position" if position is None else "names no feed here"
            raise Refused(f"'{shorten(part)}' {what}", hint="a token is a list of positions, such as alpha#12,bravo#7")
        if meant[0].id in found:
            raise Refused(f"'{shorten(text)}' names {meant[0].name} twice", hint="one position a feed")
        if len(meant) > 1:
            names = spelled(known)
            either = " or ".join(f"{names[feed]}#{position.index}" for feed in meant)
            raise Refused(f"'{shorten(part)}': which feed is meant is not said once", hint=f"say {either}")
        found[meant[0].id] = position.index
    return found
