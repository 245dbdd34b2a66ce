"""What a feed says of its own machine: why it was opened, the settings it recorded, the names it looked up.

Small frozen values, each with its place (index and instant) in the feed. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

DEFAULT_INTERVAL_MS: Final = 60_000
"""The ping interval where no settings are recorded."""
DEFAULT_MACHINES_MAX: Final = 20
"""So many machines a cluster may have where no settings are recorded."""


class Opening(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why the feed was opened, and the witnessed range that was lost."""

    index: int
    at_ns: int
    why: str
    lost_from: int | None
    lost_until: int | None


class Settings(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`settings.changed`, with its place."""

    index: int
    at_ns: int
    generation: int
    ping_interval_ms: int
    ping_timeout_ms: int
    lost_after: int
    connections_max: int
    machines_max: int
    flaps_max: int
    flap_window_ms: int


class Lookup(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The latest look-up of one name in one direction."""

    index: int
    at_ns: int
    outcome: str
    failed: bool
    answers: tuple[str, ...]
