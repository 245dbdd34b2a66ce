"""Laws of columns: every ping comes back exactly, groups are what a naive count gives, and the quick way is the plain way."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import packing_few, planes, rows
from ledger.blocks import COMMON, DELTA, Column
from ledger.codec import make_record
from ledger.cutting import groups_until
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, MONO_MAX_NS, Observed, Opaque
from ledger.events import NodeStarted, NoteAdded, PingAnswered, PingFailed
from ledger.packing import arrange, arranged_plainly, pack
from ledger.packing_lanes import arranged
from ledger.planes import TooWide
from ledger.unpacking import Pings, unpack
from ledger.values import few_values, may_wrap, plain_values, quick_values

NOW = 1_767_225_600_000_000_000
H = "0123456789abcdef" * 4

stamps = st.integers(0, 2**60) | st.sampled_from([0, 2**60]) | st.integers(5_000_000, 5_100_000)
some = st.none() | stamps
names = st.sampled_from(["alpha", "bravo", "charlie"])
links = st.sampled_from([None, "l-1", "l-2"])
walls = (
    st.integers(NOW, NOW + 10**11)
    | st.sampled_from([INSTANT_MIN_NS, INSTANT_MAX_NS, 0])
    | st.integers(INSTANT_MIN_NS, INSTANT_MAX_NS)
)
clocks = st.none() | st.integers(0, 10**12) | st.sampled_from([0, MONO_MAX_NS]) | st.integers(0, MONO_MAX_NS)
boots = st.sampled_from([None, 0, 1, 2**60])
answers = st.builds(PingAnswered, names, stamps, stamps, links, some, some, some, some, boots, st.sampled_from([None, H]), some)
failures = st.builds(PingFailed, names, stamps, st.sampled_from(["timeout", "no-route"]), links, st.sampled_from([None, H]), some)
pings = st.builds(Observed, walls, answers | failures, boots, clocks)
runs = st.lists(pings, min_size=1, max_size=30)


@st.composite
def likely(draw):
    """A run of pings as a live machine writes them, with exceptions sprinkled in; sometimes hundreds of contexts."""
    count = draw(st.sampled_from([1, 2, 25, 120, 400]))
    peers = draw(st.sampled_from([1, 4, 19, 127, 128, 129, 256, 300]))
    jitter = draw(st.sampled_from([0, 1, 977, 10**6]))
    made = []
    for n in range(count):
        at = NOW + n // peers * 60_000_000_000 + n * n * jitter % 1_000_003
        sent = at // 1000 % 10**9
        rtt = 700 + n * 31 % 400
        if n % 17 == 13:
            event = PingFailed(f"p{n % peers}", n // peers, "timeout", None, None, None)
        else:
            event = PingAnswered(f"p{n % peers}", n // peers, rtt, "l", sent, sent + 40, sent + 45, sent + rtt, 1, H, n)
        made.append(Observed(at, event, 3, at - NOW + 10**12))
    for at, ping in draw(st.lists(st.tuples(st.integers(0, count), pings), max_size=3)):
        made.insert(at, ping)
    return made


@given(runs | likely())
def test_evidence_is_what_the_pings_say_of_the_link(run):
    """`evidence` gives the pings to a peer in their order, of each what a fold asks, and nothing of the rest."""
    opened = arrange(run, 1, ())
    for peer in {ping.event.peer for ping in run[:3]}:
        told = []
        for index, ping in opened.to(peer):
            e = ping.event
            if isinstance(e, PingAnswered):
                plain = PingAnswered(peer, 0, e.rtt_us, e.link, feed=e.feed, held=e.held)
            else:
                plain = PingFailed(peer, 0, e.reason, e.link, e.feed, e.held)
            told.append((index, Observed(ping.at_ns, plain, ping.boot)))
        assert opened.evidence(peer) == told
        assert Pings(opened.block, 1, ()).evidence(peer) == told


@given(runs | likely())
def test_one_context_of_a_column_is_opened_as_the_whole_column_is(run):
    """The values of one context alone are those that stand in its places when all are opened."""
    whole = Pings(pack(run), 1, ())
    for index in range(9):
        kept = len(whole.sizes) if index in COMMON else sum(context.answered for context in whole.block.contexts)
        for number, (start, end) in enumerate(pairwise(whole.starts[: kept + 1])):
            assert list(Pings(whole.block, 1, ()).within(index, number)) == list(whole.column(index)[start:end])


@given(runs | likely())
def test_every_ping_comes_back_exactly(run):
    """`unpack` is the inverse of `pack`, for any pings: nulls mixed, clocks at both ends, many contexts, one ping."""
    assert unpack(pack(run)) == run


@st.composite
def alike(draw):
    """A run of pings of one boot, whose answers all bear the same stamps, and some what is held, on clocks fine or coarse."""
    run = draw(runs | likely())
    boot, coarse = draw(boots), draw(st.sampled_from([1, 2, 1000, 60 * 10**9]))
    clocked, *given_ones = draw(st.tuples(*[st.booleans()] * 5))
    holding = draw(st.sampled_from([(True,), (False,), (False, True, True)]))
    late = draw(st.sampled_from([0, 8, len(run)]))  # a coarse clock may turn fine
    made = []
    for place, ping in enumerate(run):
        event, step = ping.event, coarse if place >= late else 1
        if isinstance(event, PingAnswered):
            numbers = [event.held, event.sent_us, event.received_us, event.replied_us, event.returned_us]
            kept = [holding[place % len(holding)], *given_ones]
            held, *stamps = [(n or 0) % 2**59 if here else None for n, here in zip(numbers, kept, strict=True)]
            event = PingAnswered(
                event.peer, event.number % 2**59, event.rtt_us % 2**59 // step * step, event.link, *stamps,
                event.peer_boot, event.feed, held,
            )  # fmt: skip
        else:
            held = place if holding[place % len(holding)] else None
            event = PingFailed(event.peer, event.number % 2**59, event.reason, event.link, event.feed, held)
        mono = (ping.mono_ns or 0) % 2**59 // step * step
        wall = mono + abs(ping.at_ns) % 2**61 // step * step + 7
        made.append(Observed(wall, event, boot, mono if clocked else None))
    return made


@given(alike())
def test_whole_columns_make_the_block_that_pings_one_by_one_define(run):
    """By lanes and by the plain way: the same block, order and columns at hand. Such runs the lanes do not refuse."""
    quick, plain = arranged(run), arranged_plainly(run)
    assert quick.block == plain.block
    assert (quick.sizes, quick.order) == (plain.sizes, plain.order)
    assert {index: list(values) for index, values in quick.values.items()} == {
        index: list(values) for index, values in plain.values.items()
    }


@given(runs | likely())
def test_lanes_refuse_what_they_do_not_make_alike(run):
    """Of any pings at all the lanes make the block of the plain way, or none."""
    try:
        quick = arranged(run)
    except (TooWide, TypeError):
        return
    assert quick.block == arranged_plainly(run).block


@given((runs | likely() | alike()).map(lambda run: run[: packing_few.FEW]))
def test_a_few_pings_make_the_block_that_the_plain_way_makes_of_them(run):
    """Of a few pings, whatever they are: the same block, order and columns at hand, or none where a difference is too great."""
    few, plain = packing_few.arranged_few(run), arranged_plainly(run)
    wide = any(abs(a.at_ns - b.at_ns) >= 2**62 for a in run for b in run)
    wide = wide or any(p.mono_ns is not None and abs(p.at_ns - p.mono_ns) >= 2**61 for p in run)
    assert few is not None or wide
    if few is None:
        return
    assert (few.block, few.sizes, few.order) == (plain.block, plain.sizes, plain.order)
    assert {index: list(values) for index, values in few.values.items()} == {
        index: list(values) for index, values in plain.values.items()
    }


@pytest.mark.parametrize(
    "event",
    [
        PingAnswered("bravo", 2**60 + 1, 1), PingAnswered("bravo", -1, 1), PingAnswered("bravo", 1, 0.5),
        PingAnswered("bravo", 1, None),
        PingAnswered("bravo", 1, 1, sent_us=2**60 + 1), PingAnswered("bravo", 1, 1, held=-1), PingAnswered("bravo", True, 1),
        PingFailed("bravo", "one"), PingFailed("bravo", 1, None), NodeStarted(1), Opaque("ping.answered", 1, b""),
    ],
)  # fmt: skip
def test_what_is_no_ping_or_no_number_is_not_made_of_a_few(event):
    """What the plain way refuses is left to it to refuse."""
    assert packing_few.arranged_few([Observed(10**18, event, 1, 5)]) is None


@pytest.mark.parametrize(("at_ns", "mono_ns"), [(2**62 + 1, 5), (-(2**62) - 1, 5), (0, -1), (0, 2**62 + 1), (0.5, 1), (0, 0.5)])
def test_clocks_out_of_range_are_not_made_of_a_few(at_ns, mono_ns):
    """The same of the clocks."""
    assert packing_few.arranged_few([Observed(at_ns, PingAnswered("bravo", 1, 1), 1, mono_ns)]) is None


@given(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=20), st.integers(2, 2**62 - 1), st.data())
def test_a_long_integer_is_divided_lane_by_lane_or_not_at_all(numbers, by, data):
    """`divided` gives each quotient where every number leaves the given rest, and None where one does not."""
    rest = data.draw(st.integers(0, min(by - 1, 5)))
    if data.draw(st.booleans()):
        numbers = [number // by * by + rest for number in numbers if number // by * by + rest < 2**63] or [rest]
    count = len(numbers)
    found = planes.divided(planes.lanes(numbers, count), rest, by, count)
    if all(number % by == rest for number in numbers):
        assert list(planes.unlaned(found, count)) == [number // by for number in numbers]
    else:
        assert found is None


@given(runs | likely() | alike())
def test_a_column_opened_at_once_is_the_one_opened_number_by_number(run):
    """The quick way to a column's values gives those of the plain way, or refuses."""
    block = pack(run)
    opened = Pings(block, 1, ())
    for index, column in enumerate(block.columns):
        kept = len(block.contexts) if index in COMMON else sum(context.answered for context in block.contexts)
        starts, delta = opened.starts[: kept + 1], index in DELTA
        open_alike(column, starts, delta=delta)


def open_alike(column, starts, *, delta):
    """The ways to a column's values that are taken for few numbers and for many give those of the plain way, or refuse."""
    plain = plain_values(column, starts, delta=delta)
    if not may_wrap(column):
        assert few_values(column, starts, delta=delta) == plain
    try:
        quick = quick_values(column, starts, delta=delta)
    except (TooWide, OverflowError):
        return
    assert quick == plain


@given(st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=4), st.booleans(), st.integers(0, 2**62), st.data())
def test_columns_that_nobody_packed_open_alike(scale, sizes, delta, base, data):
    """Also from planes that no packing makes, such as a forger's: the same values, or a refusal by the quick way."""
    starts = [0, *accumulate(sizes)]
    some_planes = st.integers(0, 8).flatmap(
        lambda width: st.lists(st.sampled_from([0, 1, 127, 128, 255]), min_size=width, max_size=width)
    )
    wide = [
        bytes(data.draw(st.sampled_from([0, 1, 127, 200])) for _ in range(starts[-1]))
        for _ in range(data.draw(st.integers(0, 2)))
    ]
    column = Column(
        scale, base, tuple(data.draw(some_planes)), (*wide[: data.draw(st.integers(0, 2))], *data.draw(some_planes))[:8]
    )
    open_alike(column, starts, delta=delta)


@given(runs | likely())
def test_what_is_at_hand_is_what_would_be_decoded(run):
    """A block with its columns at hand says the same as one opened from its bytes."""
    at_hand, opened = arrange(run, 7, ()), Pings(pack(run), 7, ())
    assert at_hand.block == opened.block
    for index in range(9):
        assert list(at_hand.column(index)) == list(opened.column(index))
    assert at_hand.order == opened.order
    assert at_hand.mono() == opened.mono()
    assert at_hand.groups() == opened.groups()


def naive_groups(run, places, until=None):
    """The groups by a plain count: (peer, link, reason, boots, feed, which numbers are given) -> what they amount to."""
    found = {}
    for place, ping in zip(places, run, strict=True):
        if until is not None and ping.at_ns > until:
            continue
        event = ping.event
        numbers = tuple(
            getattr(event, name, None) is None for name in ("held", "sent_us", "received_us", "replied_us", "returned_us")
        )
        key = (
            getattr(event, "reason", None),
            event.peer,
            event.link,
            ping.boot,
            getattr(event, "peer_boot", None),
            event.feed,
            ping.mono_ns is None,
            numbers,
        )
        found.setdefault(key, []).append((place, ping))
    result = []
    for key, members in found.items():
        (first, one), (last, other) = members[0], members[-1]
        rtt = getattr(other.event, "rtt_us", 0)
        result.append((key[1], key[2], key[0], len(members), first, one.at_ns, last, other.at_ns, rtt, key[5], other.event.held))
    return sorted(result, key=repr)


def naive_gap(group, groups, run):
    """The greatest time between two neighbours in time among the pings to the group's peer, as far as its groups overlap."""
    first, last = group.first, group.last
    while True:
        near = [g for g in groups if g.peer == group.peer and g.first <= last and g.last >= first]
        reach = min(g.first for g in near), max(g.last for g in near)
        if reach == (first, last):
            break
        first, last = reach
    walls = sorted(ping.at_ns for index, ping in run if ping.event.peer == group.peer and first <= index <= last)
    return max((after - before for before, after in pairwise(walls)), default=0)


def told(groups):
    """Groups as the naive count gives them."""
    return sorted(
        ((g.peer, g.link, g.reason, g.count, g.first, g.first_ns, g.last, g.last_ns, g.rtt_us, g.feed, g.held) for g in groups),
        key=repr,
    )


@st.composite
def placed(draw):
    """A run of pings whose clock never goes back, with control entries between them: (entries, first index)."""
    run = sorted(draw(runs | likely()), key=lambda ping: ping.at_ns)
    entries = list(run)
    for at in draw(st.lists(st.integers(0, len(run)), max_size=4)):
        entries.insert(at, Observed(entries[min(at, len(entries) - 1)].at_ns, NoteAdded("x")))
    return entries, draw(st.integers(1, 10**6))


def opened(entries, first):
    record = make_record(first, entries)
    return record, Pings(record.pings, first, [first + control.place for control in record.controls])


@given(placed())
def test_groups_are_what_a_plain_count_gives(given_entries):
    """One group a context, with its count, first and last; its gap is that of the groups it overlaps with."""
    entries, first = given_entries
    _record, pings = opened(entries, first)
    run = [(index, entry) for index, entry in enumerate(entries, first) if not isinstance(entry.event, NoteAdded)]
    groups = pings.groups()
    assert told(groups) == naive_groups([ping for _, ping in run], [index for index, _ in run])
    assert all(group.gap_ns == naive_gap(group, groups, run) for group in groups)


@given(runs | likely())
def test_a_gap_is_a_bound_whatever_the_clock_did(run):
    """Also where the clock was set back between pings, no group hides a stretch without evidence, nor does its directory."""
    pings = Pings(pack(run), 1, ())
    groups, places = pings.groups(), list(enumerate(run, 1))
    assert all(group.gap_ns >= naive_gap(group, groups, places) for group in groups)
    context = pings.block.contexts.__getitem__
    origin, directory, _body = rows.encode_body(pings.block, list(range(len(pings.block.contexts))), groups, 1)
    kept = rows.decode_groups(rows.decode_directory(directory), origin, 1, context)
    assert told(kept) == told(groups)
    assert all(group.gap_ns >= naive_gap(group, groups, places) for group in kept)


@given(placed(), st.data())
def test_groups_until_a_moment_are_those_of_the_prefix(given_entries, data):
    """At any instant, and 1 ns to either side of any ping, the groups are those of the pings so far."""
    entries, first = given_entries
    _record, pings = opened(entries, first)
    run = [(index, entry) for index, entry in enumerate(entries, first) if not isinstance(entry.event, NoteAdded)]
    until = data.draw(st.sampled_from([ping.at_ns for _, ping in run])) + data.draw(st.integers(-1, 1))
    groups = pings.groups(until)
    assert told(groups) == naive_groups([ping for _, ping in run], [index for index, _ in run], until)
    assert pings.until(until) == sum(ping.at_ns <= until for _, ping in run)
    numbers = list(range(len(pings.block.contexts)))
    low, directory, body = rows.encode_body(pings.block, numbers, pings.groups(), first)
    kept = rows.decode_directory(directory)
    closed = rows.decode_block(pings.count, kept, body, pings.block.contexts.__getitem__, opened=False)
    controls = [
        index for index, entry in enumerate(entries, first) if isinstance(entry.event, NoteAdded) and entry.at_ns <= until
    ]
    quick = groups_until(closed, kept, low, first, controls, until=until, inflate=rows.inflate)
    assert told(quick) == told(groups)
    assert all(mine.gap_ns >= plain.gap_ns for mine, plain in zip(quick, groups, strict=True))


@given(placed())
def test_a_body_keeps_its_block_and_its_directory(given_entries):
    """The stored body gives back the block, and its directory is the groups, with the same gap bound."""
    entries, first = given_entries
    record, pings = opened(entries, first)
    numbers = [900 - place for place in range(len(record.pings.contexts))]
    context = dict(zip(numbers, record.pings.contexts, strict=True)).__getitem__
    groups = pings.groups()
    origin, directory, body = rows.encode_body(record.pings, numbers, groups, first)
    assert rows.decode_block(record.pings.count, rows.decode_directory(directory), body, context) == record.pings
    kept = rows.decode_groups(rows.decode_directory(directory), origin, first, context)
    assert told(kept) == told(groups)
    assert all(mine.gap_ns >= group.gap_ns for mine, group in zip(kept, groups, strict=True))


@given(runs)
def test_open_rows_give_back_their_pings(run):
    """Pings that no record covers yet come back as they were."""
    assert rows.decode_open(rows.encode_open(run)) == run


@given(st.binary(max_size=3000) | st.builds(lambda part, times: part * times, st.binary(max_size=4), st.integers(0, 900)))
def test_a_plane_comes_back_from_its_stored_form(plane):
    """Deflated or not, a byte plane is what it was."""
    assert rows.inflate(rows.deflate(plane), len(plane)) == plane
    assert rows.inflate(rows.deflate(7), len(plane)) == 7


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300), min_size=1, max_size=40))
def test_planes_hold_any_numbers_in_one_form(numbers):
    """Any 64-bit numbers come back from their planes, which are as few as hold them."""
    from array import array

    stored = planes.encode(array("q", numbers))
    assert list(planes.decode(stored, len(numbers))) == numbers
    widest = max(max(number, ~number).bit_length() for number in numbers)
    assert len(stored) == (0 if not any(numbers) else widest // 8 + 1)
