"""What is blamed did it: without the entry the field is another."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from recorded import keepable, on_disk

from ledger import events as ev
from ledger.errors import Refused
from ledger.testing import History, histories
from replay.blame import blame

TOUCHED = {"state", "since", "lost", "last_good", "last_ping", "rtt_us", "hostname", "member", "version", "disconnected", "port"}


@given(histories(size_max=20), st.data())
def test_without_the_entry_the_field_is_another(history: History, data: st.DataObject) -> None:
    """Put a note in the place of the entry that is blamed: the field has another value then, or another author."""
    history = keepable(history)
    with on_disk(history) as opened:
        machines = sorted({feed.machine for feed in opened.feeds})
        cells = [*machines, *(f"{a}:{b}" for a in machines for b in machines if a != b)]
        cell = data.draw(st.sampled_from(cells))
        found = blame(opened, cell, "end")
        named = [each for each in found.fields if each.pos is not None and each.field in TOUCHED]
        if not named:
            return
        field = data.draw(st.sampled_from(named))
        entry = opened.entry(field.pos)
        at_ns = opened.end_ns()
    log = history[entry.feed].copy()
    log[entry.index - 1] = msgspec.structs.replace(log[entry.index - 1], event=ev.NoteAdded("nothing of it"))
    with on_disk({**history, entry.feed: log}) as opened:
        try:
            other = {each.field: each for each in blame(opened, cell, at_ns).fields}[field.field]
        except Refused:
            return  # it was the join without which nobody knows the machine
        assert (other.value, other.pos) != (field.value, field.pos)
