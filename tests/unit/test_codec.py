"""As bytes: stored forms, upcasting, what is refused and how it is said, records and their leaves."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from corpus import EVENTS, RECORDS
from scene import answered, failed, lost, minutes, note

from ledger import codec
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, Observed, Opaque
from ledger.errors import Damaged, EventRefused
from ledger.events import KINDS, Event, LinkLost, MachineJoined, NameResolved, NoteAdded, PingAnswered, PingFailed, PingHeard

ROOT = Path(__file__).parents[2]
H = "0123456789abcdef" * 4


# The golden corpus.


@pytest.mark.parametrize("line", EVENTS, ids=[f"{line['kind']}-{place}" for place, line in enumerate(EVENTS)])
def test_every_event_ever_written_is_read_and_written_as_it_was(line):
    """Today's code knows each stored event of the corpus and gives back the very bytes."""
    event = codec.decode_event(line["kind"], line["v"], line["stored"].encode())
    assert type(event) is KINDS[line["kind"]]
    if line["v"] == event.version:
        assert codec.encode_event(event) == line["stored"].encode()
        codec.check(Observed(0, event), "the corpus")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_corpus_holds_every_kind_with_no_and_with_every_optional_field(kind):
    """A new kind or field must come with a line of the corpus."""
    described = msgspec.inspect.type_info(KINDS[kind])
    stored = [
        set(msgspec.json.decode(line["stored"])) for line in EVENTS if line["kind"] == kind and line["v"] == KINDS[kind].version
    ]
    assert {field.encode_name for field in described.fields} in stored
    assert {field.encode_name for field in described.fields if field.required} in stored


@pytest.mark.parametrize("line", RECORDS, ids=[line["name"] for line in RECORDS])
def test_every_record_ever_written_keeps_its_bytes_and_its_leaf(line):
    """The corpus's entries make the very record bytes and leaf hash, and the bytes give back the entries."""
    entries = [
        Observed(e["at_ns"], codec.decode_event(e["kind"], e["v"], e["stored"].encode("latin-1")), e["boot"], e["mono_ns"])
        for e in line["entries"]
    ]
    data = bytes.fromhex(line["record"])
    record = codec.decode_record(data)
    assert record.first == line["first"]
    assert codec.open_record(record) == entries
    assert codec.encode_record(codec.make_record(line["first"], entries)) == data
    assert codec.leaf_of(record).hex() == line["leaf"] == hashlib.sha256(b"\0" + data).hexdigest()


# Stored forms.


def test_defaults_are_left_out():
    """A field with its default takes no room, and is read back as the default."""
    assert codec.encode_event(LinkLost("bravo")) == b'{"peer":"bravo"}'
    assert codec.decode_event("link.lost", 1, b'{"peer":"bravo"}') == LinkLost("bravo", "unknown", None, None, None, "")


def test_a_join_stores_what_its_feed_had_as_from():
    """The field `held` of a join is stored as `from`, the word of the format."""
    assert codec.encode_event(MachineJoined("bravo", held=17)) == b'{"machine":"bravo","from":17}'


@pytest.mark.parametrize(
    "raw",
    [
        b'{ "text":"x"}', b'{"text":"x"} ', b'{"text":"x","by":null}', b'{"by":"d","text":"x"}', b'{"text":"x","text":"x"}',
        b'{"text":"\\u0078"}', b'{"text":"x","colour":"red"}', b'{"text":1}', b"{}", b"", b"null", b"[]", b'{"text":"\xff"}',
        b'\xef\xbb\xbf{"text":"x"}', b'{"text":"x","mark":"a b"}', b'{"text":"' + b"x" * 4097 + b'"}',
        b'{"text":' + b"[" * 16_000, b'{"text":"x","y":' + b"[" * 8000 + b"]" * 8000 + b"}",
    ],
)  # fmt: skip
def test_a_foreign_spelling_is_kept_as_it_came(raw):
    """JSON of a known kind that we would write differently, or could not read, stays byte for byte."""
    found = codec.decode_event("note.added", 1, raw)
    assert found == Opaque("note.added", 1, raw)
    assert codec.encode_event(found) == raw
    assert codec.version_of(found) == 1


@pytest.mark.parametrize(
    ("kind", "version"), [("weather.changed", 1), ("note.added", 2), ("note.added", 2**31), ("note.added", 0), ("", 1)]
)
def test_what_is_unknown_or_newer_is_kept(kind, version):
    """Unknown kinds and newer versions are kept byte for byte, even where their fields look familiar."""
    raw = b'{"text":"x"}'
    assert codec.decode_event(kind, version, raw) == Opaque(kind, version, raw)


# Upcasters.


class Note3(Event, frozen=True):
    """A third shape of a kind, for a chain of two steps."""

    kind: ClassVar[str] = "note.added"
    version: ClassVar[int] = 3
    words: tuple[str, ...]
    by: str = "nobody"


def _split(fields):
    return {"words": tuple(fields["text"].split()), **{k: v for k, v in fields.items() if k != "text"}}


def _sign(fields):
    return {"by": "somebody", **fields}


CHAIN = {("note.added", 1): _split, ("note.added", 2): _sign}
NEWER = {**KINDS, "note.added": Note3}


@pytest.fixture
def _third_shape(monkeypatch):
    monkeypatch.setitem(codec.KINDS, "note.added", Note3)
    monkeypatch.setitem(codec._DECODERS, "note.added", msgspec.json.Decoder(Note3))


@pytest.mark.usefixtures("_third_shape")
def test_an_old_shape_is_brought_up_one_step_at_a_time():
    """Version 1 goes through both steps, version 2 through the last, version 3 through none."""
    first = codec.decode_event("note.added", 1, b'{"text":"a b"}', CHAIN)
    second = codec.decode_event("note.added", 2, b'{"words":["a","b"]}', CHAIN)
    assert first == second == Note3(("a", "b"), "somebody")
    assert codec.decode_event("note.added", 3, b'{"words":["a"]}', CHAIN) == Note3(("a",))


@pytest.mark.usefixtures("_third_shape")
@pytest.mark.parametrize("raw", [b'{"colour":"red"}', b'{"text":7}', b"[1]", b'{"text": "a"}', b'{"text":"a","by":3}', b"\xff"])
def test_an_old_shape_that_an_upcaster_cannot_bring_up_is_kept(raw):
    """What no upcaster understands stays as it came: a reader never fails over it."""
    assert codec.decode_event("note.added", 1, raw, CHAIN) == Opaque("note.added", 1, raw)


def test_a_whole_chain_is_accepted():
    """A step for each old version of each kind, and no other, is a chain."""
    codec.check_chain(CHAIN, NEWER)
    codec.check_chain(codec.UPCASTERS, codec.KINDS)


@pytest.mark.parametrize(
    ("chain", "complaint"),
    [
        ({("note.added", 2): _sign}, "note.added 1 has no upcaster"),
        ({("note.added", 1): _split}, "note.added 2 has no upcaster"),
        ({}, "has no upcaster"),
        ({**CHAIN, ("note.added", 3): _sign}, "no old version"),
        ({**CHAIN, ("note.added", 0): _sign}, "no old version"),
        ({**CHAIN, ("weather.changed", 1): _sign}, "is no kind"),
    ],
)
def test_a_chain_with_a_gap_or_a_loose_end_is_refused(chain, complaint):
    """The program does not start with an old version that leads nowhere, or a step that nothing needs."""
    with pytest.raises(AssertionError, match=complaint):
        codec.check_chain(chain, NEWER)


# What is refused.

NAN, INF = float("nan"), float("inf")
REFUSED = {
    "an instant before time": (Observed(INSTANT_MIN_NS - 1, NoteAdded("x")), "at_ns", "out of range"),
    "an instant after time": (Observed(INSTANT_MAX_NS + 1, NoteAdded("x")), "at_ns", "out of range"),
    "an instant beyond 64 bits": (Observed(2**64, answered(1).event), "at_ns", "out of range"),
    "an instant too long to print": (Observed(10**5000, NoteAdded("x")), "at_ns", "too long to print"),
    "no instant": (Observed(None, NoteAdded("x")), "at_ns", "is None"),
    "a text for an instant": (Observed("2026", NoteAdded("x")), "at_ns", "is '2026'"),
    "a fraction for an instant": (Observed(1.5, NoteAdded("x")), "at_ns", "is 1.5"),
    "no number for an instant": (Observed(NAN, NoteAdded("x")), "at_ns", "is nan"),
    "infinity for an instant": (Observed(INF, NoteAdded("x")), "at_ns", "is inf"),
    "a truth for an instant": (Observed(True, NoteAdded("x")), "at_ns", "is True"),
    "a negative monotonic clock": (Observed(0, NoteAdded("x"), 1, -1), "mono_ns", "out of range"),
    "a monotonic clock beyond 2^62": (Observed(0, NoteAdded("x"), 1, 2**62 + 1), "mono_ns", "out of range"),
    "a fraction of a monotonic clock": (Observed(0, NoteAdded("x"), 1, 0.5), "mono_ns", "is 0.5"),
    "a negative boot": (Observed(0, NoteAdded("x"), -1), "boot", "is -1"),
    "a text for a boot": (Observed(0, NoteAdded("x"), "one"), "boot", "is 'one'"),
    "a negative count": (Observed(0, PingHeard("bravo", -1)), "number", ">= 0"),
    "a count beyond its limit": (Observed(0, PingHeard("bravo", 2**60 + 1)), "number", "<= 1152921504606846976"),
    "a count beyond 64 bits": (Observed(0, PingHeard("bravo", 2**80)), "number", "<= 1152921504606846976"),
    "a count too long to print": (Observed(0, PingHeard("bravo", 10**5000)), "number", "4300 digits"),
    "a fraction of a count": (Observed(0, PingHeard("bravo", 1.0)), "number", "Expected `int`"),
    "no number for a count": (Observed(0, PingHeard("bravo", NAN)), "number", "Expected `int`"),
    "infinity for a count": (Observed(0, PingHeard("bravo", INF)), "number", "Expected `int`"),
    "no number where none may be given": (Observed(0, PingFailed("bravo", 1, held=NAN)), "held", "read back"),
    "a truth for a count": (Observed(0, PingHeard("bravo", True)), "number", "Expected `int`"),
    "a text for a count": (Observed(0, PingHeard("bravo", "1")), "number", "Expected `int`"),
    "a number for a text": (Observed(0, NoteAdded(1)), "text", "Expected `str`"),
    "a text beyond its limit": (Observed(0, NoteAdded("x" * 4097)), "text", "4096"),
    "a lone surrogate": (Observed(0, NoteAdded("a\ud800")), "text", "surrogates"),
    "a lone surrogate in a list": (Observed(0, NameResolved("a", answers=("\udfff",))), "answers", "surrogates"),
    "bytes for a text": (Observed(0, NoteAdded(b"\xff")), "text", "Expected|read back"),
    "a list for a tuple": (Observed(0, NameResolved("a", answers=["b"])), "answers", "read back"),
    "a name with a capital": (Observed(0, LinkLost("Bravo")), "peer", "regex"),
    "a name with a line break": (Observed(0, LinkLost("bravo\n")), "peer", "regex"),
    "a name with a direction mark": (Observed(0, LinkLost("bra\u202evo")), "peer", "regex"),
    "a reason that is none": (Observed(0, LinkLost("bravo", "tired")), "reason", "tired"),
    "no reason": (Observed(0, PingFailed("bravo", 1, None)), "reason", "Expected `str`"),
    "a feed id that is none": (Observed(0, PingFailed("bravo", 1, feed=H[:-1] + "G")), "feed", "regex"),
    "an object": (Observed(0, NoteAdded(object())), "text", "object"),
    "a nest": (Observed(0, NoteAdded(__import__("functools").reduce(lambda inner, _: [inner], range(5000), []))), "text", ""),
    "more than the limit of bytes": (
        Observed(0, NameResolved("a", answers=tuple("é" * 255 for _ in range(40)))), "name.resolved", "the limit is 16384",
    ),
    "no event": (Observed(0, "boo"), "event", "str is no event"),
    "an event of no kind": (Observed(0, Event()), "event", "Event is no event"),
    "an event of a foreign make": (Observed(0, Note3(("x",))), "event", "Note3 is no event"),
    "an opaque kind without a name": (Observed(0, Opaque("", 1, b"")), "kind", "1 to 64"),
    "an opaque kind with too long a name": (Observed(0, Opaque("x" * 65, 1, b"")), "kind", "1 to 64"),
    "an opaque kind that UTF-8 cannot carry": (Observed(0, Opaque("\ud800", 1, b"")), "kind", "UTF-8"),
    "an opaque version below 0": (Observed(0, Opaque("x", -1, b"")), "v", "0 to 2^31"),
    "an opaque event beyond the limit": (Observed(0, Opaque("x", 1, b"x" * 16_385)), "x", "16384"),
    "an opaque text": (Observed(0, Opaque("x", 1, "text")), "x", "bytes"),
    "a known event in disguise": (Observed(0, Opaque("note.added", 1, b'{"text":"x"}')), "note.added", "known"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=[name.replace(" ", "-") for name in REFUSED])
def test_a_refusal_names_the_field_the_limit_and_the_place(case):
    """Bad input is refused with one clear line that says what, and where, and nothing else is raised."""
    observed, field, said = REFUSED[case]
    with pytest.raises(EventRefused) as refused:
        codec.check(observed, "entry 3 of 9")
    assert refused.value.message.startswith("entry 3 of 9: ")
    assert refused.value.place == "entry 3 of 9"
    assert refused.value.field == field
    assert any(each in refused.value.message for each in said.split("|"))
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 400


def test_what_lies_just_within_the_limits_is_taken():
    """The ends of each range belong to it."""
    body = '{"text":"' + "x" * 4096 + '"}'
    for fine in (
        Observed(INSTANT_MIN_NS, NoteAdded("x" * 4096), 0, 0),
        Observed(INSTANT_MAX_NS, PingHeard("b" * 63, 2**60), 2**60, 2**62),
        Observed(0, Opaque("x" * 64, 2**31, b"x" * 16_384)),
        Observed(0, Opaque("note.added", 2, body.encode())),
        Observed(0, NameResolved("a", answers=tuple("x" * 255 for _ in range(63)))),
    ):
        codec.check(fine, "here")


def test_a_deep_nest_does_no_harm_to_a_program_that_raised_its_recursion_limit():
    """16 KiB of foreign JSON cannot nest deep enough to break the interpreter, whatever its limit is."""
    said = (
        "import sys; sys.setrecursionlimit(10**6)\n"
        "from ledger.codec import decode_event\n"
        "raw = b'{\"text\":\"x\",\"y\":' + b'[' * 8180 + b']' * 8180 + b'}'\n"
        "print(type(decode_event('note.added', 1, raw)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "Opaque\n")


# Records.


def test_a_record_gives_back_its_entries_in_order():
    """Controls stand at their places, pings between them."""
    entries = [note("first"), *minutes(5), lost(), lost("charlie"), *minutes(3, first=5), note("last")]
    record = codec.make_record(7, entries)
    assert codec.open_record(record) == entries
    assert codec.decode_record(codec.encode_record(record)) == record
    assert [control.place for control in record.controls] == [0, 6, 7, 11]


def test_a_record_made_with_its_columns_at_hand_is_the_same():
    """`arrange_record` gives the record of `make_record`, and columns as a reader would decode them."""
    entries = [note("first"), *minutes(40), failed(99)]
    record, pings = codec.arrange_record(3, entries)
    assert record == codec.make_record(3, entries)
    assert pings.groups() == type(pings)(record.pings, 3, [3]).groups()


def _bytes_of(**changes):
    record = codec.make_record(1, [note("a"), *minutes(4)])
    return codec.encode_record(msgspec.structs.replace(record, **changes))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc0", b"\x95", _bytes_of()[:-1], _bytes_of() + b"\0", _bytes_of(format=2), _bytes_of(format=0),
        _bytes_of(count=4), _bytes_of(count=6), _bytes_of(controls=()), _bytes_of(count=2**40), b"\xdd\xff\xff\xff\xff",
        codec.encode_record(codec.Record(1, 1, 0, (), codec.Block(0, (), (), ()))),
        codec.encode_record(codec.Record(1, 1, 2**40, (), codec.Block(2**40, (), (), ()))),
        codec.encode_record(codec.Record(1, 1, -1, (), codec.Block(-1, (), (), ()))),
        b"\x95\x01\x01\x01" + b"\x91" * 50_000, b"x" * 70_000,
    ],
)  # fmt: skip
def test_bytes_that_are_no_record_are_damage(data):
    """Truncated, extended, miscounted, over-nested or monstrous bytes are refused as Damaged, in little memory."""
    with pytest.raises(Damaged):
        codec.decode_record(data)


def test_a_control_that_would_be_written_differently_makes_no_canonical_record():
    """A known event in a foreign spelling is in the record as it came, and the record still encodes to itself."""
    spelled = Opaque("note.added", 1, b'{ "text":"x" }')
    record = codec.make_record(1, [Observed(0, spelled)])
    assert codec.open_record(codec.decode_record(codec.encode_record(record))) == [Observed(0, spelled)]


def test_controls_out_of_their_order_are_damage():
    """Places must ascend: a record has one form."""
    record = codec.make_record(1, [note("a"), note("b"), *minutes(2)])
    swapped = msgspec.structs.replace(record, controls=record.controls[::-1])
    with pytest.raises(Damaged):
        codec.decode_record(codec.encode_record(swapped))


def test_only_ping_results_are_packed():
    """A ping that was heard is a control event; answered and failed ones are packed."""
    assert [codec.is_ping(event) for event in (PingAnswered("b", 1, 1), PingFailed("b", 1), PingHeard("b", 1))] == [
        True,
        True,
        False,
    ]
