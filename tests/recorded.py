"""Histories put on disk, for what is asked of files: `recorded(path, history, seals)` writes them, `open_history` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ledger.entry import Entry, Observed
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


@contextmanager
def on_disk(history: Mapping[Feed, Sequence[Observed]], seals: Iterable[int] = ()):
    """The same, opened to be asked, in a folder of its own that goes with it. A ledger holds one incarnation: that of most."""
    incarnations = [feed.incarnation for feed in history]
    one = max(sorted(set(incarnations)), key=incarnations.count)
    kept = {feed: log for feed, log in history.items() if feed.incarnation == one}
    with TemporaryDirectory() as folder, History.open(recorded(Path(folder) / "one.ledger", kept, seals)) as opened:
        yield opened


def observed(rows: Iterable[Entry]) -> dict[Feed, list[Observed]]:
    """Entries told by hand, as they are appended."""
    found: dict[Feed, list[Observed]] = {}
    for row in rows:
        found.setdefault(row.feed, []).append(Observed(row.at_ns, row.event, row.boot, row.mono_ns))
    return found
