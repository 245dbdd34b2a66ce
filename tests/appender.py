"""An append loop to be killed: appends batches, and says on its standard output what was acknowledged, one line each.

    python appender.py PATH SEED ROUNDS [SYNCHRONOUS [PAGES]]

The batches follow from SEED (small ones, if it begins with `small`) and the position alone, so that whoever looks afterwards
knows what must stand. Lines:
`begun LAST` once the ledger is open, `trying FIRST COUNT` before, and `acked LAST` after each batch. SYNCHRONOUS overrides the
setting that durability rests on, for the proof that the proof can see; PAGES the checkpoint interval.
"""

import os
import random
import sys
from zlib import crc32

from ledger.entry import Observed
from ledger.events import FeedOpened, LinkLost, MachineJoined, PingAnswered
from ledger.identity import Feed
from ledger.store import Ledger

FEEDS = (Feed.of("import:kill", "alpha"), Feed.of("import:kill", "bravo", 1, "ed25519:" + "A" * 43 + "="))
START_NS = 1_767_225_600_000_000_000
SIZES = (1, 1, 2, 7, 60, 400, 1300)
SMALL = (1, 1, 2, 7, 40)


def entry(seed, feed, index):
    """What stands at an index of a feed, for ever."""
    at = START_NS + index * 1_000_003
    if index == 1:
        return Observed(at, FeedOpened(feed.incarnation, feed.machine, feed.epoch, feed.ledger_key))
    dice = crc32(f"{seed} {feed.machine} {index}".encode())
    if dice % 100 == 0:
        return Observed(at, MachineJoined("charlie"), 1, index)
    if dice % 100 < 6:
        return Observed(at, LinkLost("charlie", "timeout", detail="x" * (dice >> 8 & 255)), 1, index)
    return Observed(at, PingAnswered("charlie", index, dice % 1_000_003, "l", held=index), 1, index * 1000)


def batches(seed):
    """The sizes and feeds of batches, for ever."""
    dice = random.Random(seed)
    while True:
        yield FEEDS[dice.randrange(2)], dice.choice(SMALL if seed.startswith("small") else SIZES)


def main(path, seed, rounds, synchronous="", pages=""):
    """Go on from where the ledger ends."""

    def say(text):
        os.write(1, (text + "\n").encode())

    with Ledger.create(path, incarnation="import:kill") as ledger:
        if synchronous:
            ledger._connection.execute(f"pragma synchronous={synchronous}")
        if pages:
            ledger._connection.execute(f"pragma wal_autocheckpoint={pages}")
        lasts = {feed: ledger.head(feed).last if feed in ledger.feeds() else 0 for feed in FEEDS}
        say(f"begun {lasts[FEEDS[0]]} {lasts[FEEDS[1]]}")
        for _round, (feed, count) in zip(range(int(rounds)), batches(f"{seed} {sum(lasts.values())}"), strict=False):
            last = lasts[feed]
            say(f"trying {feed.machine} {last} {count}")
            batch = [entry(seed, feed, index) for index in range(last + 1, last + count + 1)]
            lasts[feed] = ledger.append(batch, observer=feed, expect=last).last
            say(f"acked {feed.machine} {lasts[feed]}")
            if feed.ledger_key and lasts[feed] % 5 == 0:
                ledger.seal(feed)
        say("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
