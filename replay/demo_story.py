"""What happens in a demonstration: who plays which part, and the faults, one after the other.

A real mesh is raised and broken (`Mesh`), and beside it one of two machines that go by address (`ByAddress`). Each fault is made
by what makes it in the field: a command, a signal, or the wires; then the story waits until the nodes have recorded what comes
of it, remembers the moment, and mends it. It judges nothing: what must be the answers stands in
`demo_checks`, before anything happens. A fault named in `without` is left out, and all else happens as it would.

Effects: those of `demo_mesh` and `demo_wires`, and no others; the dice are the seed's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import msgspec

from replay.demo_mesh import Cluster, Late, host

NAMES: Final = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
BY_ADDRESS: Final = ("yankee", "zulu")

RENAMED: Final = "renamed without DNS"
LIMIT: Final = "connection limit"
CUT: Final = "a wire cut silently"
ONE_WAY: Final = "a one-way cut"
PARTED: Final = "leave and remove"
KILLED: Final = "killed, started again"
NAMELESS: Final = "an address without PTR"
FAULTS: Final = (CUT, ONE_WAY, RENAMED, KILLED, LIMIT, PARTED, NAMELESS)
"""In the order in which they happen; the last one happens beside the others."""
UNRESOLVABLE: Final = "name-unresolvable"
OVER: Final = "connection-limit"
_RESETS_MAX: Final = 20
Say = Callable[[str], None]


class Parts(msgspec.Struct, frozen=True):
    """Who plays which part. `cut`: between whom nothing gets through; `one_way`: from whom nothing gets to whom; `dropped`: whom
    the limit of `limited` drops; `asker`: whose way to `renamed` and `killed` is asked about.
    """

    names: tuple[str, ...]
    cut: tuple[str, str]
    one_way: tuple[str, str]
    renamed: str
    killed: str
    limited: str
    dropped: str
    left: str
    removed: str
    asker: str

    @classmethod
    def of(cls, machines: int, seed: int) -> Parts:
        """So many machines, the parts dealt out by the seed."""
        names = NAMES[:machines]
        a, b, c, d, e, *_rest = random.Random(seed).sample(names, machines)  # noqa: S311 - a story, no secret
        dropped = max(set(names) - {c, e})
        return cls(names, (a, b), (c, d), renamed=b, killed=c, limited=e, dropped=dropped, left=d, removed=b, asker=a)

    @property
    def new_name(self) -> str:
        """What the renamed machine is called from then on."""
        return host(f"{self.renamed}-2")

    @property
    def limit(self) -> int:
        """How many connections the limited machine may have: one less than it has to those that run."""
        return len(self.names) - 3


class Mesh:
    """The story of the mesh that goes by name."""

    def __init__(self, cluster: Cluster, parts: Parts, say: Say, without: Collection[str] = ()) -> None:
        self.cluster = cluster
        self.parts = parts
        self.say = say
        self.without = without

    async def told(self) -> None:
        """All of it, from `init` to the end of every process."""
        await self._formed()
        await self._silence()
        await self._mute()
        await self._dead()
        await self._parted()
        await self.cluster.stop()

    async def _all_linked(self) -> None:
        names = self.parts.names
        await self.cluster.until(f"{', '.join(names)} are linked", lambda: self.cluster.linked(*names))

    async def _formed(self) -> None:
        cluster, names = self.cluster, self.parts.names
        self.say(f"{len(names)} machines: keys, directories, DNS; {names[0]} founds the cluster, the others join with codes")
        for name in names:
            cluster.wires.publish(host(name), name)
        cluster.mark("begun")
        await cluster.found("demo")
        await asyncio.gather(*(cluster.join(name) for name in names[1:]))
        await self._all_linked()
        cluster.mark("whole")

    async def _silence(self) -> None:
        """Two wires fall silent, one of them one way only."""
        cluster, (a, b), (c, d) = self.cluster, self.parts.cut, self.parts.one_way
        ways = ([] if CUT in self.without else [(a, b), (b, a)]) + ([] if ONE_WAY in self.without else [(c, d)])
        self.say(f"the wire {a}={b} is cut silently, and of {c}={d} the way from {c} to {d}")
        for way in ways:
            cluster.wires.cut(*way)
        for one, other in {tuple(sorted(way)) for way in ways}:
            await cluster.until(f"{one} and {other} have lost each other", partial(cluster.apart, one, other))
        cluster.mark("silent")
        for way in ways:
            cluster.wires.heal(*way)
        await self._all_linked()

    async def _mute(self) -> None:
        """A machine gets a name that DNS does not know, and what lies between forgets its connections."""
        cluster, parts = self.cluster, self.parts
        self.say(f"{parts.renamed} is renamed {parts.new_name}, which DNS does not know; then its connections are reset")
        cluster.mark("before the rename")
        if RENAMED not in self.without:
            done = await cluster.command(parts.asker, "sethostname", parts.new_name, parts.renamed, "--force")
            cluster.receipts["the rename"] = done["pos"]
            cluster.wires.reset(parts.renamed)
            for name in parts.names:
                if name != parts.renamed:
                    await cluster.until(
                        f"{name} has dialled {parts.new_name} in vain",
                        partial(cluster.wrote, name, "link.failed", "before the rename", peer=parts.renamed, reason=UNRESOLVABLE),
                    )
            await cluster.until(f"{parts.renamed} is linked with nobody", lambda: self._alone(parts.renamed))
        cluster.mark("mute")
        cluster.wires.publish(parts.new_name, parts.renamed)
        await self._all_linked()

    def _alone(self, name: str) -> bool:
        return self.cluster.apart(name, *(other for other in self.parts.names if other != name))

    async def _dead(self) -> None:
        """A machine is killed; another one is over its limit of connections. Both come back by themselves."""
        cluster, parts = self.cluster, self.parts
        self.say(f"{parts.killed} is killed; {parts.limited} may have no more than {parts.limit} connections")
        cluster.mark("before the limit")
        if KILLED not in self.without:
            await cluster.kill(parts.killed)
            await cluster.until(f"all have lost {parts.killed}", lambda: self._alone(parts.killed))
        if LIMIT not in self.without:
            cluster.wires.limit(parts.limited, parts.limit)
            await cluster.until(f"{parts.dropped} and {parts.limited} were turned away", self._dropped)
        cluster.mark("dead")
        self.say(f"the limit is lifted, {parts.killed} is started again")
        cluster.wires.limit(parts.limited, None)
        if KILLED not in self.without:
            await cluster.start(parts.killed)
        await self._all_linked()
        cluster.mark("alive")

    def _dropped(self) -> bool:
        """Whether one end was turned away, and neither is linked with the other."""
        cluster, ends = self.cluster, (self.parts.dropped, self.parts.limited)
        turned = (cluster.wrote(a, "link.failed", "before the limit", peer=b, reason=OVER) for a, b in (ends, ends[::-1]))
        return any(turned) and cluster.apart(*ends)

    async def _parted(self) -> None:
        """One leaves, and another one is removed."""
        cluster, parts = self.cluster, self.parts
        self.say(f"{parts.left} leaves, {parts.removed} is removed")
        if PARTED not in self.without:
            cluster.receipts["the leave"] = (await cluster.command(parts.left, "leave"))["pos"]
            cluster.receipts["the removal"] = (await cluster.command(parts.asker, "remove", parts.removed))["pos"]
            await cluster.gone(parts.left, parts.removed)
        cluster.mark("parted")


class ByAddress:
    """The story of the two that go by address."""

    def __init__(self, cluster: Cluster, say: Say, without: Collection[str] = ()) -> None:
        self.cluster = cluster
        self.say = say
        self.without = without

    async def told(self) -> None:
        """All of it."""
        cluster, (a, b) = self.cluster, BY_ADDRESS
        for name in BY_ADDRESS:
            cluster.wires.publish(host(name), name)
        await cluster.found("by-address")
        await cluster.join(b)
        await self._linked()
        cluster.mark("named")
        await cluster.commands.call("backup", str(cluster.ledger(b)), "-O", str(cluster.commands.folder / "named.ledger"))
        self.say(f"the address of {a} in a second cluster, which goes by address, loses its PTR record; then the link is reset")
        if NAMELESS not in self.without:
            cluster.wires.withdraw_pointer(a)
        await self._looked_up()
        cluster.mark("nameless")
        await cluster.stop()

    async def _linked(self) -> None:
        await self.cluster.until(f"{' and '.join(BY_ADDRESS)} are linked", lambda: self.cluster.linked(*BY_ADDRESS))

    async def _looked_up(self) -> None:
        """Reset the link until the second machine has been dialled, and so has looked the first one's address up."""
        a, b = BY_ADDRESS
        kinds = ("name.failed", "name.resolved")
        for _ in range(_RESETS_MAX):
            self.cluster.mark("reset")
            self.cluster.wires.reset(a)
            for name, other in ((a, b), (b, a)):
                anew = partial(self.cluster.wrote, name, "link.established", "reset", peer=other)
                await self.cluster.until(f"{a} and {b} are linked anew", anew)
            await self._linked()
            if any(self.cluster.wrote(b, kind, "reset", direction="reverse") for kind in kinds):
                return
        raise Late(f"{b} was not dialled by {a} in {_RESETS_MAX} tries")
