"""What one machine knew, naively: its own entries read from the first on, others' feeds cut where they say, and the mesh of that.

It follows DESIGN section 6 (*as known then*) and 7 (staleness on the observer's clock) sentence by sentence, and imports nothing
of ours but what happened. `belief(feeds, machine, now_ns)` or `belief(feeds, machine, (feed, index))` gives a `Believed` to be
asked, or None if no feed of the machine had begun.
"""

from model import Model, Moment

from ledger import events as ev


def own_feeds(feeds, machine):
    """The feeds that bear its name; of several those that a join or a change of key names, if any does."""
    named = sorted(feed for feed in feeds if feed.machine == machine)
    if len(named) > 1:
        vouched = Model(feeds).moment(2**63).own_feeds(machine)
        named = [feed for feed in named if feed in vouched] or named
    return [feed for feed in named if feeds[feed]]


def known_of_own(feeds, machine, moment):
    """(feed, how many entries) of its own that it knew: epoch after epoch, the last one cut at the moment."""
    own = own_feeds(feeds, machine)
    if isinstance(moment, tuple):
        begun = [(feed, len(feeds[feed])) for feed in own if feed < moment[0]] + [moment]
    else:
        begun = []
        for feed in own:
            cut = sum(line.effective_ns <= moment for line in Model(feeds).lines[feed])
            if cut:
                begun.append((feed, cut))
        begun = [(feed, len(feeds[feed])) for feed in own if begun and feed < begun[-1][0]] + begun[-1:]
    known = []
    for feed, count in begun:
        first = feeds[feed][0][3]
        if isinstance(first, ev.FeedOpened) and first.why == "new":
            known = []
        elif isinstance(first, ev.FeedOpened) and first.lost_from is not None and known:
            known[-1] = known[-1][0], max(0, min(known[-1][1], first.lost_from - 1))
        known.append((feed, count))
    return known


def unnamed(feeds, machine, last, now_ns):
    """Whether a newer feed that bears its name had begun by then, of which no join or change of key says that it is its own."""
    newer = [feed for feed in feeds if feed.machine == machine and feed.epoch > last.epoch]
    strange = [feed for feed in newer if feed not in own_feeds(feeds, machine)]
    return any(line.effective_ns <= now_ns for feed in strange for line in Model(feeds).lines[feed])


def belief(feeds, machine, moment):
    """What `machine` knew at an instant of its clock, or with an entry of its own."""
    own = known_of_own(feeds, machine, moment)
    if not own or (not isinstance(moment, tuple) and unnamed(feeds, machine, own[-1][0], moment)):
        return None
    held, grew_ns = {}, {}
    for feed, count in own:
        for line in Model({feed: feeds[feed][:count]}).lines[feed]:
            said = getattr(line.event, "feed", None), getattr(line.event, "held", None)
            if isinstance(line.event, (ev.PingAnswered, ev.PingFailed, ev.FeedReceived)) and None not in said:
                if said[1] > held.get(said[0], 0):
                    grew_ns[said[0]] = line.effective_ns
                if said[0] != feed.id:
                    held[said[0]] = said[1]
    counts = dict(own)
    lacking = []
    for feed in feeds:
        if feed == own[-1][0]:
            continue
        wanted = max(held.get(feed.id, 0), counts.get(feed, 0))
        counts[feed] = min(wanted, len(feeds[feed]))
        if wanted > len(feeds[feed]):
            lacking.append(feed)
    cut = {feed: feeds[feed][:count] for feed, count in counts.items() if count}
    at_ns = Model(cut).lines[own[-1][0]][-1].effective_ns if isinstance(moment, tuple) else moment
    return Believed(Model(cut), at_ns, own[-1][0], grew_ns, lacking)


class Believed(Moment):
    """The mesh as one machine knew it."""

    def __init__(self, model, now_ns, own, grew_ns, lacking):
        super().__init__(model, now_ns)
        self.seen = model.lines
        self.own, self.grew_ns, self.lacking = own, grew_ns, lacking

    def clock(self, feed):
        """Its own clock for its own feed; another feed stands at its last entry, for as long as it has not grown."""
        if feed == self.own:
            return self.now_ns
        passed_ns = self.now_ns - self.grew_ns[feed.id] if feed.id in self.grew_ns else 2**63
        return self.model.lines[feed][-1].effective_ns + max(0, passed_ns)

    def is_covered(self, feed):
        """A feed of which the machine had received more than there is says nothing of how it stood."""
        return feed not in self.lacking and super().is_covered(feed)

    def link(self, observer, peer):
        if self.speaking(observer) in self.lacking:
            return "unknown", None, None, None
        return super().link(observer, peer)

    def pings(self, observer, peer):
        return [] if self.speaking(observer) in self.lacking else super().pings(observer, peer)

    def answer(self):
        return super().answer() | {"as_seen_by": self.own.machine}
