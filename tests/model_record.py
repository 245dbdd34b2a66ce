"""The naive record: one list per feed. What the store must be equal to, whatever it does on disk.

Positions are places in the list, from 1: dense by construction. What other bytes were found at a taken place is kept
beside the list, and from the first such place on the feed does not stand.
"""


class Conflict(Exception):
    """The feed does not end where the caller expected."""

    def __init__(self, expected, last):
        super().__init__(f"ends at {last}, not at {expected}")
        self.expected = expected
        self.last = last


class Record:
    """Feeds as lists of observations. `forks`: per feed, (index, the other branch from there on), in order of arrival."""

    def __init__(self):
        self.feeds = {}
        self.forks = {}

    def last(self, feed):
        """How many entries the feed has."""
        return len(self.feeds.get(feed, []))

    def append(self, feed, observed, expect=None):
        """Append a batch; the index of its last entry. With `expect` the feed must end there (else Conflict), unless
        these very entries stand behind it already: then nothing is written, and the receipt is the first one.
        """
        log = self.feeds.setdefault(feed, [])
        expected = len(log) if expect is None else expect
        if expected == len(log):
            log.extend(observed)
        elif log[expected : expected + len(observed)] != list(observed):
            raise Conflict(expected, len(log))
        return expected + len(observed)

    def ingest(self, feed, first, observed):
        """Take entries `first` … of a feed from elsewhere: (new, there, conflicting). A hole is refused (Conflict). At the
        first place that holds something else, the rest is another branch: kept, and no part of the feed.
        """
        log = self.feeds.setdefault(feed, [])
        if first > len(log) + 1:
            raise Conflict(first - 1, len(log))
        there = 0
        for place, each in enumerate(observed, first):
            rest = list(observed[place - first :])
            if place > len(log):
                log.extend(rest)
                return len(rest), there, 0
            if log[place - 1] != each:
                if (place, rest) not in self.forks.setdefault(feed, []):
                    self.forks[feed].append((place, rest))
                return 0, there, len(rest)
            there += 1
        return 0, there, 0

    def standing(self, feed):
        """How many entries of the feed stand: all, or those before the first place that is contradicted."""
        return min([self.last(feed), *(place - 1 for place, _branch in self.forks.get(feed, []))])

    def read(self, feed, after=0):
        """(index, observed) of what stands behind `after`."""
        return list(enumerate(self.feeds.get(feed, []), 1))[after : self.standing(feed)]
