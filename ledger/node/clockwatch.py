"""The two clocks held against each other, and against the deadlines: steps of the wall clock, and own stalls.

The wall clock should advance as the monotonic one does. Where it does not by more than a second it was set, and the entry that
says so bears the clock after the step, so that a reader can tell which stretch is disowned (DESIGN section 6). A deadline that is
served much too late means that this machine stood still: what it did not hear meanwhile says nothing of others.
"""

from __future__ import annotations

from typing import Final

from ledger.events import ClockStepped, NodeStalled
from ledger.node.signals import Now
from ledger.node.state import MS, SECOND, Core

STEP_NS: Final = SECOND
"""Slower drift than this between two looks is for those who discipline clocks."""
STALL_NS: Final = 2 * SECOND


def look(core: Core, now: Now) -> None:
    """Take up the time. Events told from here on bear it."""
    before, core.now = core.now, now
    by_ns = (now.wall_ns - before.wall_ns) - (now.mono_ns - before.mono_ns)
    if abs(by_ns) >= STEP_NS:
        core.tell(ClockStepped(max(-(2**60), min(by_ns, 2**60))))
    due = core.deadline()
    if due is not None and now.mono_ns - due >= STALL_NS and core.memo.get(("stalled",)) != due:
        core.memo["stalled",] = due
        core.tell(NodeStalled((now.mono_ns - due) // MS))
