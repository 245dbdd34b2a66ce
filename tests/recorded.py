"""Histories put on disk, for what is asked of files: `with on_disk(keepable(history)) as opened: ...`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from scene import MEMORY

from ledger import codec
from ledger.entry import Entry, Observed
from ledger.errors import EventRefused
from ledger.identity import Feed
from ledger.store import Ledger
from replay.history import History


def recorded(path: Path, history: Mapping[Feed, Sequence[Observed]], seals: Iterable[int] = ()) -> Path:
    """A ledger of these feeds; each is sealed after so many entries as `seals` says, and otherwise as it seals itself."""
    with Ledger.create(path) as ledger:
        for feed, observed in history.items():
            ledger.add_feed(feed)
            done = 0
            for end in sorted({each for each in seals if each <= len(observed)}):
                if observed[done:end]:
                    ledger.append(observed[done:end], observer=feed)
                    ledger.seal(feed)
                    done = end
            ledger.append(observed[done:], observer=feed)
    return path


def keepable(history: Mapping[Feed, Sequence[Observed]]) -> dict[Feed, list[Observed]]:
    """What a ledger takes of a history: the feeds of one incarnation, the longest, without the entries that it refuses."""
    sizes: Counter[str] = Counter()
    for feed, log in history.items():
        sizes[feed.incarnation] += len(log)
    one = max(sorted(sizes), key=sizes.__getitem__)
    return {feed: [each for each in log if _taken(each)] for feed, log in history.items() if feed.incarnation == one}


def _taken(each: Observed) -> bool:
    try:
        codec.check(each, "an entry")
    except EventRefused:
        return False
    return True


@contextmanager
def on_disk(history: Mapping[Feed, Sequence[Observed]], seals: Iterable[int] = ()):
    """A history that can be kept, opened to be asked, in a folder of its own that goes with it."""
    with TemporaryDirectory(dir=MEMORY) as folder, History.open(recorded(Path(folder) / "one.ledger", history, seals)) as opened:
        yield opened


def observed(rows: Iterable[Entry]) -> dict[Feed, list[Observed]]:
    """Entries told by hand, as they are appended."""
    found: dict[Feed, list[Observed]] = {}
    for row in rows:
        found.setdefault(row.feed, []).append(Observed(row.at_ns, row.event, row.boot, row.mono_ns))
    return found
