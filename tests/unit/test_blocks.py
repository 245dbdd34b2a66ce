"""Pings as columns: contexts, groups, places, and what damage in a block amounts to."""

import msgspec
import pytest
from scene import MINUTE_NS, START_NS, answered, failed, minutes, note

from ledger.blocks import AT, MONO, RTT
from ledger.codec import decode_record, encode_record, make_record
from ledger.entry import Observed
from ledger.errors import Damaged
from ledger.events import PingAnswered
from ledger.packing import arrange, pack
from ledger.unpacking import Pings, unpack

H = "0123456789abcdef" * 4


def test_no_pings_make_an_empty_block():
    """A record of control events alone has a block all the same, of nothing."""
    assert pack([]).count == 0
    assert unpack(pack([])) == []


def test_one_ping_comes_back():
    """A single ping with every field is a block of one."""
    ping = Observed(START_NS, PingAnswered("bravo", 7, 1234, "l", 10, 20, 21, 1255, 2, H, 99), 4, 2_000_000)
    assert unpack(pack([ping])) == [ping]


def test_pings_that_share_all_but_numbers_share_a_context():
    """Peer, link, reason, boots, feed, and which numbers are given, make a context; those answered stand first."""
    pings = [
        failed(0),
        answered(1),
        answered(2),
        answered(3, link="l"),
        failed(4),
        failed(5, reason="reset"),
        answered(6, held=0),
    ]
    contexts = pack(pings).contexts
    assert [(c.answered, c.link, c.reason, c.given) for c in contexts] == [
        (True, None, None, 0),
        (True, "l", None, 0),
        (True, None, None, 2),
        (False, None, "timeout", 0),
        (False, None, "reset", 0),
    ]


def test_a_quiet_column_costs_no_bytes():
    """Pings at one interval, numbered without gaps, take planes for what varies only: which context, and RTT."""
    pings = [answered(n, START_NS + n * MINUTE_NS) for n in range(500)]
    columns = pack(pings).columns
    assert columns[AT].scale == MINUTE_NS
    assert columns[MONO].planes == ()
    assert sum(len(plane) for column in columns for plane in column.planes if isinstance(plane, bytes)) <= 500 + 2 * 500
    assert any(isinstance(plane, bytes) for plane in columns[RTT].planes)


def test_groups_say_what_each_context_amounts_to():
    """First, last, count, last RTT and held of each context, with places that leave room for control events."""
    entries = [note("a"), answered(0, 10), note("b"), answered(1, 70, held=None), failed(2, 75), answered(3, 90)]
    record = make_record(101, entries)
    good, bad = Pings(record.pings, 101, [101, 103]).groups()
    assert (good.peer, good.reason, good.count, good.first, good.last, good.first_ns, good.last_ns) == (
        "bravo",
        None,
        3,
        102,
        106,
        10,
        90,
    )
    assert good.rtt_us == entries[5].event.rtt_us
    assert (bad.reason, bad.count, bad.first, bad.last, bad.rtt_us, bad.held) == ("timeout", 1, 105, 105, 0, None)
    assert good.gap_ns >= 60
    assert bad.gap_ns >= 60


def test_a_prefix_has_its_own_groups():
    """Groups until an instant hold what happened by then, that instant included."""
    pings = Pings(pack([answered(0, 10), failed(1, 20), answered(2, 30)]), 1, ())
    assert [(g.count, g.last_ns) for g in pings.groups(20)] == [(1, 10), (1, 20)]
    assert pings.groups(9) == []
    assert [pings.until(at) for at in (9, 10, 19, 20, 29, 30, 31)] == [0, 1, 1, 2, 2, 3, 3]


def test_the_pings_to_one_peer_come_with_their_places():
    """`to` gives one peer's pings, whatever their contexts, with entry indexes, ascending."""
    entries = [note("a"), *minutes(30), note("b"), *minutes(6, first=30)]
    record = make_record(5, entries)
    pings = Pings(record.pings, 5, [5 + control.place for control in record.controls])
    wanted = [(index, entry) for index, entry in enumerate(entries, 5) if getattr(entry.event, "peer", None) == "charlie"]
    assert pings.to("charlie") == wanted
    assert pings.to("nobody") == []


def test_more_contexts_than_a_byte_counts():
    """Contexts beyond 128 and beyond 256 are numbered all the same."""
    for count in (127, 128, 129, 255, 256, 257, 300):
        pings = [answered(n, n, peer=f"p{n % count}") for n in range(2 * count)]
        block = pack(pings)
        assert len(block.contexts) == count
        assert unpack(block) == pings
        assert [g.count for g in Pings(block, 1, ()).groups()] == [2] * count


def test_the_greatest_distances_come_back():
    """Instants at both ends of time, and clocks at both ends of theirs, in every order."""
    ends = [-(2**62), 2**62]
    made = [Observed(at, answered(0).event, 1, mono) for at in ends for mono in (0, 2**62, None)]
    for pings in (made, made[::-1], made + made[::-1], [made[0], made[-1]] * 9, [made[1], made[3]] * 2):
        assert unpack(pack(pings)) == pings
        assert arrange(pings, 1, ()).groups() == Pings(pack(pings), 1, ()).groups()


@pytest.mark.parametrize(
    "ping",
    [
        Observed(2**62 + 1, answered(0).event), Observed(-(2**62) - 1, answered(0).event), Observed(0, answered(0).event, 1, -1),
        Observed(0, answered(0).event, 1, 2**62 + 1), answered(-1), answered(2**60 + 1), answered(0, held=2**60 + 1),
        answered(0, sent_us=2**64), answered(0, sent_us=-5), answered(0, received_us=1.5),
        Observed(0, PingAnswered("b", "0", 1)), Observed(0, PingAnswered("b", 0, None)),
        Observed(None, answered(0).event), failed(0, reason=None), failed(-1), note("x"), Observed(0, object()),
        answered(0, held=False), answered(0, held=""), answered(0, held=0.0), failed(0, held=False),
    ],
)  # fmt: skip
def test_what_is_no_ping_in_range_is_not_packed(ping):
    """Numbers of a wrong type or out of range raise, alone and among good ones."""
    for pings in ([ping], [*minutes(30), ping]):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            pack(pings)


def _spoiled(block, **changes):
    return msgspec.structs.replace(block, **changes)


def test_a_block_that_does_not_add_up_is_damage():
    """Columns that do not fit their contexts, planes that do not fit their count, contexts that are not there."""
    block = pack(minutes(20))
    rtt = block.columns[RTT]
    for spoiled in (
        _spoiled(block, count=21),
        _spoiled(block, columns=block.columns[:8]),
        _spoiled(block, contexts=block.contexts[:1]),
        _spoiled(block, which=(bytes([9]) * 20,)),
        _spoiled(block, columns=(*block.columns[:RTT], msgspec.structs.replace(rtt, firsts=(b"x",)), *block.columns[RTT + 1 :])),
        _spoiled(block, columns=(*block.columns[:RTT], msgspec.structs.replace(rtt, planes=(b"x",)), *block.columns[RTT + 1 :])),
        _spoiled(block, columns=(*block.columns[:RTT], msgspec.structs.replace(rtt, planes=(0,) * 9), *block.columns[RTT + 1 :])),
    ):
        with pytest.raises(Damaged):
            unpack(spoiled)


def test_planes_in_another_spelling_are_no_canonical_record():
    """A plane that could be a single number, or need not be there, is refused with the record."""
    record = make_record(1, minutes(20))
    columns = record.pings.columns
    for planes in ((b"\0" * 20,), (0,), (256,), (-1, -1)):
        fat = msgspec.structs.replace(columns[MONO], planes=planes)
        block = _spoiled(record.pings, columns=(columns[0], fat, *columns[2:]))
        with pytest.raises(Damaged):
            decode_record(encode_record(msgspec.structs.replace(record, pings=block)))
