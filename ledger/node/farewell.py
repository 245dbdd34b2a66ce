"""Who was removed while it was cut off is told so, by the machine that removed it.

Its own dials are refused from then on, at its key and before a word is said, so it could try for ever. It is dialled instead:
it greets a member that it trusts, hears that it is none and by which entry, and may ask for the feed in which that stands and
for those that say by which key, and for nothing else, as one may whose link stood when it was removed. It takes nothing on
faith: each run is signed and judged like any other. No link comes of it here, nothing but the look-up is recorded, and after a
day, or once it has heard, this ends.
A restart takes it up again from the record: then who had heard already is dialled once more, and is gone.
"""

from __future__ import annotations

from typing import Final

from ledger.node import dialling, linking
from ledger.node.signals import Dial, LookedUp, LookUp, Missed, Opened
from ledger.node.state import SECOND, Channel, Core, Peer, Untold
from ledger.node.wire import Hello, Place

FOR_NS: Final = 86_400 * SECOND
SOON_NS: Final = 3 * SECOND
"""Whoever is linked hears it there and then, and ends: it is seldom still up after so long."""
PAUSE_MAX_NS: Final = 120 * SECOND


def begin(core: Core, machine: str, because: Place, age_ns: int = 0) -> None:
    """Another was removed by this machine, with that entry, so long ago."""
    core.untold[machine] = untold = Untold(machine, because, core.now.mono_ns + FOR_NS - age_ns)
    core.later(SOON_NS, lambda: _again(core, untold))


def resume(core: Core) -> None:
    """At a start: whom this machine removed within the last day may not know it yet."""
    for name, machine in core.snapshot.membership.machines.items():
        because = linking.place_of(core, machine.since)
        age_ns = max(0, core.now.wall_ns - machine.since_ns)
        if machine.cause == "removed" and because is not None and because.feed.machine == core.me and age_ns < FOR_NS:
            begin(core, name, because, age_ns)


def _again(core: Core, untold: Untold) -> None:
    """Try, and plan to try again."""
    member = core.snapshot.membership.machines.get(untold.machine)
    over = member is None or member.member or core.state == "stopping" or core.now.mono_ns >= untold.until_ns
    if core.untold.get(untold.machine) is not untold:
        return
    if over or member is None or member.hostname is None or member.host_key is None:
        del core.untold[untold.machine]
        return
    untold.tries += 1
    pause = min(PAUSE_MAX_NS, max(core.interval_ns, SOON_NS) << min(untold.tries - 1, 10))
    core.later(core.jitter(pause), lambda: _again(core, untold))
    if untold.dialling:
        return
    hostname, port, keys, account = member.hostname, member.port, (member.host_key,), member.account

    def dial(address: str) -> None:
        untold.dialling = core.next_number()
        core.do(Dial(untold.dialling, untold.machine, address, port, keys, account))

    def answered(found: LookedUp) -> None:
        dialling.looked_up(core, found)
        untold.dialling = 0
        if found.outcome == "answered" and found.answers:
            dial(found.answers[(untold.tries - 1) % len(found.answers)])  # of several another each time

    if core.snapshot.addressing == "address":
        dial(hostname)
    else:
        untold.dialling = core.ask(answered)
        core.do(LookUp(untold.dialling, hostname))


def _of(core: Core, number: int) -> Untold | None:
    return next((each for each in core.untold.values() if each.dialling == number), None)


def missed(core: Core, seen: Missed) -> bool:
    """A dial came to nothing; False if it was not one of these. Who had heard why, and is gone, need not be told again."""
    untold = _of(core, seen.channel)
    if untold is None:
        return False
    untold.dialling = 0
    if untold.asked:
        del core.untold[untold.machine]
    return True


def opened(core: Core, seen: Opened) -> bool:
    """It can be reached: greet it; False if the dial was not one of these."""
    untold = _of(core, seen.channel)
    if untold is None:
        return False
    untold.dialling = 0
    channel = Channel(seen.channel, seen.key, seen.address, machine=untold.machine)
    channel.link = f"{core.feed.id[:8]}-{core.boot:x}-{seen.channel:x}"
    core.channels[channel.number] = channel
    core.send(channel, dialling.hello(core, Peer(untold.machine), channel.link))

    def late() -> None:
        if core.channels.get(channel.number) is channel and channel.stage == "greeting":
            core.drop(channel)

    core.later(dialling.GREETING_NS, late)
    return True


def greeted(core: Core, channel: Channel, heard: Hello) -> bool:
    """It greets back: say that it was removed, and by what; False if the channel is not one of these."""
    untold = core.untold.get(channel.machine)
    if untold is None or heard.machine != channel.machine or core.member(channel.machine) is not None:
        return False  # also one that has joined anew
    linking.refuse(core, channel, "not-a-member", f"{channel.machine} was removed", because=untold.because)
    return True


def asked(core: Core, machine: str) -> None:
    """It asks for the entry."""
    untold = core.untold.get(machine)
    if untold is not None:
        untold.asked = True
