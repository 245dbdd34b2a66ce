"""What can happen: a closed union of frozen events, each with the tag under which it is stored.

THE TAGS AND FIELD NAMES BELOW ARE A STORAGE FORMAT FOR EVER. Add a kind, add a field with a default; never rename,
reuse or remove. A change of shape is a new `version` and an upcaster in `codec`.

An event does not say who saw it or when: the entry does. `peer` is the other end of a link whose near end is the
observer. Instants and ping stamps are integers with the unit in the name; text from outside is kept as it came, within
bounds, and made harmless where it is shown. Nothing here reads, writes, folds or judges.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, field

from ledger.identity import HOSTNAME_PATTERN, MACHINE_PATTERN

Machine = Annotated[str, Meta(pattern=MACHINE_PATTERN, max_length=63)]
Hostname = Annotated[str, Meta(pattern=HOSTNAME_PATTERN, max_length=253)]
FeedId = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", max_length=64)]
PositionText = Annotated[str, Meta(pattern=r"^(?!.*\n)[a-z0-9_.~-]+#[0-9]{1,18}$", max_length=160)]
Key = Annotated[str, Meta(max_length=1024)]
"""A public key as text; a ledger key is `ed25519:` and the base64 of its 32 bytes."""
Text = Annotated[str, Meta(max_length=4096)]
Word = Annotated[str, Meta(max_length=255)]
Count = Annotated[int, Meta(ge=0, le=2**60)]
Stamp = Annotated[int, Meta(ge=0, le=2**60)]
Epoch = Annotated[int, Meta(ge=1, le=10**9 - 1)]
LinkId = Annotated[str, Meta(max_length=64)]
Port = Annotated[int, Meta(ge=1, le=65535)]

Transport = Literal["ssh", "ccs"]
Addressing = Literal["name", "address"]
Reason = Literal[
    "refused", "timeout", "reset", "closed", "idle-timeout", "connection-limit", "auth-failed", "host-key-mismatch",
    "not-a-member", "name-unresolvable", "name-points-elsewhere", "reverse-timeout", "reverse-missing", "disconnected",
    "left", "transport-mismatch", "version-mismatch", "protocol-error", "no-route", "unknown",
]  # fmt: skip
Outcome = Literal["answered", "nxdomain", "nodata", "timeout", "servfail", "mismatch"]


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What all events share: a `kind`, the stored tag, and the `version` of its shape."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1


class FeedOpened(Event, frozen=True):
    """The first entry of every feed: what it is, and why it was opened. `lost_*`: the witnessed range that was lost."""

    kind = "feed.opened"
    incarnation: Annotated[str, Meta(min_length=1, max_length=128)]
    machine: Machine
    epoch: Epoch
    ledger_key: Key | None = None
    why: Literal["new", "new-key", "restored", "unconfirmed"] = "new"
    lost_from: Count | None = None
    lost_until: Count | None = None


class ClusterCreated(Event, frozen=True):
    """A cluster began. The incarnation id commits to these fields and the feed's ledger key (`identity.incarnation_id`)."""

    kind = "cluster.created"
    name: Word
    incarnation: Word
    transport: Transport = "ssh"
    addressing: Addressing = "name"
    salt: Word = ""


class ClusterDissolved(Event, frozen=True):
    """The last machine was removed."""

    kind = "cluster.dissolved"
    name: Word
    incarnation: Word


class SettingsChanged(Event, frozen=True):
    """The settings in force from here. The highest generation wins, then the smaller machine name."""

    kind = "settings.changed"
    generation: Count
    ping_interval_ms: Annotated[int, Meta(ge=1, le=86_400_000 * 366)] = 60_000
    ping_timeout_ms: Annotated[int, Meta(ge=1, le=86_400_000 * 366)] = 15_000
    lost_after: Annotated[int, Meta(ge=1, le=1000)] = 1
    connections_max: Count = 64
    machines_max: Count = 20
    flaps_max: Count = 6
    flap_window_ms: Count = 3_600_000


class MachineJoined(Event, frozen=True):
    """A machine was admitted. `from` (here `held`): entries its feed had at admission; `epoch`: of which of its feeds, and what
    it wrote in later ones counts as well. Without it, as where a machine has one feed, `from` is of each.
    """

    kind = "machine.joined"
    machine: Machine
    hostname: Hostname | None = None
    port: Port = 22
    account: Word | None = None
    host_key: Key | None = None
    dial_key: Key | None = None
    ledger_key: Key | None = None
    held: Count = field(name="from", default=0)
    addressing: Addressing = "name"
    epoch: Epoch | None = None


class MachineLeft(Event, frozen=True):
    """A machine left or was removed. `joins`: positions of the joins this ends; `held`: entries held of its feed, up to which
    they count; `epoch`: of which of its feeds, and later ones do not count. Without it `held` is of each.
    """

    kind = "machine.left"
    machine: Machine
    joins: tuple[PositionText, ...] = ()
    held: Count = 0
    cause: Literal["left", "removed"] = "left"
    by: Machine | None = None
    epoch: Epoch | None = None


class MachineDisconnected(Event, frozen=True):
    """A machine was disconnected by an operator: planned, and not a leave."""

    kind = "machine.disconnected"
    machine: Machine
    by: Word | None = None
    text: Text = ""


class MachineReconnected(Event, frozen=True):
    """The end of an administrative disconnection."""

    kind = "machine.reconnected"
    machine: Machine
    by: Word | None = None


class JoinRefused(Event, frozen=True):
    """Somebody asked to join and was refused."""

    kind = "join.refused"
    who: Word
    address: Word | None = None
    reason: Reason = "unknown"
    detail: Text = ""


class HostnameChanged(Event, frozen=True):
    """The observer's own main host name changed (`sethostname`). `forced`: though the new one did not resolve to it."""

    kind = "hostname.changed"
    old: Hostname
    new: Hostname
    forced: bool = False


class KeyChanged(Event, frozen=True):
    """One of the observer's own keys changed."""

    kind = "key.changed"
    role: Literal["host", "dial", "ledger"]
    old: Key
    new: Key


class VersionChanged(Event, frozen=True):
    """The software of the observer changed."""

    kind = "version.changed"
    old: Word
    new: Word


class NameResolved(Event, frozen=True):
    """A look-up that was answered. `direction` reverse: `name` is an address, `answers` are names."""

    kind = "name.resolved"
    name: Word
    direction: Literal["forward", "reverse"] = "forward"
    outcome: Outcome = "answered"
    answers: tuple[Word, ...] = ()
    server: Word | None = None
    ttl_s: Count | None = None
    took_us: Stamp | None = None


class NameFailed(Event, frozen=True):
    """A look-up that gave nothing to dial."""

    kind = "name.failed"
    name: Word
    direction: Literal["forward", "reverse"] = "forward"
    outcome: Outcome = "nxdomain"
    answers: tuple[Word, ...] = ()
    server: Word | None = None
    ttl_s: Count | None = None
    took_us: Stamp | None = None


class LinkEstablished(Event, frozen=True):
    """The observer's link to `peer` stands."""

    kind = "link.established"
    peer: Machine
    link: LinkId | None = None
    address: Word | None = None
    transport: Transport | None = None
    side: Literal["dialled", "accepted"] | None = None


class LinkLost(Event, frozen=True):
    """A link that stood is gone. `detail` is the verbatim error."""

    kind = "link.lost"
    peer: Machine
    reason: Reason = "unknown"
    link: LinkId | None = None
    address: Word | None = None
    culprit: Machine | None = None
    detail: Text = ""


class LinkFailed(Event, frozen=True):
    """A dial that came to nothing."""

    kind = "link.failed"
    peer: Machine
    reason: Reason = "unknown"
    link: LinkId | None = None
    address: Word | None = None
    culprit: Machine | None = None
    detail: Text = ""


class PingAnswered(Event, frozen=True):
    """A ping that was answered. The four stamps, in microseconds: `sent` and `returned` on the observer's monotonic
    clock, `received` and `replied` on the peer's (all null in imports). `feed`, `held`: entries held of the peer's feed.
    """

    kind = "ping.answered"
    peer: Machine
    number: Count
    rtt_us: Stamp
    link: LinkId | None = None
    sent_us: Stamp | None = None
    received_us: Stamp | None = None
    replied_us: Stamp | None = None
    returned_us: Stamp | None = None
    peer_boot: Stamp | None = None
    feed: FeedId | None = None
    held: Count | None = None


class PingFailed(Event, frozen=True):
    """A ping without an answer in time, or a member without a link. A late answer never rewrites it."""

    kind = "ping.failed"
    peer: Machine
    number: Count
    reason: Reason = "timeout"
    link: LinkId | None = None
    feed: FeedId | None = None
    held: Count | None = None


class PingHeard(Event, frozen=True):
    """The last ping number heard from `peer`, after a gap or a lost link: tells a lost request from a lost answer."""

    kind = "ping.heard"
    peer: Machine
    number: Count


class NodeStarted(Event, frozen=True):
    """The node began to run: what it knew of links is gone."""

    kind = "node.started"
    boot: Stamp
    software: Word = ""


class NodeStopped(Event, frozen=True):
    """The node ended in order."""

    kind = "node.stopped"
    boot: Stamp
    software: Word = ""


class ClockStepped(Event, frozen=True):
    """The observer's wall clock was set by `by_ns`; this entry bears the clock after the step."""

    kind = "clock.stepped"
    by_ns: Annotated[int, Meta(ge=-(2**60), le=2**60)]


class NodeStalled(Event, frozen=True):
    """The node missed its own timers: its own negative observations in that stretch are suspect."""

    kind = "node.stalled"
    stalled_ms: Stamp


class FeedReceived(Event, frozen=True):
    """Entries of another feed are held now up to `held`."""

    kind = "feed.received"
    feed: FeedId
    held: Count


class HeadWitnessed(Event, frozen=True):
    """A peer's signed head, as received: a C2SP checkpoint's size, root and signature lines."""

    kind = "head.witnessed"
    feed: FeedId
    records: Count
    root: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", max_length=64)]
    signature: Text = ""


class NoteAdded(Event, frozen=True):
    """An analyst's or operator's word. `mark` names the moment, so that `mark:NAME` can be asked for."""

    kind = "note.added"
    text: Text
    by: Word | None = None
    mark: Annotated[str, Meta(pattern=r"^(?!.*\n)[A-Za-z0-9_.-]{1,63}$")] | None = None


Ping = PingAnswered | PingFailed
KINDS: Final[dict[str, type[Event]]] = {
    kind.kind: kind
    for kind in (
        FeedOpened, ClusterCreated, ClusterDissolved, SettingsChanged, MachineJoined, MachineLeft, MachineDisconnected,
        MachineReconnected, JoinRefused, HostnameChanged, KeyChanged, VersionChanged, NameResolved, NameFailed,
        LinkEstablished, LinkLost, LinkFailed, PingAnswered, PingFailed, PingHeard, NodeStarted, NodeStopped,
        ClockStepped, NodeStalled, FeedReceived, HeadWitnessed, NoteAdded,
    )
}  # fmt: skip
"""Every kind that this version knows, by its stored tag."""
