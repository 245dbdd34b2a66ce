"""The naive cluster, the oracle of the tests: entries in lists, every answer by looking through them from the start.

It follows DESIGN sections 6 to 8 sentence by sentence and cares for nothing else: no state is kept from one question to
the next, nothing is indexed, nothing is clever. It imports nothing of ours but what happened and who said it.
`Model(feeds).at(T)` gives the whole state at T in the shape of `at`'s JSON.
"""

from datetime import UTC, datetime, timedelta
from functools import cached_property

from model_members import Line, Members

from ledger import events as ev
from ledger.entry import Opaque

GOOD = (ev.LinkEstablished, ev.PingAnswered)
BAD = (ev.LinkLost, ev.LinkFailed)
PINGS = (ev.PingAnswered, ev.PingFailed)
ABOUT_LINKS = (*GOOD, *BAD, ev.PingFailed)


def rfc3339(at_ns):
    """RFC 3339 in UTC, with exactly as many decimals as needed."""
    seconds, rest = divmod(at_ns, 10**9)
    whole = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return whole + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def effective_instants(entries):
    """For each (at_ns, boot, mono_ns, event): its own wall clock, or that of the latest later step backward which is
    earlier than it and than everything between the two; and of all these the greatest so far.
    """
    result = []
    for place, (own_ns, *_rest) in enumerate(entries):
        counts_ns = own_ns
        for later in range(place + 1, len(entries)):
            step_ns, event = entries[later][0], entries[later][3]
            backward = isinstance(event, ev.NodeStarted) or (isinstance(event, ev.ClockStepped) and event.by_ns < 0)
            if backward and all(between[0] > step_ns for between in entries[place:later]):
                counts_ns = step_ns
        result.append(max([counts_ns, *result[-1:]]))
    return result


class Model:
    """Everything there is: `feeds` maps each feed to its complete list of (at_ns, boot, mono_ns, event)."""

    def __init__(self, feeds):
        self.lines = {
            feed: [
                Line(feed, index, entry[0], entry[3], effective_ns)
                for index, (entry, effective_ns) in enumerate(zip(entries, effective_instants(entries), strict=True), 1)
            ]
            for feed, entries in sorted(feeds.items())
        }

    def instants(self):
        """All effective instants, ascending."""
        return sorted({line.effective_ns for lines in self.lines.values() for line in lines})

    def moment(self, now_ns):
        """The mesh at `now_ns`, to be asked."""
        return Moment(self, now_ns)

    def at(self, now_ns):
        """The whole state at `now_ns`, as `at` prints it."""
        return self.moment(now_ns).answer()


class Moment(Members):
    """The mesh at one instant: who is in (`model_members`), and what is so among them."""

    def __init__(self, model, now_ns):
        self.model = model
        self.now_ns = now_ns
        self.seen = {feed: [line for line in lines if line.effective_ns <= now_ns] for feed, lines in model.lines.items()}

    def clock(self, _feed):
        """The moment on a feed's own clock."""
        return self.now_ns

    # ---- settings, plans, coverage ----------------------------------------------------------------------------------

    @cached_property
    def settings(self):
        """The settings in force: highest generation, then the smaller machine name; of one machine the latest. (Where two
        feeds of one machine and epoch tie, which is nobody's promise, the smaller feed id.)
        """
        rows = [line for line in self.of_kind(ev.SettingsChanged) if self.counts(line)]
        rows.sort(key=lambda row: (-row.event.generation, row.feed.machine, -row.feed.epoch, row.feed.id, -row.index))
        return rows[0].event if rows else ev.SettingsChanged(0)

    @property
    def interval_ns(self):
        return self.settings.ping_interval_ms * 10**6

    def is_planned(self, machine):
        """Whether the last counting word on it is that it is administratively disconnected."""
        words = self.of_kind(ev.MachineDisconnected, ev.MachineReconnected)
        words = [line for line in words if line.event.machine == machine and self.counts(line)]
        return bool(words) and isinstance(max(words, key=lambda line: line.display).event, ev.MachineDisconnected)

    def speaking(self, machine):
        """The feed that speaks for a machine: its own newest one that has begun. None if there is none."""
        begun = [feed for feed in self.own_feeds(machine) if self.seen[feed]]
        return max(begun, default=None)

    def is_covered(self, feed):
        """Whether the feed covers the moment: brute force over all of its entries, also those yet to come."""
        lines, now_ns = self.model.lines[feed], self.clock(feed)
        if not lines[0].effective_ns <= now_ns <= lines[-1].effective_ns + 4 * self.interval_ns:
            return False
        for place, line in enumerate(lines):
            later = lines[place + 1 :]
            if isinstance(line.event, ev.NodeStopped):
                hole = line.effective_ns, [each for each in later if isinstance(each.event, ev.NodeStarted)]
            elif isinstance(line.event, Opaque):
                hole = line.effective_ns, [each for each in later if not isinstance(each.event, Opaque)]
            elif later and isinstance(later[0].event, ev.NodeStarted):
                hole = line.effective_ns + self.interval_ns * 5 // 2, later
            else:
                continue
            if hole[0] <= now_ns and (not hole[1] or now_ns < hole[1][0].effective_ns):
                return False
        return True

    # ---- links and what follows from them ---------------------------------------------------------------------------

    def link(self, observer, peer):
        """(state, reason, since_ns, since_pos) of a directed link."""
        feed = self.speaking(observer)
        lines = self.seen[feed] if feed else []
        if not any(isinstance(line.event, ABOUT_LINKS) and line.event.peer == peer for line in lines):
            return "unknown", None, None, None
        silent_ns, generation = 150 * 10**9, -1
        state, reason, since_ns, since_pos = "unknown", None, None, None
        heard = None  # the last evidence about the link
        for line in lines:
            event, now_ns = line.event, line.effective_ns
            if isinstance(event, ev.SettingsChanged) and event.generation >= generation:
                silent_ns, generation = event.ping_interval_ms * 2_500_000, event.generation
            if isinstance(event, ev.NodeStarted):
                state, reason, since_ns, since_pos = "unknown", None, now_ns, line.pos
            if not isinstance(event, ABOUT_LINKS) or event.peer != peer:
                continue
            if state == "up" and now_ns - heard.effective_ns >= silent_ns:
                state, reason, since_ns, since_pos = "unknown", None, heard.effective_ns + silent_ns, heard.pos
            if isinstance(event, GOOD) and state != "up":
                state, reason, since_ns, since_pos = "up", None, now_ns, line.pos
            if isinstance(event, BAD) and state != "down":
                state, reason, since_ns, since_pos = "down", event.reason, now_ns, line.pos
            heard = line
        goes_on_to_ns = min(self.clock(feed), self.model.lines[feed][-1].effective_ns)
        silent_ns = self.interval_ns * 5 // 2
        if state == "up" and goes_on_to_ns - heard.effective_ns >= silent_ns:
            return "unknown", None, heard.effective_ns + silent_ns, heard.pos
        return state, reason, since_ns, since_pos

    @cached_property
    def links(self):
        return {(a, b): self.link(a, b) for a in self.members for b in self.members if a != b}

    def pings(self, observer, peer):
        """All ping results of a directed pair, oldest first."""
        return [
            line
            for feed in self.own_feeds(observer)
            for line in self.seen[feed]
            if isinstance(line.event, PINGS) and line.event.peer == peer
        ]

    def link_answer(self, observer, peer):
        state, reason, since_ns, since_pos = self.links[observer, peer]
        pings = self.pings(observer, peer)
        last = None
        if pings:
            answered = isinstance(pings[-1].event, ev.PingAnswered)
            last = {
                "at": rfc3339(pings[-1].effective_ns),
                "outcome": "answered" if answered else pings[-1].event.reason,
                "rtt_us": pings[-1].event.rtt_us if answered else None,
            }
        return {
            "state": state, "reason": reason, "since": None if since_ns is None else rfc3339(since_ns), "since_pos": since_pos,
            "last_ping": last, "sent": len(pings), "lost": sum(isinstance(ping.event, ev.PingFailed) for ping in pings),
        }  # fmt: skip

    def linkless(self, observer, peer):
        """How many results were recorded for want of a link."""
        return sum(isinstance(p.event, ev.PingFailed) and p.event.link is None for p in self.pings(observer, peer))

    @cached_property
    def knowing(self):
        """The members whose word holds at the moment."""
        return [member for member in self.members if (feed := self.speaking(member)) and self.is_covered(feed)]

    def communicating(self, machine):
        """True if a link with it is up, as far as covered feeds know, or nobody else is there; False if all are known down."""
        others = [member for member in self.members if member != machine]
        if not others:
            return True
        ends = [pair for other in others for pair in ((other, machine), (machine, other))]
        states = {self.links[a, b][0] if a in self.knowing else "unknown" for a, b in ends}
        return True if "up" in states else False if states == {"down"} else None

    def cause(self, machine):
        """Why a member does not communicate, or may not: the class of it, None if it does."""
        if self.communicating(machine):
            return None
        if self.is_planned(machine):
            return "disconnected"
        looked_up = [
            line
            for line in self.of_kind(ev.NameResolved, ev.NameFailed)
            if line.event.direction == "forward" and line.event.name == self.hostname(machine)
            if line.feed in [self.speaking(member) for member in self.machines]
        ]
        if looked_up:
            latest = max(looked_up, key=lambda line: line.display).event
            if isinstance(latest, ev.NameFailed) or latest.outcome != "answered":
                return "name-unresolvable"
        known = [link for (a, b), link in self.links.items() if machine in (a, b) and a in self.knowing]
        reasons = [reason for state, reason, *_since in known if state == "down"]
        return min(reasons, key=lambda reason: (-reasons.count(reason), reason), default=None)

    def pair(self, a, b):
        """The first that applies."""
        if a not in self.members or b not in self.members:
            return "absent"
        if self.is_planned(a) or self.is_planned(b):
            return "planned"
        if a not in self.knowing or b not in self.knowing:
            return "uncovered"
        states = {self.links[a, b][0], self.links[b, a][0]}
        if "unknown" in states:
            return "unknown"
        return states.pop() if len(states) == 1 else "asymmetric"

    @cached_property
    def pairs(self):
        return {(a, b): self.pair(a, b) for a in self.members for b in self.members if a < b}

    def reach(self, start, states):
        """All simple paths from `start` over pairs in one of `states`, by length, then by the names on them."""
        layer = [(start,)]
        while layer:
            yield from layer
            layer = sorted(
                (*path, name)
                for path in layer
                for name in self.members
                if name not in path and self.pairs[min(path[-1], name), max(path[-1], name)] in states
            )

    def route(self, start, goal):
        """The first path there is; None if there were none even if all that may be up were; else "unknown"."""
        for path in self.reach(start, {"up"}):
            if path[-1] == goal:
                return list(path)
        possible = any(path[-1] == goal for path in self.reach(start, {"up", "unknown", "uncovered"}))
        return "unknown" if possible else None

    # ---- the answer -------------------------------------------------------------------------------------------------

    def machine(self, machine):
        all_of_it, standing = self.joins_of(machine)
        entry = standing[0] if standing else max((r for join, r in self.removals if join in all_of_it), key=lambda r: r.display)
        return {
            "member": bool(standing),
            "communicating": self.communicating(machine) if standing else False,
            "cause": self.cause(machine) if standing else entry.event.cause,
            "hostname": self.hostname(machine),
            "since": rfc3339(entry.effective_ns),
            "since_pos": entry.pos,
        }

    def coverage(self, machine):
        if machine not in self.knowing:
            return None
        last = self.seen[self.speaking(machine)][-1]
        return {"until_pos": last.pos, "until": rfc3339(last.effective_ns)}

    def answer(self):
        created = self.created
        return {
            "at": rfc3339(self.now_ns),
            "as_seen_by": None,
            "cluster": {
                "name": created.name if created else None,
                "incarnation": min((feed.incarnation for feed in self.seen), default=None),
                "transport": created.transport if created else None,
                "members": self.members,
            },
            "machines": {machine: self.machine(machine) for machine in self.machines},
            "links": {f"{a}:{b}": self.link_answer(a, b) for a in self.members for b in self.members if a != b},
            "pairs": {f"{a}={b}": state for (a, b), state in self.pairs.items()},
            "routes": {f"{a}:{b}": self.route(a, b) for a in self.members for b in self.members if a != b},
            "coverage": {machine: self.coverage(machine) for machine in self.members},
        }
