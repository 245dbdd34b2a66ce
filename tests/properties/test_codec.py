"""Laws of stored forms: one event has one stored form, one run of entries one record, and no two records one form."""

import msgspec
from corpus import RECORDS
from hypothesis import example, given
from hypothesis import strategies as st

from ledger import codec
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, MONO_MAX_NS, Observed, Opaque
from ledger.errors import Damaged, EventRefused
from ledger.events import KINDS
from ledger.testing import events, instants, opaques

counts = st.none() | st.integers(0, 2**60)
monotonic = st.none() | st.integers(0, MONO_MAX_NS)
entries = st.builds(Observed, instants(), events() | events(["ping.answered", "ping.failed"]) | opaques(), counts, monotonic)


def _taken(observed):
    try:
        codec.check(observed, "here")
    except EventRefused:
        return False
    return True


@given(events())
def test_every_valid_event_has_one_stored_form(event):
    """What is encoded decodes to the event, which encodes to the same bytes, and the record takes it."""
    raw = codec.encode_event(event)
    assert codec.decode_event(event.kind, event.version, raw) == event
    if len(raw) <= codec.CONTROL_MAX_BYTES:
        codec.check(Observed(0, event), "here")


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 3), st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_whatever_was_stored_is_given_back(kind, version, raw):
    """Any bytes under any kind decode without an error to something that encodes to them."""
    event = codec.decode_event(kind, version, raw)
    assert codec.encode_event(event) == raw
    assert (event.kind, codec.version_of(event)) == (kind, version)


@given(events(), st.data())
def test_json_that_says_the_same_otherwise_is_not_taken_for_ours(event, data):
    """Spaces, another order of fields or an escape make other bytes, and other bytes make another (opaque) event."""
    raw = codec.encode_event(event)
    fields = msgspec.json.decode(raw)
    spelled = data.draw(
        st.sampled_from(
            [
                b" " + raw,
                raw + b"\n",
                msgspec.json.encode(dict(reversed(fields.items()))),
                raw.replace(b":", b": "),
                raw.replace(b"e", b"\\u0065"),
            ]
        )
    )
    found = codec.decode_event(event.kind, event.version, spelled)
    assert codec.encode_event(found) == spelled
    assert (spelled == raw) == (found == event) or isinstance(found, Opaque) or spelled != raw


@given(st.integers(1, 2**60), st.lists(entries, min_size=1, max_size=12))
def test_records_are_canonical(first, drawn):
    """Entries make a record, its bytes give back the record and the entries, and encoding again gives the bytes."""
    kept = [each for each in drawn if _taken(each)]
    if not kept:
        return
    record = codec.make_record(first, kept)
    data = codec.encode_record(record)
    if len(data) > codec.RECORD_MAX_BYTES:
        return
    assert codec.open_record(record) == kept
    assert codec.decode_record(data) == record
    assert codec.encode_record(codec.decode_record(data)) == data


_seeds = st.sampled_from([bytes.fromhex(line["record"]) for line in RECORDS])


@st.composite
def _mutants(draw):
    data = bytearray(draw(_seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0x90, 0xC0, 0xC4, 0xCF, 0xD3, 0xDD, 0xE0, 0xFF]))
            case 2:
                del data[at : at + draw(st.integers(1, 9))]
            case 3:
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
            case _:
                data[at : at + 8] = draw(
                    st.sampled_from([b"\xcf" + b"\xff" * 7, b"\xd3\x80" + b"\0" * 6, b"\xdf\xff\xff\xff\xff"])
                )
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


@given(_mutants())
@example(b"")
def test_a_mutated_record_is_refused_or_is_a_record(data):
    """Any bytes either are Damaged or are exactly what they decode to: no two strings of bytes are one record."""
    try:
        record = codec.decode_record(data)
    except Damaged:
        return
    assert codec.encode_record(record) == data
    assert codec.encode_record(codec.make_record(record.first, codec.open_record(record))) == data


def _taken(entry):
    try:
        codec.check(entry, "an entry")
    except EventRefused:
        return False
    return True


@given(_mutants(), st.integers(0, 60))
def test_what_a_few_entries_come_from_may_be_spelled_otherwise_but_they_are_taken_by_the_record(data, limit):
    """Any bytes are refused, hold more than were asked for, or hold entries each of which an append would take; those of a record
    are the record's.
    """
    try:
        few = codec.decode_few(data, limit)
    except (Damaged, EventRefused):
        few = None
    try:
        record = codec.decode_record(data)
    except Damaged:
        record = None
    if few is not None:
        assert 1 <= len(few[1]) <= limit
        assert all(map(_taken, few[1]))
        assert record is None or few == (record.first, codec.open_record(record))
    elif record is not None and record.count <= limit:
        assert not all(map(_taken, codec.open_record(record)))


anything = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(alphabet=st.characters(), max_size=5)
    | st.just([])
    | st.binary(max_size=3)
)


@given(events(), st.data())
def test_a_check_either_refuses_or_vouches(event, data):
    """With any value in any field, `check` raises EventRefused or the event comes back from its stored form; nothing else."""
    name = data.draw(st.sampled_from(event.__struct_fields__))
    spoiled = type(event)(**{**msgspec.structs.asdict(event), name: data.draw(anything)})
    observed = Observed(
        data.draw(anything | st.just(0)), spoiled, data.draw(anything | st.none()), data.draw(anything | st.none())
    )
    refusal = None
    try:
        codec.check(observed, "here")
    except EventRefused as error:
        refusal = error
    if refusal is not None:
        assert refusal.place == "here"
        assert refusal.field
        return
    assert codec.decode_event(spoiled.kind, spoiled.version, codec.encode_event(spoiled)) == spoiled
    assert type(observed.at_ns) is int
    assert INSTANT_MIN_NS <= observed.at_ns <= INSTANT_MAX_NS
