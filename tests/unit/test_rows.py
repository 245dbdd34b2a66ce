"""How rows hold a record on disk, and how a row shows that it is whole."""

import os
import random

import pytest
from scene import answered, failed, minutes, note

from ledger import rows
from ledger.codec import make_record
from ledger.errors import Damaged
from ledger.packing import pack
from ledger.unpacking import Pings


def test_a_sum_covers_every_column_and_its_type():
    """Another value, another type of the same value, a column more or an exchange of two: another sum."""
    sums = {
        rows.row_sum(*columns)
        for columns in ((1, "a", None), (2, "a", None), (1, b"a", None), (1, "a", 0), (1, "a"), ("a", 1, None), (1.0, "a", None))
    }
    assert len(sums) == 7
    assert all(len(each) == 8 for each in sums)


def test_the_chain_names_all_that_stood_before():
    """The chain after two records depends on both and on their order."""
    one, other = b"1" * 32, b"2" * 32
    there = rows.chain_after(rows.chain_after(rows.CHAIN_START, one), other)
    back = rows.chain_after(rows.chain_after(rows.CHAIN_START, other), one)
    assert len({rows.CHAIN_START, there, back}) == 3
    assert len(there) == 16


@pytest.mark.parametrize(
    "plane", [0, 255, b"", b"x" * 15, b"\0\1" * 500, bytes(range(256)) * 4, random.Random(1).randbytes(1000)]
)
def test_a_plane_comes_back_from_its_stored_form(plane):
    """What deflates well is deflated, the rest stands as it is; both come back."""
    count = 1000 if isinstance(plane, int) else len(plane)
    stored = rows.deflate(plane)
    assert isinstance(stored, int) or len(stored) <= count
    assert rows.inflate(stored, count) == plane


def test_a_plane_that_repeats_takes_less_room():
    """Compression is worth its while, else it is left out."""
    assert len(rows.deflate(b"\0\1" * 500)) < 100
    noise = os.urandom(1000)
    assert rows.deflate(noise) == noise


@pytest.mark.parametrize("stored", [b"not deflate at all", rows.deflate(b"\0\1" * 500)[:-4], rows.deflate(b"\0\1" * 400), b""])
def test_a_plane_that_does_not_inflate_to_its_length_is_damage(stored):
    """Foreign, truncated, or of another length: Damaged, and never more memory than the length asked for."""
    with pytest.raises(Damaged):
        rows.inflate(stored, 1000)


def test_a_body_gives_back_its_block_and_its_groups():
    """The directory is what the groups of the columns say, with the record's greatest gap."""
    entries = [note("a"), *minutes(200), note("b"), failed(900, 10**15 + 7), answered(901, 10**15 + 9)]
    record = make_record(51, entries)
    controls = [51 + control.place for control in record.controls]
    groups = Pings(record.pings, 51, controls).groups()
    numbers = [1000 + place for place in range(len(record.pings.contexts))]
    context = dict(zip(numbers, record.pings.contexts, strict=True)).__getitem__
    origin, directory, body = rows.encode_body(record.pings, numbers, groups, 51)
    assert rows.decode_block(record.pings.count, rows.decode_directory(directory), body, context) == record.pings
    found = rows.decode_groups(rows.decode_directory(directory), origin, 51, context)
    assert [(g.peer, g.reason, g.count, g.first, g.first_ns, g.last, g.last_ns, g.rtt_us, g.feed, g.held) for g in found] == [
        (g.peer, g.reason, g.count, g.first, g.first_ns, g.last, g.last_ns, g.rtt_us, g.feed, g.held) for g in groups
    ]
    assert all(kept.gap_ns >= group.gap_ns for kept, group in zip(found, groups, strict=True))


def test_an_empty_body_is_a_record_of_controls():
    """A record without pings has a body without groups."""
    assert rows.encode_body(pack([]), [], [], 1) == (0, b"", b"")
    assert rows.decode_block(0, None, b"", {}.__getitem__) == pack([])


def test_a_context_comes_back():
    """A context's row holds all of it."""
    for context in pack([answered(0, link="l", feed="f" * 64, held=1), failed(1)]).contexts:
        assert rows.decode_context(rows.encode_context(context)) == context


def test_open_rows_give_back_their_pings():
    """Pings that no record covers yet stand as they came, nulls and all."""
    pings = [answered(0, 5, sent_us=1), failed(1, 6, link="l"), answered(2, 7, feed="f" * 64, held=2)]
    assert rows.decode_open(rows.encode_open(pings)) == pings


@pytest.mark.parametrize("decode", [rows.decode_directory, rows.decode_context, rows.decode_open])
@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x91\x93", b"\x91\x91\x01", b"\xdd\xff\xff\xff\xff", b"\x91" * 20_000])
def test_rows_that_do_not_decode_are_damage(decode, data):
    """Whatever a column holds that its decoder does not know is Damaged."""
    with pytest.raises(Damaged):
        decode(data)
