"""What happened: the record of a mesh. The public surface of this folder; our own code imports the rooms themselves.

Names are loaded when they are first asked for, so that whoever needs one room does not wait for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.entry import Entry, Observed, Opaque
    from ledger.errors import (
        Conflict,
        Damaged,
        EventRefused,
        Forked,
        LedgerError,
        Locked,
        Newer,
        NotALedger,
        NotCovered,
        Older,
        Refused,
        Unwritable,
        WrongIncarnation,
    )
    from ledger.events import (
        ClockStepped,
        ClusterCreated,
        ClusterDissolved,
        Event,
        FeedOpened,
        FeedReceived,
        HeadWitnessed,
        HostnameChanged,
        JoinRefused,
        KeyChanged,
        LinkEstablished,
        LinkFailed,
        LinkLost,
        MachineDisconnected,
        MachineJoined,
        MachineLeft,
        MachineReconnected,
        NameFailed,
        NameResolved,
        NodeStalled,
        NodeStarted,
        NodeStopped,
        NoteAdded,
        PingAnswered,
        PingFailed,
        PingHeard,
        SettingsChanged,
        VersionChanged,
    )
    from ledger.identity import Feed, Position
    from ledger.store import Branch, Ledger, Receipt

_ROOMS = {
    "entry": (
        "Entry",
        "Observed",
        "Opaque",
    ),
    "errors": (
        "Conflict",
        "Damaged",
        "EventRefused",
        "Forked",
        "LedgerError",
        "Locked",
        "Newer",
        "NotALedger",
        "NotCovered",
        "Older",
        "Refused",
        "Unwritable",
        "WrongIncarnation",
    ),
    "events": (
        "ClockStepped",
        "ClusterCreated",
        "ClusterDissolved",
        "Event",
        "FeedOpened",
        "FeedReceived",
        "HeadWitnessed",
        "HostnameChanged",
        "JoinRefused",
        "KeyChanged",
        "LinkEstablished",
        "LinkFailed",
        "LinkLost",
        "MachineDisconnected",
        "MachineJoined",
        "MachineLeft",
        "MachineReconnected",
        "NameFailed",
        "NameResolved",
        "NodeStalled",
        "NodeStarted",
        "NodeStopped",
        "NoteAdded",
        "PingAnswered",
        "PingFailed",
        "PingHeard",
        "SettingsChanged",
        "VersionChanged",
    ),
    "identity": (
        "Feed",
        "Position",
    ),
    "store": (
        "Branch",
        "Ledger",
        "Receipt",
    ),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Branch",
    "ClockStepped",
    "ClusterCreated",
    "ClusterDissolved",
    "Conflict",
    "Damaged",
    "Entry",
    "Event",
    "EventRefused",
    "Feed",
    "FeedOpened",
    "FeedReceived",
    "Forked",
    "HeadWitnessed",
    "HostnameChanged",
    "JoinRefused",
    "KeyChanged",
    "Ledger",
    "LedgerError",
    "LinkEstablished",
    "LinkFailed",
    "LinkLost",
    "Locked",
    "MachineDisconnected",
    "MachineJoined",
    "MachineLeft",
    "MachineReconnected",
    "NameFailed",
    "NameResolved",
    "Newer",
    "NodeStalled",
    "NodeStarted",
    "NodeStopped",
    "NotALedger",
    "NotCovered",
    "NoteAdded",
    "Observed",
    "Older",
    "Opaque",
    "PingAnswered",
    "PingFailed",
    "PingHeard",
    "Position",
    "Receipt",
    "Refused",
    "SettingsChanged",
    "Unwritable",
    "VersionChanged",
    "WrongIncarnation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ledger' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ledger.{_HOMES[name]}"), name)
