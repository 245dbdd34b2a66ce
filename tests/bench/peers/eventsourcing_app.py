"""The `eventsourcing` library, as its documentation shows it: an Application that saves events to SQLite.

Two ways of its documentation, both measured. *Aggregates*: each feed an Aggregate that triggers events, saved with
`app.save(aggregate)` a batch at a time, dataclass events as JSON. *Structs*: events as frozen msgspec structs with a mapper
for them, saved without an aggregate's bookkeeping; the quickest way it offers. Topics are the short explicit ones,
and a peer's feed stands by its name (`m02`), as its id follows from that feed's `feed.opened`.
Its SQLite connections are WAL and keep SQLite's own default, synchronous=FULL; `create` checks that.
Replay reads the notification log, section by section, and folds each event; so does the visit in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from bench.digest import ANSWERED, DOWN, FAILED, UP, State, Visited, members
from bench.peers.contestant import Contestant
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Mapper, Notification, StoredEvent, Transcoder
from eventsourcing.utils import get_topic, resolve_topic

from ledger import events
from ledger.entry import Observed
from ledger.identity import Feed

SECTION = 1000
originator = attrgetter("originator_id")


class FeedOf(Aggregate):
    """One feed as an aggregate: its version is the index of its last entry, and one for its opening."""

    TOPIC = "feed"

    class Created(Aggregate.Created):
        """Version 1."""

        TOPIC = "opened"
        machine: str
        feed: str
        incarnation: str
        epoch: int

    class Answered(Aggregate.Event):
        """A ping that was answered."""

        TOPIC = "answered"
        at_ns: int
        boot: int | None
        mono_ns: int | None
        peer: str
        number: int
        rtt_us: int
        link: str | None
        sent_us: int | None
        received_us: int | None
        replied_us: int | None
        returned_us: int | None
        peer_boot: int | None
        feed: str | None
        held: int | None

    class Failed(Aggregate.Event):
        """A ping that was not."""

        TOPIC = "failed"
        at_ns: int
        boot: int | None
        mono_ns: int | None
        peer: str
        number: int
        reason: str
        link: str | None
        feed: str | None
        held: int | None

    class Told(Aggregate.Event):
        """Anything else."""

        TOPIC = "told"
        at_ns: int
        boot: int | None
        mono_ns: int | None
        kind: str
        body: dict

    @event(Created)
    def __init__(self, machine: str, feed: str, incarnation: str, epoch: int) -> None:
        self.machine, self.feed, self.incarnation, self.epoch = machine, feed, incarnation, epoch

    @staticmethod
    def create_id(feed: str) -> UUID:
        return uuid5(NAMESPACE_URL, feed)

    def observe(self, entries: Iterable[Observed], names: dict[str | None, str | None]) -> None:
        """Trigger the library's event for each entry."""
        trigger, answered, failed = self.trigger_event, FeedOf.Answered, FeedOf.Failed
        for entry in entries:
            e = entry.event
            if type(e) is events.PingAnswered:
                trigger(
                    answered, at_ns=entry.at_ns, boot=entry.boot, mono_ns=entry.mono_ns, peer=e.peer, number=e.number,
                    rtt_us=e.rtt_us, link=e.link, sent_us=e.sent_us, received_us=e.received_us, replied_us=e.replied_us,
                    returned_us=e.returned_us, peer_boot=e.peer_boot, feed=names[e.feed], held=e.held,
                )  # fmt: skip
            elif type(e) is events.PingFailed:
                trigger(
                    failed, at_ns=entry.at_ns, boot=entry.boot, mono_ns=entry.mono_ns, peer=e.peer, number=e.number,
                    reason=e.reason, link=e.link, feed=names[e.feed], held=e.held,
                )  # fmt: skip
            else:
                body = msgspec.to_builtins(e)
                trigger(FeedOf.Told, at_ns=entry.at_ns, boot=entry.boot, mono_ns=entry.mono_ns, kind=e.kind, body=body)


class Struct(msgspec.Struct, frozen=True, gc=False):
    """What the struct events share."""

    originator_id: str
    originator_version: int
    at_ns: int
    boot: int | None
    mono_ns: int | None


class Answered(Struct, frozen=True, gc=False):
    TOPIC: ClassVar[str] = "a"
    peer: str
    number: int
    rtt_us: int
    link: str | None
    sent_us: int | None
    received_us: int | None
    replied_us: int | None
    returned_us: int | None
    peer_boot: int | None
    feed: str | None
    held: int | None


class Failed(Struct, frozen=True, gc=False):
    TOPIC: ClassVar[str] = "f"
    peer: str
    number: int
    reason: str
    link: str | None
    feed: str | None
    held: int | None


class Told(Struct, frozen=True, gc=False):
    TOPIC: ClassVar[str] = "t"
    kind: str
    body: dict


for _kind in (Answered, Failed, Told):
    get_topic(_kind)  # registers the short topics


class StructMapper(Mapper):
    """Between struct events and stored bytes, without a transcoder's detour."""

    TOPIC = "structs"

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        state = msgspec.json.encode(domain_event)
        return StoredEvent(domain_event.originator_id, domain_event.originator_version, type(domain_event).TOPIC, state)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        return msgspec.json.decode(stored_event.state, type=resolve_topic(stored_event.topic))


class NoTranscoder(Transcoder):
    """The struct mapper needs none; the library asks for one."""

    TOPIC = "none"

    def encode(self, obj: Any) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> Any:
        raise NotImplementedError


class Commit:
    """Events to be saved together, handed over in the way in which aggregates hand over theirs."""

    def __init__(self, name: str, pending: list) -> None:
        self.id = name
        self.pending = pending

    def collect_events(self) -> list:
        return self.pending


class Mesh(Application):
    """The application; the notification log gives long sections."""

    log_section_size = SECTION


class EventsourcingAggregates(Contestant):
    """Aggregates that trigger events."""

    name = "eventsourcing, aggregates"
    package = "eventsourcing"
    slow = True
    env: ClassVar[dict[str, str]] = {}

    def create(self, feeds: Sequence[Feed]) -> None:
        self.open()
        with self.app.factory.datastore.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA synchronous")
            assert cursor.fetchone()[0] == 2, "not FULL"
        self.names = {None: None} | {feed.id: feed.name for feed in feeds}
        self.begin(feeds)

    def begin(self, feeds: Sequence[Feed]) -> None:
        self.aggregates = {feed.id: FeedOf(feed.machine, feed.id, feed.incarnation, feed.epoch) for feed in feeds}
        self.app.save(*self.aggregates.values())

    def open(self) -> None:
        path = str(self.folder / "eventsourcing.sqlite")
        self.app = Mesh(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": path, **self.env})

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        aggregate = self.aggregates[feed.id]
        aggregate.observe(entries, self.names)
        self.app.save(aggregate)

    def close(self) -> None:
        with self.app.factory.datastore.get_connection(commit=True) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.app.close()

    def leave(self) -> None:
        self.app.close()

    def log(self) -> Iterator[Notification]:
        """The notification log from its beginning, a section at a time."""
        start = 1
        while some := self.app.notification_log.select(start, SECTION):
            yield some
            start = some[-1].id + 1

    def runs(self) -> Iterator[tuple[str, int, Iterator]]:
        """Machine, the number that its versions are ahead of the index, and events in order, a run of one feed at a time."""
        event_of = self.app.mapper.to_domain_event
        machine: dict[Any, str] = {}
        for some in self.log():
            for name, run in groupby(some, key=originator):
                stored = map(event_of, run)
                if name not in machine:
                    machine[name] = next(stored).machine
                yield machine[name], 1, stored

    def walk(self) -> Iterator[tuple[str, Iterable[Visited]]]:
        told = (FeedOf.Told, Told)
        for machine, ahead, run in self.runs():
            yield (
                machine,
                (
                    (e.originator_version - ahead, e.at_ns, e.body.get("peer", ""), e.kind, -1)
                    if type(e) in told
                    else (
                        (e.originator_version - ahead, e.at_ns, e.peer, "ping.answered", e.rtt_us)
                        if hasattr(e, "rtt_us")
                        else (e.originator_version - ahead, e.at_ns, e.peer, "ping.failed", -1)
                    )
                    for e in run
                ),
            )

    def replay(self) -> State:
        pings: dict = {}
        links: dict = {}
        joins, ended = [], []
        answered, failed = (FeedOf.Answered, Answered), (FeedOf.Failed, Failed)
        for machine, ahead, run in self.runs():
            for e in run:
                kind = type(e)
                if kind in answered:
                    pair = machine, e.peer
                    cell = pings.get(pair)
                    if cell is None:
                        cell = pings[pair] = [0, "", None, None, 0, 0]
                    cell[:5] = e.originator_version - ahead, ANSWERED, e.at_ns, e.rtt_us, cell[4] + 1
                    links[pair] = UP
                elif kind in failed:
                    cell = pings.setdefault((machine, e.peer), [0, "", None, None, 0, 0])
                    cell[0], cell[1] = e.originator_version - ahead, FAILED
                    cell[4] += 1
                    cell[5] += 1
                elif e.kind == "link.established":
                    links[machine, e.body["peer"]] = UP
                elif e.kind in {"link.lost", "link.failed"}:
                    links[machine, e.body["peer"]] = DOWN
                elif e.kind == "machine.joined":
                    joins.append((f"{machine}#{e.originator_version - ahead}", e.body["machine"]))
                elif e.kind == "machine.left":
                    ended.extend(e.body.get("joins", ()))
        return State({pair: tuple(cell) for pair, cell in pings.items()}, links, members(joins, ended))


class EventsourcingStructs(EventsourcingAggregates):
    """Frozen structs and a mapper for them."""

    name = "eventsourcing, structs"
    env: ClassVar[dict[str, str]] = {
        "MAPPER_TOPIC": get_topic(StructMapper),
        "TRANSCODER_TOPIC": get_topic(NoTranscoder),
        "ORIGINATOR_ID_TYPE": "text",
    }

    def begin(self, feeds: Sequence[Feed]) -> None:
        self.ends = dict.fromkeys((feed.machine for feed in feeds), 0)

    def append(self, feed: Feed, entries: list[Observed]) -> None:
        name, version, names, pending = feed.machine, self.ends[feed.machine], self.names, []
        for entry in entries:
            e = entry.event
            version += 1
            if type(e) is events.PingAnswered:
                pending.append(
                    Answered(
                        name, version, entry.at_ns, entry.boot, entry.mono_ns, e.peer, e.number, e.rtt_us, e.link, e.sent_us,
                        e.received_us, e.replied_us, e.returned_us, e.peer_boot, names[e.feed], e.held,
                    )
                )  # fmt: skip
            elif type(e) is events.PingFailed:
                pending.append(
                    Failed(
                        name, version, entry.at_ns, entry.boot, entry.mono_ns, e.peer, e.number, e.reason, e.link,
                        names[e.feed], e.held,
                    )
                )  # fmt: skip
            else:
                pending.append(Told(name, version, entry.at_ns, entry.boot, entry.mono_ns, e.kind, msgspec.to_builtins(e)))
        self.app.save(Commit(name, pending))
        self.ends[name] = version

    def runs(self) -> Iterator[tuple[str, int, Iterator]]:
        event_of = self.app.mapper.to_domain_event
        for some in self.log():
            for machine, run in groupby(some, key=originator):
                yield machine, 0, map(event_of, run)
