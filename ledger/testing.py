"""Hypothesis strategies for whoever tests a projection, an invariant or a store of this record.

    @given(histories())
    def test_my_projection(history): ...

Four layers. *Values*: `machines`, `hostnames`, `instants`, `events`, `opaques`. *Feeds*: `observations`, what one
machine would have written. *Histories*: `histories`, the feeds of a whole cluster, plausible or (`hostile=True`)
anything mixed with anything, which total functions must survive. *Worlds*: `worlds` and `faulty_worlds`, what really was
and what its observers recorded of it, so that answers can be held against the truth. `entries` puts a history, or a world's
`feeds`, in the form a reader gets. Without Hypothesis, `world(seed)` gives one from a number:

    @given(faulty_worlds())
    def test_my_detector_names_the_fault(world):
        fault = world.truth.faults[0]
        assert my_detector(entries(world.feeds), fault.wires, fault.until_ns - 1) in {fault.cause, "unknown"}

And a *mesh*: `simulate(seed, views=replay.living.remembered)` lets the cores of live nodes run on a virtual network and clock
under faults (`MESH_FAULTS`, `Fault`), and gives a `Run`: every machine's record, what does not hold, and ledgers to open.
`simulate_nodes(seed, folder, views=replay.living.view)` does the same with real daemons, SSH, DNS and ledger files
(`NODE_FAULTS`), in virtual time.

A script's alphabet is drawn too (swarm testing, Groce et al., ISSTA 2012), so that rare happenings are not always
drowned by common ones. Needs Hypothesis (the extra `testing`). No clock, no dice but Hypothesis's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ledger.entry import Entry, Observed
from ledger.identity import IMPORTED, Feed
from ledger.instants import effective_instants, may_disown
from ledger.keeping import keeping, kept
from ledger.node.simulation import FAULTS as MESH_FAULTS
from ledger.node.simulation import Fault, Run, simulate
from ledger.node.virtual_breaks import NODE_FAULTS, simulate_nodes
from ledger.node.virtual_daemons import NodesRun
from ledger.rehearsal import WORDS, Rehearsal, Step
from ledger.strategies import NAMES, START_NS, events, hostnames, instants, machines, opaques, texts
from ledger.worlds import FAULTS, Setup, World, play, world
from ledger.worlds import NAMES as WORLD_NAMES
from ledger.worlds import WORDS as WORLD_WORDS

try:
    from hypothesis import assume
    from hypothesis import strategies as st
except ImportError as missing:
    raise ImportError("ledger.testing needs Hypothesis: pip install 'meshledger[testing]'") from missing

__all__ = [
    "FAULTS",
    "MESH_FAULTS",
    "NODE_FAULTS",
    "Fault",
    "History",
    "NodesRun",
    "Run",
    "Setup",
    "World",
    "entries",
    "events",
    "faulty_worlds",
    "histories",
    "hostnames",
    "instants",
    "keeping",
    "kept",
    "machines",
    "observations",
    "opaques",
    "play",
    "scripts",
    "setups",
    "simulate",
    "simulate_nodes",
    "texts",
    "world",
    "worlds",
]  # fmt: skip

_GAPS_NS = (0, 1, 5_000_000, 1_000_000_000, 30_000_000_000, 150_000_000_000)
History = dict[Feed, list[Observed]]
"""The feeds of one incarnation, each with its entries in order."""


def scripts(words: Iterable[str] = WORDS, *, size_max: int = 40) -> st.SearchStrategy[list[Step]]:
    """Scripts for a `Rehearsal`, of at most `size_max` steps. Each leaves out a drawn half or so of `words`; a failing
    script shrinks towards few steps with nothing left out.
    """
    known = tuple(words)
    where = st.integers(min_value=0, max_value=63)  # few draws a step, since drawing is what takes the time
    what = st.integers(min_value=0, max_value=7199)

    def made(word: str, pair: int, size: int) -> Step:
        return Step(_GAPS_NS[size % 6], word, pair // 8, pair % 8, size // 6)

    step = st.builds(made, st.sampled_from(known), where, what)
    acts = st.lists(st.lists(step, max_size=8), max_size=8)  # lists of lists, since one list alone tends to be short
    left_out = st.integers(min_value=0, max_value=2 ** len(known) - 1)

    def script(parts: list[list[Step]], mask: int) -> list[Step]:
        spoken = [word for place, word in enumerate(known) if not mask >> place & 1] or ["round"]
        steps = [step for part in parts for step in part][:size_max]
        return [step if step.word in spoken else step._replace(word=spoken[step.actor % len(spoken)]) for step in steps]

    return st.builds(script, acts, left_out)


@st.composite
def observations(
    draw: st.DrawFn,
    observer: str = "alpha",
    peers: Sequence[str] = ("bravo", "charlie"),
    *,
    keyed: bool = False,
    size_max: int = 40,
) -> list[Observed]:
    """What `observer` alone would have written about `peers`: feed opened, its own join, settings, pings each interval,
    links that come and go with them, losses, flaps, restarts, clocks set, silence, unknown kinds. `keyed`: as the
    founder of a cluster with keys; else in the style of an import, without boots and monotonic clocks.
    """
    stage = Rehearsal((observer, *peers), draw(_starts()), keyed=keyed, scribes=1)
    script = draw(scripts([word for word in WORDS if word != "admit"], size_max=size_max))
    played = stage.play(step._replace(actor=0) for step in script)
    return next(iter(played.values()))


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    machines_max: int = 5,
    size_max: int = 40,
    keyed: bool | None = None,
    hostile: bool = False,
) -> History:
    """The feeds of one cluster of at most `machines_max` machines, after a script of at most `size_max` steps.
    `keyed`: founded and joined under keys, or in the style of imports (default: either). `hostile`: some of it
    plausible, with any entries anywhere, feeds that nobody admitted, names that clash, and instants at the ends of time.
    """
    if keyed is None:
        keyed = draw(st.booleans())
    names = NAMES[: draw(st.integers(min_value=1, max_value=min(machines_max, len(NAMES))))]
    stage = Rehearsal(names, draw(_starts()), keyed=keyed)
    if keyed and draw(st.booleans()):  # most clusters begin by admitting everybody
        stage.play([Step(1_000_000_000, "admit", 0, other, 0) for other in range(len(names) - 1)])
    if draw(st.booleans()):  # and with a mesh that stands
        stage.play([Step(1_000_000_000, "mesh", 0, 0, 0), Step(0, "round", 0, 0, 900)])
    history = stage.play(draw(scripts(size_max=size_max)))
    if hostile:
        _spoil(draw, history, stage.incarnation)
    return history


@st.composite
def setups(
    draw: st.DrawFn,
    *,
    machines_min: int = 2,
    machines_max: int = 4,
    keyed: bool | None = True,
    skewed: bool = True,
    withheld: bool = False,
) -> Setup:
    """What a world is before anything happens. `keyed` None: either. `skewed`: some wall clocks are wrong by up to minutes.
    `withheld`: some feeds, or the ends of them, were not collected.
    """
    many = draw(st.integers(min_value=machines_min, max_value=machines_max))
    outside = draw(st.integers(min_value=0, max_value=max(0, many - 2)))
    interval_ms, timeout_ms = draw(st.sampled_from([(60_000, 15_000), (60_000, 15_000), (10_000, 3_000), (600_000, 20_000)]))
    skews = st.lists(st.sampled_from([0, 0, 1, -1, 20, -45, 200, -300]), max_size=many)
    shares = st.lists(st.sampled_from([1000, 1000, 1000, 0, 500, 900]), max_size=many)
    return Setup(
        WORLD_NAMES[:many],
        outside=outside,
        seed=draw(st.integers(min_value=0, max_value=999)),
        interval_ms=interval_ms,
        timeout_ms=timeout_ms,
        lost_after=draw(st.sampled_from([1, 1, 2])),
        keyed=draw(st.booleans()) if keyed is None else keyed,
        addressing=draw(st.sampled_from(["name", "name", "address"])),
        skews_s=tuple(draw(skews)) if skewed else (),
        collected=tuple(draw(shares)) if withheld else (),
    )


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    words: Iterable[str] = tuple(WORLD_WORDS),
    machines_min: int = 2,
    machines_max: int = 4,
    size_max: int = 5,
    keyed: bool | None = True,
    skewed: bool = True,
    withheld: bool = False,
) -> World:
    """The truth and the feeds of a mesh after at most `size_max` happenings out of `words`, which may overlap. A failing one
    shrinks towards fewer happenings, plainer ones, fewer machines and clocks that are right. The rest as in `setups`.
    """
    setup = draw(setups(machines_min=machines_min, machines_max=machines_max, keyed=keyed, skewed=skewed, withheld=withheld))
    return play(setup, draw(st.lists(_happenings(tuple(words), setup.interval_ms), max_size=size_max)))


@st.composite
def faulty_worlds(
    draw: st.DrawFn,
    *,
    words: Iterable[str] = tuple(FAULTS),
    machines_min: int = 4,
    machines_max: int = 5,
    keyed: bool | None = True,
    skewed: bool = False,
    withheld: bool = False,
) -> World:
    """A world in which exactly one thing went wrong or was done: all of `truth.faults` (phases of one story) are of one plant,
    and there is at least one. The rest as in `setups`.
    """
    word = draw(st.sampled_from(tuple(words)))
    setup = draw(setups(machines_min=machines_min, machines_max=machines_max, keyed=keyed, skewed=skewed, withheld=withheld))
    fitting = msgspec.structs.replace(setup, outside=0, addressing="address" if word == "reverse-timeout" else "name")
    step = draw(_happenings((word,), setup.interval_ms))
    made = play(fitting, [step])
    assume(any(fault.plant for fault in made.truth.faults))
    return made


def _happenings(words: tuple[str, ...], interval_ms: int) -> st.SearchStrategy[Step]:
    """A step of a world: about so many intervals after the one before."""
    gaps = st.sampled_from([0, 1, 3, 5, 9, 20]).map(lambda halves: halves * interval_ms * 500_000 + halves * 7_000_000)
    small = st.integers(min_value=0, max_value=7)
    return st.builds(Step, gaps, st.sampled_from(words), small, small, st.integers(min_value=0, max_value=27))


def entries(history: Mapping[Feed, Sequence[Observed]]) -> list[Entry]:
    """`history` as a reader gives it: feed by feed, in the feeds' order, with positions and effective instants."""
    result: list[Entry] = []
    for feed in sorted(history):
        observed = history[feed]
        steps = [index for index, each in enumerate(observed, 1) if may_disown(each.event)]
        counted = effective_instants([each.at_ns for each in observed], steps)
        result += [
            Entry(feed, index, each.at_ns, each.event, each.boot, each.mono_ns, effective_ns)
            for index, (each, effective_ns) in enumerate(zip(observed, counted, strict=True), 1)
        ]
    return result


def _starts() -> st.SearchStrategy[int]:
    return st.sampled_from([START_NS, START_NS + 123_456_789, 0])


def _spoil(draw: st.DrawFn, history: History, incarnation: str) -> None:
    """Put what does not belong into `history`, in place."""
    pool = st.sampled_from(NAMES[:4])
    for feed in draw(st.lists(_strangers(incarnation, pool), max_size=2)):
        history.setdefault(feed, [])
    feeds = sorted(history)
    place = st.tuples(st.integers(min_value=0, max_value=60), st.sampled_from(feeds))
    near = st.integers(min_value=0, max_value=1800 * 10**9).map(lambda offset: START_NS + offset)
    stamp = st.none() | st.integers(min_value=0, max_value=2**60)
    strange = st.builds(Observed, near | instants(), events(names=pool) | opaques(), stamp, stamp)
    for (index, feed), observed in draw(st.lists(st.tuples(place, strange), max_size=25)):
        history[feed].insert(index, observed)
    for index, feed in draw(st.lists(place, max_size=3)):  # a copy of what stands elsewhere
        source = draw(st.sampled_from(feeds))
        history[feed][index:index] = history[source][: draw(st.integers(min_value=0, max_value=8))]


def _strangers(incarnation: str, pool: st.SearchStrategy[str]) -> st.SearchStrategy[Feed]:
    key = st.none() | st.sampled_from(["ed25519:alpha-1", "ed25519:bravo-2", "ed25519:mallory-1"])
    other = st.sampled_from([incarnation, incarnation, f"{IMPORTED}other", "0" * 64])
    return st.builds(Feed.of, other, pool, st.integers(min_value=1, max_value=3), key)
