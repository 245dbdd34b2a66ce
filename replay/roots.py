"""What made an end refuse: for a reason that says what is wrong, the entry behind it.

A name that does not resolve has a look-up that failed, and behind that a rename whose new name nobody could ever look up.
Another host key has a `key.changed` of the machine, another version a `version.changed`. Where the log holds nothing behind it,
the entry that gave the reason is itself the root.

Of look-ups an observer's own last one counts, another machine's only if it has none.

Pure: a case in, a finding out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ledger.events import LinkFailed, LinkLost, NameFailed, NameResolved
from projections.acts import KeyChange, Rename
from projections.feed_state import FeedState
from projections.particulars import Lookup
from projections.views import Pair
from replay.authors import Place
from replay.cases import Case, Finding


def rooted(case: Case, pair: Pair, reason: str, place: Place) -> Finding:
    """The finding for a link of which an entry at `place` gave this reason."""
    observer, peer = pair
    cause, behind, suspect = reason, list[Place](), None
    beside: list[Place] = []
    if reason in {"name-unresolvable", "name-points-elsewhere"}:
        suspect, beside = _misnamed(case, pair, reason, place)
        cause, behind = _named(case, peer if suspect == observer else observer, suspect, reason, place)
    elif reason in {"reverse-timeout", "reverse-missing"}:
        suspect, behind = _reverse(case, pair, place)
    elif reason in {"host-key-mismatch", "auth-failed"}:
        behind, suspect = _rekeyed(case, pair, reason), peer if reason == "host-key-mismatch" else None
    elif reason == "version-mismatch":
        behind = _upgraded(case, pair)
    elif reason == "connection-limit":
        suspect = case.culprit(place)
        behind = _dropped(case, pair, suspect, place)
    since_ns, lost = case.lost
    chain = (*lost, *beside, place, *behind)
    return Finding(cause, chain[-1], since_ns, chain, suspect)


# Names: whose it is, and who looked it up.


def _misnamed(case: Case, pair: Pair, reason: str, place: Place) -> tuple[str, list[Place]]:
    """Whose name it is that is wrong, and what shows it. An observer that dials asks for the peer's; the acceptor looks up
    who dials, so an observer may also be told of its own.
    """
    observer, peer = pair
    culprit = case.culprit(place)
    if culprit is not None and culprit in pair:
        return culprit, []
    for word, said in case.said((peer, observer)):
        if word == reason and case.culprit(said) == observer:
            return observer, [said]
    own = case.cluster.speakers.get(observer)
    asked = own.lookups.get(f"forward {case.cluster.membership.machines[peer].hostname}") if own is not None else None
    if asked is not None and asked.failed and asked.at_ns >= _stood_ns(case, pair):
        return peer, []
    if _refused(case, peer, observer):
        return observer, []
    if reason == "name-unresolvable":
        if own is not None and asked is not None and not asked.failed and own.feed == place[0] and asked.index < place[1]:
            return observer, [(own.feed, asked.index)]
        return peer, []
    since = case.since(pair)
    there = _host(case, place)
    return (observer, [since]) if since != place and there is not None and there == _host(case, since) else (peer, [])


def _refused(case: Case, acceptor: str, dialler: str) -> Place | None:
    """The acceptor's last look-up of the dialler's name that failed, if it is newer than their link."""
    state = case.cluster.speakers.get(acceptor)
    hostname = case.cluster.membership.machines[dialler].hostname
    after_ns = _stood_ns(case, (acceptor, dialler))
    for entry in reversed(case.rare(state.feed, ("name.failed",)) if state is not None else ()):
        event = entry.event
        if isinstance(event, NameFailed) and (event.name, event.direction) == (hostname, "forward"):
            return (entry.feed, entry.index) if entry.at_ns >= after_ns else None
    return None


def _host(case: Case, place: Place) -> str | None:
    """The address that an entry about a link names, without its port."""
    entry = case.entry(place)
    address = entry.event.address if entry is not None and isinstance(entry.event, LinkLost | LinkFailed) else None
    return None if address is None else bare(address)


def bare(address: str) -> str:
    """An address without port and brackets."""
    host, colon, port = address.rpartition(":")
    return host.strip("[]") if colon and port.isdecimal() and (":" not in host or host.endswith("]")) else address.strip("[]")


def _named(case: Case, looker: str, bearer: str, reason: str, said: Place) -> tuple[str, list[Place]]:
    """The look-up that failed or led elsewhere; behind it the rename after which the new name was never answered."""
    member = case.cluster.membership.machines[bearer]
    failed = _refused(case, looker, bearer) if said[0].machine == bearer else None
    if reason == "name-points-elsewhere" and failed is not None:
        return reason, [failed]
    found = _lookup(case, looker, f"forward {member.hostname}")
    if found is None or (reason == "name-unresolvable" and not found[1].failed):
        spoken = reason == "name-unresolvable" and said[0].machine == looker
        return reason, _before(case, said) if spoken else []
    place = found[0]
    if reason == "name-points-elsewhere":
        return reason, [place]
    renames = [
        (act.at_ns, (feed, act.index))
        for feed in member.feeds
        for act in case.cluster.states[feed].acts
        if isinstance(act, Rename) and act.new == member.hostname
    ]
    if not renames or any(_answered(case, member.hostname or "")):
        return reason, [place]
    return "renamed-without-dns", [place, max(renames, key=lambda each: each[0])[1]]


def _lookup(case: Case, observer: str, key: str) -> tuple[Place, Lookup] | None:
    """The observer's last look-up under a key; of others, if it has none, the last one that failed."""
    speakers = case.cluster.speakers
    own = speakers.get(observer)
    if own is not None and key in own.lookups:
        return (own.feed, own.lookups[key].index), own.lookups[key]
    others = [
        (state.lookups[key], name) for name, state in speakers.items() if key in state.lookups and state.lookups[key].failed
    ]
    if not others:
        return None
    found, name = max(others, key=lambda each: (each[0].at_ns, each[1]))
    return (speakers[name].feed, found.index), found


def _before(case: Case, said: Place) -> list[Place]:
    """The observer's last look-up before its word, if it failed and no other member bears that name: then it was the peer's."""
    cluster = case.cluster
    looked = [(found.index, key) for key, found in cluster.states[said[0]].lookups.items() if found.index < said[1]]
    index, key = max(looked, default=(0, ""))
    borne = {f"forward {member.hostname}" for member in cluster.membership.machines.values() if member.member}
    failed = bool(looked) and cluster.states[said[0]].lookups[key].failed and key.startswith("forward ")
    return [(said[0], index)] if failed and key not in borne else []


def _answered(case: Case, hostname: str) -> Iterator[bool]:
    """Whether anybody ever had an answer to this name, feed by feed."""
    for feed in case.cluster.states:
        yield any(
            isinstance(entry.event, NameResolved)
            and (entry.event.name, entry.event.direction, entry.event.outcome) == (hostname, "forward", "answered")
            for entry in case.rare(feed, ("name.resolved",))
        )


def _reverse(case: Case, pair: Pair, place: Place) -> tuple[str, list[Place]]:
    """Whose address had no answer in reverse, and the look-up that failed: of the address that the link had, else the last one
    before. A dial is refused by the acceptor, which looks up who dials.
    """
    observer, peer = pair
    entry = case.entry(place)
    if entry is not None and isinstance(entry.event, LinkFailed) and entry.event.culprit != peer:
        state = case.cluster.speakers.get(peer)
        link = case.cluster.links[peer, observer].link
        address = None if link is None or link.address is None else bare(link.address)
        return observer, [] if state is None else _unanswered(state, address, None)
    return peer, _unanswered(case.cluster.states[place[0]], _host(case, place), place[1])


def _unanswered(state: FeedState, address: str | None, before: int | None) -> list[Place]:
    """The look-up in reverse that failed: of this address, or where none is known the last one (`before` an entry)."""
    failed = {key.removeprefix("reverse "): found for key, found in state.lookups.items() if key.startswith("reverse ")}
    failed = {asked: found for asked, found in failed.items() if found.failed}
    if address is not None:
        return [(state.feed, failed[address].index)] if address in failed else []
    earlier = [found.index for found in failed.values() if before is None or found.index < before]
    return [(state.feed, max(earlier))] if earlier else []


def _dropped(case: Case, pair: Pair, culprit: str | None, place: Place) -> list[Place]:
    """The loss in the feed of the machine whose limit it was: the end that held the other one guilty."""
    if culprit not in pair:
        return []
    dropper = pair[1] if culprit == pair[0] else pair[0]
    for word, said in case.said((dropper, culprit)):
        entry = case.entry(said)
        if word == "connection-limit" and said != place and entry is not None and isinstance(entry.event, LinkLost):
            return [said]
    return []


def _rekeyed(case: Case, pair: Pair, reason: str) -> list[Place]:
    """The change of a key since the link last stood: the peer's host key, or the dial key of either end."""
    role, names = ("host", pair[1:]) if reason == "host-key-mismatch" else ("dial", pair)
    after_ns = _stood_ns(case, pair)
    found = [
        (act.at_ns, (feed, act.index))
        for name in names
        for feed in case.cluster.membership.machines[name].feeds
        for act in case.cluster.states[feed].acts
        if isinstance(act, KeyChange) and act.role == role and act.at_ns >= after_ns
    ]
    return [max(found, key=lambda each: each[0])[1]] if found else []


def _upgraded(case: Case, pair: Pair) -> list[Place]:
    """The last change of version at either end since the link last stood."""
    after_ns = _stood_ns(case, pair)
    found = [
        (entry.at_ns, (feed, entry.index))
        for name in pair
        for feed in case.cluster.membership.machines[name].feeds
        for entry in case.rare(feed, ("version.changed",))
        if entry.at_ns >= after_ns
    ]
    return [max(found, key=lambda each: each[0])[1]] if found else []


def _stood_ns(case: Case, pair: Pair) -> int:
    """When the link was last known to be good, less what clocks may differ by; before everything if it never was."""
    good = case.cluster.links[pair].good
    return -(1 << 62) if good is None else good[0] - case.settle_ns
