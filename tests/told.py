"""Feeds written by hand: `told("alpha", (0, event), (60, event))` gives their entries, instants in seconds from `START`."""

from __future__ import annotations

from ledger import events as ev
from ledger.entry import Entry, Opaque
from ledger.identity import IMPORTED, Feed, incarnation_id

START = 1_767_225_600
PAPER = f"{IMPORTED}paper"


def ns(seconds: float) -> int:
    """The instant `seconds` after the start, in nanoseconds."""
    return START * 10**9 + round(seconds * 10**9)


def imported(machine: str, epoch: int = 1) -> Feed:
    """A feed without keys, of measurements."""
    return Feed.of(PAPER, machine, epoch)


def told(feed: Feed | str, *steps: tuple[float, ev.Event | Opaque], first: int = 1) -> list[Entry]:
    """The entries of one feed, from index `first`, each with its instant as its effective one."""
    where = imported(feed) if isinstance(feed, str) else feed
    return [Entry(where, index, ns(at), what, effective_ns=ns(at)) for index, (at, what) in enumerate(steps, first)]


def own(machine: str, *steps: tuple[float, ev.Event | Opaque], hostname: str | None = None) -> list[Entry]:
    """An imported feed that opens, joins itself at 0, and goes on."""
    opened = (0, ev.FeedOpened(PAPER, machine, 1)), (0, ev.MachineJoined(machine, hostname))
    return told(machine, *opened, *steps)


ROOT = incarnation_id("lab", "ssh", "name", "ed25519:a", "salt")


def keyed(machine: str, key: str, epoch: int = 1) -> Feed:
    """A feed with a key, of the cluster that the machine with key `ed25519:a` founded."""
    return Feed.of(ROOT, machine, epoch, key)


CREATED = ev.ClusterCreated("lab", ROOT, salt="salt")
