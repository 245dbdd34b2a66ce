"""What made an end refuse: for a reason that says what is wrong, the entry behind it.

A name that does not resolve has a look-up that failed, and behind that a rename whose new name nobody could ever look up.
Another host key has a `key.changed` of the machine, another version a `version.changed`. Where the log holds nothing behind it,
the entry that gave the reason is itself the root.

Of look-ups an observer's own last one counts, another machine's only if it has none.

Pure: a case in, a finding out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ledger.events import LinkFailed, LinkLost, NameResolved
from projections.acts import KeyChange, Rename
from projections.particulars import Lookup
from projections.views import Pair
from replay.authors import Place
from replay.cases import Case, Finding


def rooted(case: Case, pair: Pair, reason: str, place: Place) -> Finding:
    """The finding for a link of which an entry at `place` gave this reason."""
    observer, peer = pair
    cause, behind, suspect = reason, list[Place](), None
    if reason in {"name-unresolvable", "name-points-elsewhere"}:
        # The acceptor looks up who dials: so an end may also be told of its own name.
        names = [_named(case, observer, peer, reason, place), _named(case, peer, observer, reason, place)]
        cause, behind, suspect = max(names, key=lambda found: (found[0] != reason, bool(found[1])))
    elif reason in {"reverse-timeout", "reverse-missing"}:
        behind, suspect = _reverse(case, place), peer
    elif reason in {"host-key-mismatch", "auth-failed"}:
        behind, suspect = _rekeyed(case, pair, reason), peer if reason == "host-key-mismatch" else None
    elif reason == "version-mismatch":
        behind = _upgraded(case, pair)
    elif reason == "connection-limit":
        entry = case.entry(place)
        suspect = entry.event.culprit if entry is not None and isinstance(entry.event, LinkLost | LinkFailed) else None
    since_ns, lost = case.lost
    chain = (*lost, place, *behind)
    return Finding(cause, chain[-1], since_ns, chain, suspect)


def _named(case: Case, observer: str, peer: str, reason: str, said: Place) -> tuple[str, list[Place], str]:
    """The look-up that failed or led elsewhere; behind it the rename after which the new name was never answered."""
    member = case.cluster.membership.machines[peer]
    found = _lookup(case, observer, f"forward {member.hostname}")
    if found is None or (reason == "name-unresolvable" and not found[1].failed):
        spoken = reason == "name-unresolvable" and said[0].machine == observer
        return reason, _before(case, said) if spoken else [], peer
    place = found[0]
    if reason == "name-points-elsewhere":
        return reason, [place], peer
    renames = [
        (act.at_ns, (feed, act.index))
        for feed in member.feeds
        for act in case.cluster.states[feed].acts
        if isinstance(act, Rename) and act.new == member.hostname
    ]
    if not renames or any(_answered(case, member.hostname or "")):
        return reason, [place], peer
    return "renamed-without-dns", [place, max(renames, key=lambda each: each[0])[1]], peer


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


def _reverse(case: Case, place: Place) -> list[Place]:
    """The look-up in reverse that failed: of the address that the link had, else the last one before."""
    entry = case.entry(place)
    state = case.cluster.states[place[0]]
    failed = {key: found for key, found in state.lookups.items() if key.startswith("reverse ") and found.failed}
    address = entry.event.address if entry is not None and isinstance(entry.event, LinkLost | LinkFailed) else None
    for key, found in failed.items():
        if address is not None and key.removeprefix("reverse ") in {address, address.rpartition(":")[0].strip("[]")}:
            return [(place[0], found.index)]
    before = [found.index for found in failed.values() if found.index < place[1]]
    return [(place[0], max(before))] if before and address is None else []


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
