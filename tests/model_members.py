"""Who is in: the membership half of the naive cluster (DESIGN section 7, an observed-remove set with authority).

Sets are lists, and a fixpoint is a loop that adds what is allowed until nothing is added. It imports nothing of ours
but what happened and who said it.
"""

from functools import cached_property
from typing import NamedTuple

from ledger import events as ev
from ledger.entry import Opaque
from ledger.identity import IMPORTED, Feed, incarnation_id, parse_position


class Line(NamedTuple):
    """One entry, with the instant it counts for."""

    feed: Feed
    index: int
    at_ns: int
    event: ev.Event | Opaque
    effective_ns: int

    @property
    def pos(self):
        return self.feed.at(self.index)

    @property
    def display(self):
        """The display order, made total by the feed's id."""
        return self.effective_ns, self.feed.machine, self.feed.epoch, self.index, self.feed.id


class Members:
    """What the entries in `seen` (a feed's lines, up to the cut) say about membership."""

    seen: dict[Feed, list[Line]]

    @cached_property
    def words(self):
        """Everything in all feeds that is no ping: few enough to be looked through again and again."""
        pings = (ev.PingAnswered, ev.PingFailed)
        return [line for lines in self.seen.values() for line in lines if not isinstance(line.event, pings)]

    def of_kind(self, *kinds):
        return [line for line in self.words if isinstance(line.event, kinds)]

    @cached_property
    def roots(self):
        """The joins that need nobody's word."""
        found = []
        for feed, lines in self.seen.items():
            own = [line for line in lines if isinstance(line.event, ev.MachineJoined) and line.event.machine == feed.machine]
            if feed.incarnation.startswith(IMPORTED) and feed.ledger_key is None:
                found += own
            founding = [line.index for line in lines if self.founds(line)]
            if founding:
                found += [line for line in own if line.index > founding[0]][:1]
        return found

    def founds(self, line):
        """Whether the feed's key is the one that the incarnation id commits to, by this `cluster.created`."""
        e, feed = line.event, line.feed
        if not isinstance(e, ev.ClusterCreated) or feed.ledger_key is None:
            return False
        committed = incarnation_id(e.name, e.transport, e.addressing, feed.ledger_key, e.salt)
        return committed == e.incarnation == feed.incarnation

    @cached_property
    def created(self):
        """The `cluster.created` that stands: the root's; of imports the first."""
        rows = [
            line
            for line in self.of_kind(ev.ClusterCreated)
            if self.founds(line) or (line.feed.incarnation.startswith(IMPORTED) and line.feed.ledger_key is None)
        ]
        return min(rows, key=lambda line: line.display).event if rows else None

    def is_own(self, feed, naming):
        """Whether a feed is its machine's, going by the joins and key changes in `naming`."""
        if feed.ledger_key is None:
            return feed.incarnation.startswith(IMPORTED)
        if any(self.founds(line) for line in self.of_kind(ev.ClusterCreated) if line.feed == feed):
            return True
        return any(
            (line.event.machine == feed.machine and line.event.ledger_key == feed.ledger_key)
            if isinstance(line.event, ev.MachineJoined)
            else (line.feed.machine == feed.machine and line.event.role == "ledger" and line.event.new == feed.ledger_key)
            for line in naming
        )

    def closure(self, allowed):
        """The least set of joins and key changes that holds the roots and each whose writing `allowed` by the set."""
        found = list(self.roots)
        growing = True
        while growing:
            new = [
                line
                for line in self.of_kind(ev.MachineJoined, ev.KeyChanged)
                if line not in found and self.is_own(line.feed, found) and allowed(line, found)
            ]
            found += new
            growing = bool(new)
        return found

    @cached_property
    def removals(self):
        """(the join it ends, the removal) for each removal that stands: whose writer was ever admitted."""
        ever = self.closure(lambda line, found: any(join.event.machine == line.feed.machine for join in joins_in(found)))
        admitted = {join.event.machine for join in joins_in(ever)}
        return [
            (join, line)
            for line in self.of_kind(ev.MachineLeft)
            if line.feed.machine in admitted and self.is_own(line.feed, ever)
            for join in self.of_kind(ev.MachineJoined)
            if join.event.machine == line.event.machine and any(means(text, join) for text in line.event.joins)
        ]

    @cached_property
    def counting(self):
        """The joins and key changes that count."""
        return self.closure(self.entitled)

    def entitled(self, line, found):
        """Whether the writer of `line` had a counting join, held by no standing removal to have ended before."""
        return any(
            join.event.machine == line.feed.machine
            and beyond(line, join.event)
            and not any(beyond(line, removal.event) for ended, removal in self.removals if ended == join)
            for join in joins_in(found)
        )

    def counts(self, line):
        return line.feed in self.owned and self.entitled(line, self.counting)

    def joins_of(self, machine):
        """The counting joins of a machine, in display order, and those of them that no standing removal names."""
        all_of_it = sorted((join for join in joins_in(self.counting) if join.event.machine == machine), key=lambda j: j.display)
        return all_of_it, [join for join in all_of_it if all(ended != join for ended, _removal in self.removals)]

    @cached_property
    def machines(self):
        return sorted({join.event.machine for join in joins_in(self.counting)})

    @cached_property
    def members(self):
        return [machine for machine in self.machines if self.joins_of(machine)[1]]

    @cached_property
    def owned(self):
        """The feeds that are their machine's."""
        return [feed for feed in self.seen if self.is_own(feed, self.counting)]

    def own_feeds(self, machine):
        return [feed for feed in self.owned if feed.machine == machine]

    def hostname(self, machine):
        """The host name of its newest join that stands, or what it was renamed to after that."""
        all_of_it, standing = self.joins_of(machine)
        newest = (standing or all_of_it)[-1]
        admitted = [feed for feed in self.own_feeds(machine) if feed.ledger_key == newest.event.ledger_key or feed == newest.feed]
        name = newest.event.hostname
        for feed in self.own_feeds(machine):
            for line in self.seen[feed]:
                later = beyond(line, newest.event) if feed in admitted else any(feed.epoch > each.epoch for each in admitted)
                if isinstance(line.event, ev.HostnameChanged) and later:
                    name = line.event.new
        return name


def beyond(line, said):
    """Whether a line of a machine comes after what a join of it, or the end of one, says was held of its feeds."""
    if said.epoch is None or said.epoch == line.feed.epoch:
        return line.index > said.held
    return line.feed.epoch > said.epoch


def joins_in(lines):
    return [line for line in lines if isinstance(line.event, ev.MachineJoined)]


def means(text, join):
    """Whether a position as text can mean this entry."""
    position = parse_position(text)
    return position is not None and position.names(join.feed) and position.index == join.index
