"""The dice behind the benchmark's log: a cluster that never was, round by round.

N machines ping each other every 60 s, spread over the interval. Machines join, leave, change names, restart and fall
silent; links flap; a partition comes and heals; loss comes in bursts; round trips are lognormal around a base of each pair.
Clocks are their own: the wall within milliseconds, the monotonic one off by a few parts per million and new at each boot.

What comes out are flat rows in whole microseconds, cheap to make and to keep; `workload` makes entries of them. Nothing
but `random.Random(seed)` decides.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator
from operator import itemgetter
from statistics import NormalDist

import msgspec

from ledger import events as happened
from ledger.events import Event
from ledger.identity import IMPORTED, Feed

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
INTERVAL_US = 60_000_000
TIMEOUT_US = 15_000_000
LOST_AFTER = 3
QUIET_US = 2_500_000  # what happens to machines and links happens in the first 2.5 s of a round, pings after it
BURST = 0.0009  # the chance that a ping begins a burst of losses, of two pings on average
TABLE = 4096
ANSWERED_FIELDS, CONTROL_FIELDS = 13, 5  # of a row: a ping that was answered, anything that is no ping
at_of = itemgetter(0)

# The rates, per round of the whole cluster, at which things happen, and how many rounds they last.
RATES = {"leave": 0.0026, "rename": 0.0017, "flap": 0.05, "restart": 0.003, "outage": 0.0005, "partition": 0.00015}
LASTING = {"leave": (10, 600), "outage": (2, 30), "partition": (3, 20)}
OVERTURE = {1: ("rename", "flap"), 2: ("partition",), 3: ("restart",), 4: ("leave",), 5: ("outage",)}
"""So that also a log of 3,000 events has each of them, briefly."""

PEER, SLOT, BASE, SHARE, NUMBER, LINK, BAD, FAILS, HELD = range(9)  # the fields of a directed pair


def feeds(machines: int = 20, seed: int = 1) -> list[Feed]:
    """The feeds of the workload, in order. They are an import's: no ledger keys, each machine its own root."""
    incarnation = f"{IMPORTED}bench-{seed}"
    return [Feed.of(incarnation, f"m{number:02d}") for number in range(1, machines + 1)]


def _table(quantile: float, *, median: float) -> list[float]:
    """A lognormal's quantiles at TABLE + 1 places, to draw from without its price."""
    normal = NormalDist()
    return [median * math.exp(quantile * normal.inv_cdf((place + 0.5) / (TABLE + 1))) for place in range(TABLE + 1)]


class Machine:
    """One machine's clocks, its feed so far, and what of it is still to come."""

    __slots__ = (
        "boot",
        "calls",
        "hostname",
        "length",
        "name",
        "number",
        "off",
        "pairs",
        "rate",
        "rows",
        "running",
        "tick",
        "wall",
    )

    def __init__(self, number: int, name: str, dice: random.Random) -> None:
        self.number, self.name = number, name
        self.hostname = f"{name}.lab.example"
        self.rate = 1.0 + dice.uniform(-20e-6, 20e-6)
        self.wall = START_US + dice.randrange(-4000, 4000)
        self.length = 0
        self.rows: list[tuple] = []
        self.running = True
        self.calls = 0
        self.tick = 0
        self.boot, self.off = 0, 0
        self.pairs: dict[int, list] = {}

    def start(self, now: int, dice: random.Random) -> None:
        """A new boot: a new number, later than the last, and a monotonic clock that has run a while."""
        self.boot = (START_US + now) // 1000
        self.off = dice.randrange(20_000_000, 400_000_000_000) - now
        self.running = True


class World:
    """The cluster as it goes. `rounds()` gives what each machine wrote in each interval."""

    def __init__(self, machines: int, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.feeds = feeds(machines, seed)
        self.machines = [Machine(number, feed.machine, dice) for number, feed in enumerate(self.feeds)]
        self.members = set(range(machines))
        self.joins: dict[int, list[str]] = {number: [] for number in range(machines)}
        self.links: list[str] = [""]  # number 0 is no link
        self.due: dict[tuple[int, int], int] = {}  # pairs without a link, and the round of the next dial
        self.losing: list[tuple[int, int]] = []  # links given up in the last round, by whom
        self.returns: dict[int, list[tuple[str, int]]] = {}
        self.island: set[int] = set()
        self.named: set[int] = set()  # feeds in whose rows of this round an own position must be filled in
        self.start = 0
        for machine in self.machines:
            gap = (INTERVAL_US - QUIET_US - 1_000_000) // max(machines - 1, 1)
            places = list(range(machines - 1))
            dice.shuffle(places)
            others = [other for other in range(machines) if other != machine.number]
            for place, peer in zip(places, others, strict=True):
                base = math.exp(dice.gauss(10.4, 0.9))  # median 33 ms
                slot = QUIET_US + 250_000 + place * gap + dice.randrange(0, 100_000)
                machine.pairs[peer] = [peer, slot, base, dice.uniform(0.40, 0.52), 0, 0, 0, 0, 0]
        for a, machine in enumerate(self.machines):
            for b in range(a):
                machine.pairs[b][BASE] = self.machines[b].pairs[a][BASE]  # one path, both ways

    # What a machine writes besides pings.

    def say(self, machine: Machine, event: Event) -> None:
        """`machine` writes `event` in the quiet part of this round, after what it wrote there before."""
        machine.tick += self.dice.randrange(200, 20_000)
        now = self.start + machine.tick
        machine.rows.append(
            (now + machine.wall, int(now * machine.rate) + machine.off, machine.boot, event.kind, msgspec.to_builtins(event))
        )

    def open_feed(self, machine: Machine) -> None:
        feed = self.feeds[machine.number]
        machine.start(0, self.dice)
        self.say(machine, happened.FeedOpened(feed.incarnation, feed.machine, feed.epoch))
        self.say(machine, happened.MachineJoined(machine.name, machine.hostname, 22, "mesh"))
        self.say(machine, happened.SettingsChanged(1, ping_timeout_ms=TIMEOUT_US // 1000, lost_after=LOST_AFTER))
        self.say(machine, happened.NodeStarted(machine.boot, "0.1.0"))
        self.named.add(machine.number)

    def connect(self, a: int, b: int) -> None:
        """A new link stands between two machines; both write it, and what they last heard over the old one."""
        self.due.pop((a, b), None)
        self.links.append(f"{self.dice.getrandbits(64):016x}")
        for near, far, side in ((a, b, "dialled"), (b, a, "accepted")):
            machine, peer = self.machines[near], self.machines[far]
            pair, back = machine.pairs[far], peer.pairs[near]
            pair[LINK], pair[BAD], pair[FAILS] = len(self.links) - 1, 0, 0
            link = self.links[-1]
            self.say(machine, happened.LinkEstablished(peer.name, link, f"10.0.0.{far + 1}", "ssh", side))  # type: ignore[arg-type]
            if back[NUMBER]:
                self.say(machine, happened.PingHeard(peer.name, back[NUMBER]))

    def cut(self, a: int, b: int, near: str, far: str, redial: int) -> None:
        """The link between two machines is gone; those that run write it, `a` with reason `near`, `b` with `far`."""
        low, high = min(a, b), max(a, b)
        for one, other, reason in ((a, b, near), (b, a, far)):
            machine, peer = self.machines[one], self.machines[other]
            pair = machine.pairs[other]
            link, pair[LINK], pair[BAD], pair[FAILS] = pair[LINK], 0, 0, 0
            if link and machine.running:
                detail = f"[Errno 110] {reason}" if reason != "left" else ""
                address = f"10.0.0.{other + 1}"
                self.say(machine, happened.LinkLost(peer.name, reason, self.links[link], address, peer.name, detail))  # type: ignore[arg-type]
        self.due.setdefault((low, high), redial)

    def cut_all(self, number: int, near: str, far: str, redial: int) -> None:
        for other in sorted(self.members):
            if other != number and self.machines[number].pairs[other][LINK]:
                self.cut(number, other, near, far, redial)

    def dial(self, turn: int) -> None:
        """Whoever has no link to a member dials: it stands, or the dialler writes why not."""
        for (a, b), when in sorted(self.due.items()):
            if a not in self.members or b not in self.members:
                del self.due[a, b]
            elif when > turn:
                continue
            elif self.machines[a].running and self.machines[b].running and (a in self.island) == (b in self.island):
                self.connect(a, b)
            else:
                self.due[a, b] = turn + 1 + self.dice.randrange(2)
                dialler = self.machines[a if self.machines[a].running else b]
                if dialler.running:
                    other = self.machines[b if dialler.number == a else a]
                    reason = "timeout" if other.running else "refused"
                    address = f"10.0.0.{other.number + 1}"
                    self.say(
                        dialler, happened.LinkFailed(other.name, reason, None, address, None, "[Errno 113] No route to host")
                    )  # type: ignore[arg-type]

    # What happens to machines.

    def leave(self, number: int) -> None:
        machine = self.machines[number]
        machine.rows.clear()
        self.say(machine, happened.MachineLeft(machine.name, tuple(self.joins[number]), 0, "left", machine.name))
        self.joins[number] = []
        machine.running = False
        self.named.add(number)
        self.cut_all(number, "left", "left", 0)
        self.members.discard(number)

    def rejoin(self, number: int, turn: int) -> None:
        machine = self.machines[number]
        admitter = self.machines[min(other for other in self.members if self.machines[other].running)]
        admitter.tick += 100_000
        self.members.add(number)
        joined = happened.MachineJoined(machine.name, machine.hostname, 22, "mesh", held=machine.length)
        self.say(admitter, joined)
        self.named.add(admitter.number)
        self.back(number, turn)

    def back(self, number: int, turn: int) -> None:
        machine = self.machines[number]
        machine.start(self.start, self.dice)
        machine.tick = 600_000
        self.say(machine, happened.NodeStarted(machine.boot, "0.1.0"))
        for other in sorted(self.members - {number}):
            machine.pairs[other][BAD] = 0
            self.due[min(number, other), max(number, other)] = turn

    def happen(self, what: str, turn: int, lasting: int) -> None:
        """One of OVERTURE's or RATES' things, to machines drawn for it."""
        dice, fit = self.dice, [number for number in sorted(self.members) if self.machines[number].running]
        if len(fit) * 3 < len(self.machines) * 2 or len(fit) < 3:
            return
        number = dice.choice(fit[1:])  # the first machine stays, so that somebody can admit
        machine = self.machines[number]
        if what == "rename":
            machine.calls += 1
            new = f"{machine.name}-{machine.calls}.lab.example"
            self.say(machine, happened.HostnameChanged(machine.hostname, new))
            machine.hostname = new
        elif what == "flap":
            other = dice.choice([peer for peer in fit if peer != number])
            if machine.pairs[other][LINK]:
                self.cut(number, other, "reset", "closed", turn)
        elif what == "restart":
            machine.rows.clear()
            self.say(machine, happened.NodeStopped(machine.boot, "0.1.0"))
            machine.running = False
            self.cut_all(number, "closed", "closed", turn)
            self.back(number, turn)
        elif what == "leave":
            self.leave(number)
            self.returns.setdefault(turn + lasting, []).append(("join", number))
        elif what == "outage":
            machine.rows.clear()
            machine.running = False
            self.cut_all(number, "timeout", "timeout", turn + 1)
            self.returns.setdefault(turn + lasting, []).append(("start", number))
        elif what == "partition" and not self.island:
            self.island = set(dice.sample(fit, len(fit) // 3 + 1))
            for a in fit:
                for b in fit:
                    if a < b and (a in self.island) != (b in self.island) and self.machines[a].pairs[b][LINK]:
                        self.cut(a, b, "timeout", "timeout", turn + 1)
            self.returns.setdefault(turn + lasting, []).append(("heal", 0))

    def quiet(self, turn: int) -> None:
        """The first seconds of a round: what happens to machines and links."""
        dice = self.dice
        for machine in self.machines:
            machine.tick = dice.randrange(10_000, 60_000)
            machine.wall += dice.randrange(-40, 41)
        if turn == 0:
            for machine in self.machines:
                self.open_feed(machine)
            self.due = {(a, b): 0 for b in range(len(self.machines)) for a in range(b)}
        losing, self.losing = self.losing, []
        for a, b in losing:
            if self.machines[a].running and self.machines[a].pairs[b][LINK]:
                self.cut(a, b, "timeout", "closed", turn + 1 + min(int(dice.expovariate(0.7)), 20))
        for what, number in self.returns.pop(turn, ()):
            if what == "heal":
                self.island = set()
            elif what == "join":
                self.rejoin(number, turn)
            else:
                self.back(number, turn)
        for what in OVERTURE.get(turn, ()):
            self.happen(what, turn, 1 if what == "outage" else 2)
        for what, rate in RATES.items():
            if turn and dice.random() < rate:
                self.happen(what, turn, dice.randint(*LASTING[what]) if what in LASTING else 0)
        self.dial(turn)

    # The pings.

    def rounds(self) -> Iterator[list[list[tuple]]]:
        """For each interval, for each machine, the rows it wrote in it, by instant."""
        dice = self.dice
        rnd, bits = dice.random, dice.getrandbits
        machines, members = self.machines, self.members
        table = _table(0.18, median=1.0)
        slope = [table[place + 1] - table[place] for place in range(TABLE)]
        holds = [int(us) + 20 for us in _table(0.6, median=90.0)]  # what the peer needs to reply
        lates = [int(us) + 5 for us in _table(0.7, median=35.0)]  # from the frame's arrival to the entry
        turn = 0
        while True:
            start = self.start = turn * INTERVAL_US
            self.quiet(turn)
            rates = [machine.rate for machine in machines]
            offs = [machine.off for machine in machines]
            boots = [machine.boot for machine in machines]
            lengths = [machine.length + sum(len(row) == CONTROL_FIELDS for row in machine.rows) for machine in machines]
            pace = [machine.running * (len(members) - 1) / INTERVAL_US for machine in machines]
            result = []
            for machine in machines:
                rows = machine.rows
                if machine.running and machine.number in members:
                    append = rows.append
                    rate, off, boot, wall = machine.rate, machine.off, machine.boot, machine.wall
                    for pair in machine.pairs.values():
                        peer, slot, base, share, number, link, bad, _, held_before = pair
                        if peer not in members:
                            continue
                        number += 1
                        pair[NUMBER] = number
                        sent_at = start + slot + int(400_000 * rnd()) - 200_000
                        chance = rnd()
                        held = lengths[peer]
                        if chance < BURST or bad or not link:
                            append(self.fail(machine, pair, sent_at))
                            continue
                        x = rnd() * TABLE
                        place = int(x)
                        rtt = int(base * (table[place] + (x - place) * slope[place]))
                        dial = bits(26)
                        hold = holds[dial & 4095]
                        ahead = int((sent_at - start) * pace[peer]) - 2 - (dial >> 24)  # less what is in flight
                        if ahead > 0:
                            held += ahead
                        if held < held_before:
                            held = held_before
                        else:
                            pair[HELD] = held
                        sent = int(sent_at * rate) + off
                        received = int((sent_at + int(rtt * (share + 0.08 * chance))) * rates[peer]) + offs[peer]
                        took = rtt + hold
                        late = took + lates[(dial >> 12) & 4095]
                        append((
                            sent_at + late + wall, sent + late, boot, peer, number, rtt, link,
                            sent, received, received + hold, sent + took, boots[peer], held,
                        ))  # fmt: skip
                rows.sort(key=at_of)
                cut = bisect.bisect_left(rows, machine.wall + start + INTERVAL_US, key=at_of)
                machine.rows = rows[cut:]
                result.append(rows[:cut])
                if machine.number in self.named:
                    self.name_own(machine, rows[:cut])
                machine.length += cut
            self.named.clear()
            yield result
            turn += 1

    def fail(self, machine: Machine, pair: list, sent_at: int) -> tuple:
        """The row of a ping that failed: no link, or a loss of a burst, which may cost the link."""
        reason = "no-route"
        late = 0
        if pair[LINK]:
            reason, late = "timeout", TIMEOUT_US
            if not pair[BAD]:
                pair[BAD] = 1 + min(int(self.dice.expovariate(0.6931)), 30)
                pair[FAILS] = 0
            pair[BAD] -= 1
            pair[FAILS] += 1
            if pair[FAILS] == LOST_AFTER:
                self.losing.append((machine.number, pair[PEER]))
        mono = int(sent_at * machine.rate) + machine.off + late
        return sent_at + late + machine.wall, mono, machine.boot, pair[PEER], pair[NUMBER], reason, pair[LINK], pair[HELD]

    def name_own(self, machine: Machine, rows: list[tuple]) -> None:
        """Fill in what only the place in the feed tells: the positions of joins, and what a leaver had written."""
        for index, row in enumerate(rows, machine.length + 1):
            if row[3] == "machine.joined":
                who = int(row[4]["machine"][1:]) - 1
                self.joins[who].append(self.feeds[machine.number].at(index))
            elif row[3] == "machine.left":
                row[4]["held"] = index
