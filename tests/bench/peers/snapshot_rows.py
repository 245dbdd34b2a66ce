"""The textbook answer to "the state at T": rows in order of time, a snapshot each 10,000 of them, and the tail.

Rows are clustered by (at_ns, feed, idx), as a log that all machines write together would stand. When the store is closed,
one pass writes a snapshot of the whole state, counts included, for each 10,000 rows. State at T is the newest snapshot
before T, unpacked, and the rows from there to T, folded in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

import msgspec
from bench.digest import ANSWERED, DOWN, FAILED, UP, State, members
from bench.peers.contestant import ANSWERED_KIND, DOWN_KINDS, FAILED_KIND, JOINED_KIND, LEFT_KIND, UP_KIND, Absent
from bench.peers.sqlite3_rows import SqliteRows

from ledger.identity import Feed

EVERY = 10_000
READ = "SELECT feed, idx, at_ns, kind, peer, rtt_us, body FROM event"


class Tail:
    """The state while rows are folded into it: what a snapshot holds."""

    def __init__(self, packed: bytes | None = None) -> None:
        held = msgspec.msgpack.decode(packed) if packed else ([], [], [], [])
        self.pings: dict[int, list] = dict(held[0])  # feed * 4096 + peer -> cell
        self.links: dict[int, bool] = dict(held[1])
        self.joins: list[list] = held[2]
        self.ended: list[str] = held[3]

    def pack(self) -> bytes:
        return msgspec.msgpack.encode((list(self.pings.items()), list(self.links.items()), self.joins, self.ended))

    def fold(self, rows: Iterable[tuple]) -> None:
        pings, links = self.pings, self.links
        for feed, index, at_ns, kind, peer, rtt_us, body in rows:
            if kind == ANSWERED_KIND:
                key = feed * 4096 + peer
                cell = pings.get(key)
                if cell is None:
                    pings[key] = [index, True, at_ns, rtt_us, 1, 0]
                else:
                    cell[:] = index, True, at_ns, rtt_us, cell[4] + 1, cell[5]
                links[key] = True
            elif kind == FAILED_KIND:
                cell = pings.setdefault(feed * 4096 + peer, [0, False, None, None, 0, 0])
                cell[0], cell[1] = index, False
                cell[4] += 1
                cell[5] += 1
            elif kind == UP_KIND:
                links[feed * 4096 + peer] = True
            elif kind in DOWN_KINDS:
                links[feed * 4096 + peer] = False
            elif kind == JOINED_KIND:
                self.joins.append([feed, index, msgspec.json.decode(body)["machine"]])
            elif kind == LEFT_KIND:
                self.ended.extend(msgspec.json.decode(body).get("joins", ()))


class SnapshotRows(SqliteRows):
    """Rows in order of time and a snapshot each 10,000."""

    name = "snapshot per 10,000 rows + tail"
    extra = "PRIMARY KEY (at_ns, feed, idx)"
    counts_then = True

    def create(self, feeds: Sequence[Feed]) -> None:
        super().create(feeds)
        self.db.execute("CREATE TABLE snapshot (at_ns INTEGER PRIMARY KEY, state BLOB)")

    def close(self) -> None:
        tail, rows = Tail(), self.db.execute(f"{READ} ORDER BY at_ns, feed, idx")
        snapshots = []
        while some := rows.fetchmany(EVERY):
            # Rows of one instant are never parted: a snapshot is the state after all that happened until then.
            last = some[-1][2]
            while (more := rows.fetchone()) and more[2] == last:
                some.append(more)
            tail.fold(some)
            snapshots.append((last, tail.pack()))
            if more:
                tail.fold([more])
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT INTO snapshot VALUES (?, ?)", snapshots)
        self.db.execute("COMMIT")
        super().close()

    def replay(self) -> State:
        tail = Tail()
        tail.fold(self.db.execute(f"{READ} ORDER BY at_ns, feed, idx"))
        return self.told(tail)

    def walk(self) -> NoReturn:
        raise Absent("its rows stand by instant, not by feed")

    def state_at(self, at_ns: int) -> State:
        ask = self.db.execute
        since, packed = ask(
            "SELECT at_ns, state FROM snapshot WHERE at_ns <= ? ORDER BY at_ns DESC LIMIT 1", (at_ns,)
        ).fetchone() or (-(2**63), None)
        tail = Tail(packed)
        tail.fold(ask(f"{READ} WHERE at_ns > ? AND at_ns <= ? ORDER BY at_ns, feed, idx", (since, at_ns)))
        return self.told(tail)

    def told(self, tail: Tail) -> State:
        name = self.names.machine
        return State(
            {
                (name[key >> 12], name[key & 4095]): (index, ANSWERED if good else FAILED, at, rtt_us, sent, lost)
                for key, (index, good, at, rtt_us, sent, lost) in tail.pings.items()
            },
            {(name[key >> 12], name[key & 4095]): UP if good else DOWN for key, good in tail.links.items()},
            members(((f"{name[feed]}#{index}", machine) for feed, index, machine in tail.joins), tail.ended),
        )
