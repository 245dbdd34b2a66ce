"""A failing test leaves what it failed on: the history as a ledger, which the command line opens.

    @given(histories())
    @kept
    def test_my_projection(history): ...

Whatever the test raises goes on, with a line that names the file; `meshledger verify`, `at` and `log` read it. Hypothesis runs
the smallest failing example last, so that is what stands in the file in the end. `keeping` does the same for a block.

Effects: writes to the folder of $MESHLEDGER_KEPT, else to one of this user's under the temporary folder.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from ledger import codec
from ledger.entry import Entry, Observed
from ledger.errors import EventRefused, LedgerError
from ledger.identity import Feed
from ledger.store import Ledger

_F = TypeVar("_F", bound=Callable[..., Any])
Feeds = Mapping[Feed, Sequence[Observed]]


def kept(test: _F) -> _F:
    """Decorate a test (below `given`): if it fails, the histories among its arguments are kept as ledgers.

    A history is a mapping from feeds to what was observed, anything with such a mapping as `feeds` (a world), or a list of
    entries.
    """

    @wraps(test)
    def run(*given: Any, **named: Any) -> Any:
        histories = [feeds for each in (*given, *named.values()) if (feeds := _feeds(each)) is not None]
        try:
            return test(*given, **named)
        except Exception as error:
            _tell(error, test.__name__, histories)
            raise

    return cast("_F", run)


@contextmanager
def keeping(history: Any, name: str = "failed") -> Iterator[None]:
    """If the block fails, keep `history` as `NAME.ledger`. Raises TypeError for what is no history."""
    feeds = _feeds(history)
    if feeds is None:
        raise TypeError(f"{type(history).__name__} is no history")
    try:
        yield
    except Exception as error:
        _tell(error, name, [feeds])
        raise


def _tell(error: Exception, name: str, histories: Sequence[Feeds]) -> None:
    for number, feeds in enumerate(histories, 1):
        path = folder() / f"{name}{'' if len(histories) == 1 else f'-{number}'}.ledger"
        try:
            left_out = keep(feeds, path)
        except (LedgerError, OSError) as trouble:
            error.add_note(f"the history could not be kept: {trouble}")
            continue
        also = f" ({left_out} entries that no ledger takes left out)" if left_out else ""
        error.add_note(f"the history is kept as {path}{also}: meshledger verify {path}")


def folder() -> Path:
    """Where failing histories are kept; it is made, for its owner only, if it is not there."""
    named = os.environ.get("MESHLEDGER_KEPT")
    found = Path(named) if named else Path(tempfile.gettempdir()) / f".meshledger-kept-{os.getuid()}"
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found


def keep(feeds: Feeds, path: Path) -> int:
    """Write a history to `path`, in the place of what was there; returns how many entries a ledger does not take.

    Of several incarnations, which no ledger mixes, the longest is kept.
    """
    sizes: Counter[str] = Counter()
    for feed, observed in feeds.items():
        sizes[feed.incarnation] += len(observed)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    left_out = 0
    try:
        with Ledger.create(draft) as ledger, ledger.transaction():
            for feed in sorted(feeds):
                taken = [each for each in feeds[feed] if feed.incarnation == _longest(sizes) and _takes(each)]
                left_out += len(feeds[feed]) - len(taken)
                if taken:
                    ledger.add_feed(feed)
                    ledger.append(taken, observer=feed)
        for suffix in ("-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return left_out


def _longest(sizes: Counter[str]) -> str:
    return max(sorted(sizes), key=sizes.__getitem__)


def _takes(each: Observed) -> bool:
    try:
        codec.check(each, "an entry")
    except EventRefused:
        return False
    return True


def _feeds(value: Any) -> Feeds | None:
    """The feeds of a history, None if it is none."""
    held = getattr(value, "feeds", value)
    if isinstance(held, Mapping) and held and all(isinstance(feed, Feed) for feed in held):
        return held
    if isinstance(value, Sequence) and value and all(isinstance(each, Entry) for each in value):
        found: dict[Feed, list[Observed]] = {}
        for entry in sorted(value, key=_by_index):
            found.setdefault(entry.feed, []).append(Observed(entry.at_ns, entry.event, entry.boot, entry.mono_ns))
        return found
    return None


def _by_index(entry: Entry) -> int:
    return entry.index
