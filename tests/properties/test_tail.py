"""Following a ledger: whoever asks for what comes after the last index it saw misses nothing and repeats nothing.

A follower keeps, per feed, the last index; it may stop in the middle of an answer, come back later, to another reader,
beside a writer or between two. Whatever the interleaving, what it saw is the feed, in order, each entry once.
"""

import tempfile
from itertools import islice
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from scene import INCARNATION, MEMORY, feed_of, minutes, note, observed, opening

from ledger.store import Ledger

FEEDS = (feed_of("alpha", keyed=True), feed_of("bravo"))

which = st.integers(0, 1)
acts = st.one_of(
    st.tuples(st.just("append"), which, st.sampled_from([1, 2, 30, 999, 1001])),
    st.tuples(st.just("note"), which),
    st.tuples(st.just("seal")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("reader")),
    st.tuples(st.just("read"), which, st.sampled_from([1, 3, 500, 10**6])),
    st.tuples(st.just("begin"), which),
    st.tuples(st.just("go on"), st.sampled_from([1, 40, 10**6])),
)


@given(st.lists(acts, max_size=25))
def test_a_follower_misses_and_repeats_nothing(script):
    """For every interleaving of append, seal, restart and read, also with a read left half-way while others append."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "a.ledger"
        writer = Ledger.create(path, incarnation=INCARNATION)
        written = {feed: [] for feed in FEEDS}
        seen = {feed: [] for feed in FEEDS}
        reader, pending = None, None

        def append(feed, batch):
            writer.append(batch, observer=feed)
            written[feed] += batch

        for feed in FEEDS:
            append(feed, [opening(feed)])
        for act, *rest in [*script, ("reopen",), ("read", 0, 10**6), ("read", 1, 10**6)]:
            if act in {"append", "note", "seal"} and writer is None:
                continue
            match act:
                case "append":
                    append(FEEDS[rest[0]], minutes(rest[1], first=len(written[FEEDS[rest[0]]])))
                case "note":
                    append(FEEDS[rest[0]], [note(f"{len(written[FEEDS[rest[0]]])}")])
                case "seal":
                    writer.seal(FEEDS[0])
                case "stop" | "reopen":
                    if writer is not None:
                        writer.close()
                    writer = Ledger.open(path, write=True) if act == "reopen" else None
                    if reader is not None and reader._opened.is_copy:
                        reader.close()  # of the moment at which it was opened: `follow` opens anew for each step
                        reader, pending = None, None
                case "reader":
                    if reader is not None:
                        reader.close()
                    reader, pending = None, None
                case "begin":
                    reader = reader or Ledger.open(path)
                    feed = FEEDS[rest[0]]
                    pending = feed, reader.read(feed, after=len(seen[feed]))
                case "go on" if pending is not None:
                    feed, answer = pending
                    for entry in islice(answer, rest[0]):
                        assert entry.index == len(seen[feed]) + 1
                        seen[feed].append(entry)
                case "read":
                    reader = reader or Ledger.open(path)
                    feed, pending = FEEDS[rest[0]], None
                    seen[feed] += islice(reader.read(feed, after=len(seen[feed])), rest[1])
            for feed in FEEDS:
                assert [entry.index for entry in seen[feed]] == list(range(1, len(seen[feed]) + 1))
                assert observed(seen[feed]) == written[feed][: len(seen[feed])]
        for feed in FEEDS:
            assert observed(seen[feed]) == written[feed]
        reader.close()
        writer.close()
