"""Seeded edits of the shipped code, each of which some invariant must notice: the table, and how an edit is made.

An edit replaces one piece of a function's source and swaps the function's code in place, so that every room that imported it runs
the edited one; afterwards the code is what it was. The piece must stand there exactly once: an edit that no longer applies
fails the test instead of passing it.
"""

# ruff: noqa: E501  a table
from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """An edit, and the invariant that kills it: in the function `place` (`room:Class.function`) `old` becomes `new`."""

    invariant: str
    place: str
    old: str
    new: str
    what: str


MUTANTS = (
    Mutant("A1", "ledger.feeds:FeedReader._placed", "strict=True), first)", "strict=True), first + (first > 1))", "positions after a seal move on by one"),
    Mutant("A2", "ledger.writer:FeedWriter._insert_record", "codec.leaf_of(record)", "codec.leaf_of(msgspec.structs.replace(record, controls=()))", "control entries are left out of what is hashed"),
    Mutant("A5", "projections.links:lost", 'LinkState("down", reason', 'LinkState("up", reason', "a lost link stays up"),
    Mutant("A6", "projections.feed_state:_started", "for peer, link in state.links.items():", "for peer, link in ():", "links are carried over a restart"),
    Mutant("A9", "ledger.rehearsal:Rehearsal._round", "if peer is not machine:", "if peer is not machine and machine.numbers.get(peer.name, 0) < 3:", "a machine stops pinging"),
    Mutant("A10", "ledger.rehearsal:Rehearsal._ping", "actor.numbers.get(peer.name, 0) + 1", "actor.numbers.get(peer.name, 0) // 2 + 1", "numbers of pings are used again"),
    Mutant("A12", "ledger.rehearsal:Rehearsal._ping", "elif not peer.running:", "elif not peer.running:\n        return\n    elif not peer.running:", "time-outs are swallowed"),
    Mutant("A13", "ledger.rehearsal:Rehearsal._ping", "if link is None:", "if link is None:\n        return\n    if link is None:", "a lost link is forgotten"),
    Mutant("B1", "replay.copies:join", "return longer\n", "return one\n", "the first copy wins, not the longest"),
    Mutant("B2", "projections.cluster:Cluster.settings", "min(found, key=lambda row: row[:5])[5]", "found[0][5]", "the first feed's settings win"),
    Mutant("B5", "projections.cluster:Cluster.pairs", '"unknown" if "unknown" in {there, back} else "asymmetric"', '"up" if "up" in {there, back} else "unknown"', "one side that is up is enough"),
    Mutant("B9", "ledger.world_mesh:_timed_out", "if missed >= stage.lost_after:", "if missed >= 10**9:", "nobody gives up a silent peer"),
    Mutant("B12", "projections.cluster:Cluster.speakers", "states[-1]", "states[0]", "a machine speaks by its first epoch"),
    Mutant("C1", "projections.feed_state:_note", "state.notes += 1", "state.notes += 1 + _note.__dict__.setdefault('seen', 0); _note.seen += 1", "a fold remembers those before it"),
    Mutant("C2", "replay.history:History._whole", "reader.runs(after, whole)", "reader.runs(min(after + 1, whole) if after else 0, whole)", "the record after a snapshot is left out"),
    Mutant("C3", "ledger.open_part:OpenPart.tally", "bisect_right(walls, until)", "bisect_right(walls, until + 10**12)", "an answer takes in what came later"),
    Mutant("C4", "projections.pings:failed", "ping.lost + count", "ping.lost + (count if linkless else 0)", "losses over a link are not counted"),
    Mutant("C6", "ledger.codec:decode_event", "if version == known.version:", "if version:", "an old shape is read as today's"),
    Mutant("C8", "ledger.store:Ledger.transaction", "self._connection.execute(end)", "None", "what was acknowledged is not on the disk"),
    Mutant("C10", "ledger.writer:FeedWriter.append", "if expect is not None and expect != self.head.last:", "if expect is not None and expect > self.head.last:", "a retry appends again"),
    Mutant("C11", "ledger.row_reader:RowReader._record", "rows.row_sum(*found[:-1]) != record.sum or", "", "rows are believed without their sums"),
)  # fmt: skip


@contextmanager
def edited(mutant: Mutant) -> Iterator[None]:
    """The shipped code with this edit, for the length of a block."""
    room, _, name = mutant.place.partition(":")
    module = import_module(room)
    function = _function(module, name)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(mutant.old) != 1:
        raise LookupError(f"{mutant.place}: {mutant.old!r} stands there {source.count(mutant.old)} times")
    lines = source.replace(mutant.old, mutant.new)
    bare = "\n".join(line for line in lines.split("\n") if not line.startswith("@"))
    made: dict[str, Any] = {}
    exec(compile(bare, mutant.place, "exec", dont_inherit=True, flags=_FLAGS), module.__dict__, made)  # noqa: S102  our own source
    changed = next(iter(made.values())).__code__
    kept = function.__code__
    if changed.co_freevars != kept.co_freevars:
        raise LookupError(f"{mutant.place} closes over {kept.co_freevars}")
    function.__code__ = changed
    try:
        yield
    finally:
        function.__code__ = kept


_FLAGS = __import__("__future__").annotations.compiler_flag


def _function(module: Any, name: str) -> Any:
    """The plain function behind a name: of a method, a cached property, a context manager."""
    found = module
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    for wrapped in ("func", "fget", "__func__", "__wrapped__"):
        found = getattr(found, wrapped, found)
    return found
