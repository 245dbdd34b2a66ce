"""A newcomer with a code, seen from the member that gave it out.

The newcomer proves that it has the secret by an HMAC over all that it asks, so none of it can be exchanged on the way. That the
code is used stands on the disk before the admission is written, so it is never good twice; then follows `machine.joined` in this
machine's feed, and runs of every feed, so that the newcomer begins with the whole record. Refusals are recorded. Whether
a name, a key or a transport fits is judged before the code is touched.
"""

from __future__ import annotations

from ledger.entry import Entry
from ledger.events import JoinRefused as Refused
from ledger.events import MachineJoined, Reason
from ledger.node.signals import Redeem
from ledger.node.state import SECOND, Channel, Core
from ledger.node.wire import JoinAsk, JoinGranted, JoinRefused, Place, asked
from ledger.node.words import Named


def wants_in(core: Core, channel: Channel, heard: JoinAsk) -> None:
    """Somebody asks to be let in."""
    channel.machine, channel.stage = heard.machine, "judging"
    wrong = _wrong(core, heard)
    if wrong is not None:
        refuse(core, channel, *wrong)
        return
    core.asks[channel.number] = heard
    core.do(Redeem(channel.number, heard.invite, heard.proof, asked(heard), heard.machine))


def _wrong(core: Core, heard: JoinAsk) -> tuple[Reason, str] | None:
    if heard.incarnation != core.feed.incarnation:
        return "not-a-member", f"the code is of incarnation {heard.incarnation[:12]}"
    if core.state != "running" or not core.writable:
        return "unknown", "this machine does not know yet whether its own record is whole: try again in a minute"
    here = core.snapshot.transport or "ssh", core.snapshot.addressing or "name"
    if (heard.transport, heard.addressing) != here:
        said = f"{heard.transport} by {heard.addressing} there, {here[0]} by {here[1]} here"
        return "transport-mismatch", f"{said}: remove all machines and start again, or join as the cluster is"
    members = [core.snapshot.membership.machines[name] for name in core.snapshot.membership.names]
    if core.member(heard.machine) is not None:
        return "unknown", f"{heard.machine} is a member already: choose another name"
    keys = {key for each in members for key in (each.dial_key, each.ledger_key)}
    if {heard.dial_key, heard.ledger_key} & keys or heard.host_key in {each.host_key for each in members}:
        return "unknown", "a member has one of these keys already"
    if len(members) >= core.settings.machines_max:
        return "unknown", f"the cluster has {len(members)} machines, and {core.settings.machines_max} is its limit"
    return None


def redeemed(core: Core, number: int, why_not: str | None) -> None:
    """The code was good, and is used now; or why not."""
    channel, heard = core.channels.get(number), core.asks.pop(number, None)
    if channel is None or heard is None:
        return
    wrong: tuple[Reason, str] | None = ("auth-failed", why_not) if why_not is not None else _wrong(core, heard)
    if wrong is not None:
        refuse(core, channel, *wrong)
        return
    known = core.snapshot.membership.machines.get(heard.machine)
    newest = core.newest(known) if known is not None else None
    held, epoch = (core.holds(newest.id).last, newest.epoch) if newest is not None else (0, None)
    channel.stage = "guest"
    core.granting[heard.machine, heard.ledger_key] = channel.number
    core.tell(MachineJoined(
        heard.machine, heard.hostname, heard.port, heard.account, heard.host_key, heard.dial_key, heard.ledger_key, held,
        heard.addressing, epoch,
    ))  # fmt: skip


def stored(core: Core, entry: Entry) -> None:
    """An admission is on the disk: say so to the newcomer, and what follows."""
    event = entry.event
    if not isinstance(event, MachineJoined):
        return
    number = core.granting.pop((event.machine, event.ledger_key or ""), None)
    channel = core.channels.get(number) if number is not None else None
    if channel is None:
        return
    feeds = tuple(Place(core.named[feed_id], last) for feed_id, last in sorted(core.gives.items()))
    core.send(channel, JoinGranted(Place(Named.of(core.feed), entry.index), feeds))

    def end() -> None:
        if core.channels.get(channel.number) is channel:
            core.drop(channel)

    core.later(60 * SECOND, end)


def refuse(core: Core, channel: Channel, reason: Reason, detail: str) -> None:
    """Not let in; recorded, each thing at most once a second."""
    core.send(channel, JoinRefused(reason, detail[:1000]))
    channel.stage = "ending"
    key = ("join-refused", channel.address, channel.machine, detail)
    if core.memo.get(key, -1) <= core.now.mono_ns:
        core.memo[key] = core.now.mono_ns + SECOND
        core.tell(Refused(channel.machine, channel.address, reason, detail[:1000]))

    def end() -> None:
        if core.channels.get(channel.number) is channel:
            core.drop(channel)

    core.later(2 * SECOND, end)
