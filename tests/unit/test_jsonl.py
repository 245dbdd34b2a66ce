"""Lines of entries: their exact shape, and that every kind of bad line costs that line and no more than it must."""

import io
import json
from base64 import b64encode

import pytest

from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, Observed, Opaque
from ledger.errors import EventRefused, WrongIncarnation
from ledger.events import (
    FeedOpened,
    LinkLost,
    MachineJoined,
    NodeStopped,
    NoteAdded,
    PingAnswered,
    PingFailed,
    SettingsChanged,
)  # fmt: skip
from ledger.identity import Feed
from ledger.store import Ledger
from replay.export import export
from replay.jsonl import LINE_MAX_BYTES, lines, read_instant, read_line, row
from replay.jsonl_import import import_jsonl
from replay.receipts import Taken
from replay.runs import Run, runs
from replay.spans import format_instant
from replay.union import Union

INCARNATION = "import:" + "0" * 64
START = 1_767_225_600_000_000_000
SECOND = 1_000_000_000
GOOD = (
    b'{"pos":"alpha#7","rec":3,"at":"2026-01-01T00:00:00Z","boot":null,"mono_ns":null,"kind":"link.lost","v":1,'
    b'"event":{"peer":"bravo","reason":"timeout"}}'
)


def opened(machine="alpha", epoch=1, key=None, incarnation=INCARNATION):
    feed = Feed.of(incarnation, machine, epoch, key)
    return feed, Observed(START, FeedOpened(incarnation, machine, epoch, key))


def pings(count, begin=1, peer="bravo"):
    return [
        Observed(START + number * SECOND, PingAnswered(peer, number, number * 10, "1")) for number in range(begin, begin + count)
    ]


def write(path, contents, seals=()):
    """A ledger with these feeds: {feed: entries}; `seals` are the indexes after which a keyed feed is sealed."""
    with Ledger.create(path, incarnation=next(iter(contents)).incarnation) as ledger:
        for feed, entries in contents.items():
            done = 0
            for end in [*(end for end in seals if end <= len(entries)), len(entries)]:
                ledger.append(entries[done:end], observer=feed)
                if end in seals:
                    ledger.seal(feed)
                done = end
    return path


def exported(path) -> bytes:
    stream = io.BytesIO()
    with Union.open([path]) as union:
        export(union, stream, "jsonl")
    return stream.getvalue()


def take(path, data: bytes, progress=None):
    with Ledger.create(path) as ledger:
        return import_jsonl(ledger, io.BytesIO(data), "x.jsonl", progress)


def content(path):
    with Ledger.open(path) as ledger:
        return {
            feed: ([Observed(e.at_ns, e.event, e.boot, e.mono_ns) for e in ledger.read(feed)], ledger.head(feed))
            for feed in ledger.feeds()
        }


def quarantined(path):
    with Ledger.open(path) as ledger:
        return [(line, raw) for _source, line, _why, raw in ledger.quarantined()]


def test_the_shape_of_a_line():
    """A line has exactly the keys of the contract, in their order, as one object without blanks."""
    feed, first = opened()
    run = Run(feed, "alpha", 7, 3, [Observed(START, LinkLost("bravo", "timeout"))])
    assert lines(run).encode() == GOOD + b"\n"
    full = Observed(START + 250_000_000, PingAnswered("bravo", 5, 9, "1", 1, 2, 3, 4, 5, feed.id, 6), 7, 8)
    assert json.loads(lines(Run(feed, "alpha.2~3f2a", 1, None, [full]))) == {
        "pos": "alpha.2~3f2a#1", "rec": None, "at": "2026-01-01T00:00:00.25Z", "boot": 7, "mono_ns": 8,
        "kind": "ping.answered", "v": 1,
        "event": {
            "peer": "bravo", "number": 5, "rtt_us": 9, "link": "1", "sent_us": 1, "received_us": 2, "replied_us": 3,
            "returned_us": 4, "peer_boot": 5, "feed": feed.id, "held": 6,
        },
    }  # fmt: skip
    opaque = Observed(START, Opaque("weather.changed", 9, b"\xff\x00"))
    assert json.loads(lines(Run(feed, "alpha", 1, None, [opaque])))["raw"] == b64encode(b"\xff\x00").decode()
    assert "event" not in json.loads(lines(Run(feed, "alpha", 1, None, [opaque])))
    assert lines(Run(feed, "alpha", 1, 1, [first, opaque])).count("\n") == 2


def test_many_lines_are_as_one():
    """The quick way of a whole run gives the rows that are defined one by one."""
    feed, first = opened()
    entries = [first, *pings(3), Observed(START, NoteAdded("\x7f\u202e")), Observed(START, Opaque("x", 1, b"{}"))]
    entries += [Observed(START, PingFailed("bravo", 9))]
    run = Run(feed, "alpha", 11, 4, entries)
    for (index, entry), line in zip(enumerate(entries, 11), lines(run).splitlines(), strict=True):
        assert read_line(line.encode()).observed == entry
        shown = row("alpha", index, 4, entry)
        assert json.loads(line)["pos"] == shown.pos
        assert json.loads(line)["at"] == shown.at


def test_nothing_that_a_terminal_obeys():
    """Control and bidi characters leave as escapes, and come back as they were."""
    feed, _first = opened()
    note = Observed(START, NoteAdded("\x1b[2J\x7f\x9b\u202e\u2066é💩"))
    text = lines(Run(feed, "alpha", 1, None, [note]))
    assert all(character.isprintable() for character in text[:-1])
    assert read_line(text.encode()).observed == note


def test_the_longest_line_is_short_enough():
    """The largest event that the record takes, in the spelling that takes most room, is a line that may come back."""
    feed, _first = opened()
    widest = Observed(START, Opaque("\x7f" * 64, 1, b"\x7f" * 16_384))
    names = tuple(["\x7f" * 255] * 63)
    wide = Observed(START, type(read_line(_resolved(names)).observed.event)("a", answers=names))
    for entry in (widest, wide):
        text = lines(Run(feed, "alpha", 1, None, [entry])).encode()
        assert len(text) <= LINE_MAX_BYTES
        assert read_line(text).observed == entry


def _resolved(names):
    return json.dumps({**json.loads(GOOD), "kind": "name.resolved", "event": {"name": "a", "answers": names}}).encode()


def test_any_spelling_of_the_same_json():
    """Order of keys, blanks and escapes do not matter: what is recorded is what was meant."""
    told = json.loads(GOOD)
    spelled = json.dumps(dict(reversed(told.items())), indent=1).replace("bravo", "\\u0062ravo").encode()
    assert read_line(spelled) == read_line(GOOD)


@pytest.mark.parametrize("at_ns", [INSTANT_MIN_NS, INSTANT_MAX_NS, -1, 0, 1, START + 123_456_789, START - 500_000_000])
def test_instants_come_back(at_ns):
    """Every instant that the record holds is read back from how it is printed, also before 1970."""
    assert read_instant(format_instant(at_ns)) == at_ns


def bad(**changes):
    told = {**json.loads(GOOD), **changes}
    return json.dumps({key: value for key, value in told.items() if value != "-"}).encode()


BAD = {
    "truncated": (GOOD[:-5], "alformed"),
    "no JSON": (b"alpha was here", "malformed"),
    "a list": (b"[1]", "object"),
    "NaN": (GOOD.replace(b'"rec":3', b'"rec":NaN'), "malformed"),
    "a number too large": (GOOD.replace(b'"rec":3', b'"rec":1e400'), "rec"),
    "rec 0": (bad(rec=0), "rec"),
    "rec of text": (bad(rec="3"), "rec"),
    "an unknown key": (bad(extra=1), "unknown field `extra`"),
    "a missing key": (bad(boot="-"), "missing required field `boot`"),
    "neither event nor raw": (bad(event="-"), "neither event nor raw"),
    "both event and raw": (bad(raw=""), "both event and raw"),
    "raw that is no base64": (bad(event="-", raw="*"), "no base64"),
    "raw that is no ASCII": (bad(event="-", raw="é"), "no base64"),
    "raw of 17 KiB": (bad(event="-", raw="AAAA" * 6000, kind="x.y"), "16384"),
    "a kind without a name": (bad(kind=""), "kind"),
    "an unknown kind": (bad(kind="weather.changed"), "unknown to this version"),
    "a newer version": (bad(v=2), "unknown to this version"),
    "version 0": (bad(v=0), "unknown to this version"),
    "an unknown field of an event": (bad(event={"peer": "bravo", "colour": 1}), "unknown field `colour`"),
    "a field of a wrong type": (bad(event={"peer": 7}), "peer"),
    "an unknown reason": (bad(event={"peer": "bravo", "reason": "weather"}), "weather"),
    "a peer that is no name": (bad(event={"peer": "Bravo!"}), "peer"),
    "an RTT below 0": (bad(kind="ping.answered", event={"peer": "bravo", "number": 1, "rtt_us": -1}), "rtt_us"),
    "an RTT that is no integer": (bad(kind="ping.answered", event={"peer": "bravo", "number": 1, "rtt_us": 1.5}), "rtt_us"),
    "an event that is none": (bad(event=None), "object"),
    "an event of 17 KiB": (bad(kind="name.resolved", event={"name": "a", "answers": ["x" * 255] * 70}), "limit"),
    "a host name that is no text": (GOOD.replace(b"bravo", b"br\xffvo"), "UTF-8"),
    "half a pair": (GOOD.replace(b"timeout", b"\\ud800"), "truncated"),
    "nested deeply": (GOOD.replace(b'"timeout"', b"[" * 30_000 + b"]" * 30_000), "nested too deeply"),
    "an instant out of range": (bad(at="2126-01-01T00:00:00Z"), "out of range"),
    "a day that never was": (bad(at="2026-02-30T00:00:00Z"), "no such day"),
    "an instant without a zone": (bad(at="2026-01-01T00:00:00"), "no instant"),
    "an instant with ten decimals": (bad(at="2026-01-01T00:00:00.0000000001Z"), "no instant"),
    "a clock out of range": (bad(mono_ns=2**63), "mono_ns"),
    "a clock below 0": (bad(mono_ns=-1), "mono_ns"),
    "a boot below 0": (bad(boot=-1), "boot"),
    "no position": (bad(pos="alpha"), "no position"),
    "index 0": (bad(pos="alpha#0"), "no position"),
    "an index with zeros in front": (bad(pos="alpha#07"), "no position"),
    "an index of other digits": (bad(pos="alpha#٧"), "no position"),
    "an index too large": (bad(pos="alpha#" + "9" * 19), "no position"),
    "a name that is none": (bad(pos="Alpha#7"), "no position"),
    "a line that is too long": (GOOD[:-1] + b" " * LINE_MAX_BYTES + b"}", "longer than"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_is_refused(tmp_path, what):
    """It is refused with number and reason and kept in the quarantine; other feeds and the lines before it lose nothing."""
    data, why = BAD[what]
    feed, first = opened()
    other, begun = opened("bravo")
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(5)], other: [begun, *pings(5)]})
    good = exported(source).splitlines(keepends=True)
    good.insert(6, data + b"\n")
    result = take(tmp_path / "b.ledger", b"".join(good))
    (refusal,) = result.refused
    assert (refusal.line, refusal.file) == (7, "x.jsonl")
    assert why in refusal.why
    assert content(tmp_path / "b.ledger") == content(source)
    ((line, raw),) = quarantined(tmp_path / "b.ledger")
    assert line == 7
    assert (data + b"\n").startswith(raw[:LINE_MAX_BYTES])


def test_a_missing_line_costs_the_rest_of_its_feed(tmp_path):
    """An index has no gaps: what follows the missing entry is refused with one reason, kept, and taken once it is whole."""
    feed, first = opened()
    other, begun = opened("bravo")
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(9)], other: [begun, *pings(5)]})
    whole = exported(source).splitlines(keepends=True)
    result = take(tmp_path / "b.ledger", b"".join([*whole[:3], b"broken\n", *whole[4:]]))
    assert result.feeds == {"alpha": Taken(3, 0, 0), "bravo": Taken(6, 0, 0)}
    assert [refusal.line for refusal in result.refused] == [4, 5]
    assert result.refused[1].why == "#5 of alpha does not follow #3: lines are missing; and 5 more lines of this feed"
    assert [line for line, _raw in quarantined(tmp_path / "b.ledger")] == [4, 5, 6, 7, 8, 9, 10]
    result = take(tmp_path / "b.ledger", b"".join(whole))
    assert result.feeds == {"alpha": Taken(7, 3, 0), "bravo": Taken(0, 6, 0)}
    assert result.refused == []
    assert exported(tmp_path / "b.ledger") == b"".join(whole)


def test_records_come_back_as_they_were_sealed(tmp_path):
    """A keyed feed's boundaries are its origin's: record by record the same, the open part open, the head the same."""
    feed, first = opened(key="ed25519:x")
    entries = [first, Observed(START, MachineJoined("alpha")), *pings(40), Observed(START, NodeStopped(1))]
    source = write(tmp_path / "a.ledger", {feed: [*entries, *pings(7, 50)]}, seals=(10, 43))
    with Ledger.open(source) as ledger:
        assert ledger.head(feed).records == 3
    data = exported(source)
    result = take(tmp_path / "b.ledger", data)
    assert result.feeds == {"alpha": Taken(50, 0, 0)}
    assert content(tmp_path / "b.ledger") == content(source)
    assert take(tmp_path / "b.ledger", data).feeds == {"alpha": Taken(0, 50, 0)}
    assert exported(tmp_path / "b.ledger") == data


def test_a_mark_before_the_first_line_is_none_of_it(tmp_path):
    """Some editors put a byte order mark there."""
    feed, first = opened()
    data = exported(write(tmp_path / "a.ledger", {feed: [first, *pings(9)]}))
    assert take(tmp_path / "b.ledger", b"\xef\xbb\xbf" + data).refused == []
    assert exported(tmp_path / "b.ledger") == data


def test_in_a_mixed_file_a_broken_line_may_be_anybodys(tmp_path):
    """Where lines of feeds are mixed, no record that was waiting for its end is believed to be whole after a broken line."""
    feed, first = opened(key="ed25519:x")
    other, begun = opened("bravo", key="ed25519:y")
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(9)], other: [begun, *pings(3)]}, seals=(4, 10))
    whole = exported(source).splitlines(keepends=True)
    mixed = [*whole[:4], whole[10], *whole[4:9], *whole[11:], b"broken\n"]
    take(tmp_path / "b.ledger", b"".join(mixed))
    with Ledger.open(tmp_path / "b.ledger") as ledger:
        assert (ledger.head(feed).last, ledger.head(other).last) == (9, 4)
        assert ledger.head(feed).records == 1
    assert take(tmp_path / "b.ledger", b"".join(whole)).refused == []
    assert content(tmp_path / "b.ledger") == content(source)


def test_a_record_is_never_made_up(tmp_path):
    """Where a record's end is missing its entries come in as open ones, and the whole file seals them later."""
    feed, first = opened(key="ed25519:x")
    other, begun = opened("bravo", key="ed25519:y")
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(9)], other: [begun]}, seals=(10,))
    whole = exported(source).splitlines(keepends=True)
    for place, cut in enumerate(([*whole[:9], b"broken\n", whole[10]], [*whole[:9], whole[9][:-9]], [*whole[:4], *whole[5:]])):
        target = tmp_path / f"{place}.ledger"
        take(target, b"".join(cut))
        with Ledger.open(target) as ledger:
            assert ledger.head(feed).records == 0
            assert ledger.head(feed).last in {4, 9}
        assert take(target, b"".join(whole)).refused == []
        assert content(target) == content(source)


def test_a_garbled_line_between_two_good_ones(tmp_path):
    """A line that was none of a record's does not break the record around it."""
    feed, first = opened(key="ed25519:x")
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(9)]}, seals=(10,))
    whole = exported(source).splitlines(keepends=True)
    assert len(take(tmp_path / "b.ledger", b"".join([*whole[:4], b"# note\n", b"\n", *whole[4:]])).refused) == 1
    assert content(tmp_path / "b.ledger") == content(source)


def test_the_rest_of_a_feed_continues_it(tmp_path):
    """A slice from the middle is taken if it goes on where the ledger stands, else refused with the reason."""
    feed, first = opened()
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(1500)]})
    whole = exported(source).splitlines(keepends=True)
    result = take(tmp_path / "b.ledger", b"".join(whole[700:]))
    assert result.feeds == {}
    assert result.refused[0].why.startswith("alpha is not begun at #1 in this file, and no feed has that name here")
    assert take(tmp_path / "c.ledger", b"".join(whole[:700])).feeds == {"alpha": Taken(700, 0, 0)}
    assert "does not follow #700" in take(tmp_path / "c.ledger", b"".join(whole[800:])).refused[0].why
    assert take(tmp_path / "c.ledger", b"".join(whole[600:])).feeds == {"alpha": Taken(801, 100, 0)}
    assert content(tmp_path / "c.ledger") == content(source)


def test_without_a_final_line_feed(tmp_path):
    """A last line without its line feed is a line like any other."""
    feed, first = opened()
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(5)]})
    assert take(tmp_path / "b.ledger", exported(source)[:-1]).refused == []
    assert content(tmp_path / "b.ledger") == content(source)


def test_other_content_at_a_taken_position(tmp_path):
    """It is named with both digests and counted, nothing of it is written, and other feeds are taken all the same."""
    feed, first = opened()
    other, begun = opened("bravo")
    mine = write(tmp_path / "a.ledger", {feed: [first, *pings(5)]})
    theirs = write(tmp_path / "b.ledger", {feed: [first, *pings(2), *pings(9, 30)], other: [begun]})
    before = content(mine)[feed]
    result = take(mine, exported(theirs))
    assert result.feeds == {"alpha": Taken(0, 3, 9), "bravo": Taken(1, 0, 0)}
    (conflict,) = result.conflicts
    assert conflict.pos == "alpha#4"
    assert len({len(digest) for digest in conflict.branches} | {64}) == 1
    assert conflict.branches[0] != conflict.branches[1]
    assert content(mine)[feed] == before
    assert result.refused == []


def test_other_boundaries_of_the_same_entries(tmp_path):
    """Records that begin together and end apart contradict each other, though all their entries agree."""
    feed, first = opened(key="ed25519:x")
    mine = write(tmp_path / "a.ledger", {feed: [first, *pings(9)]}, seals=(6,))
    theirs = write(tmp_path / "b.ledger", {feed: [first, *pings(9)]}, seals=(8,))
    before = content(mine)
    result = take(mine, exported(theirs))
    assert result.conflicts[0].pos == "alpha#6"
    assert result.feeds == {"alpha": Taken(0, 5, 5)}
    assert content(mine) == before


def test_a_feed_that_is_contradicted_here(tmp_path):
    """A ledger that keeps a fork of a feed takes nothing more of it from lines."""
    from replay.merge import merge

    feed, first = opened()
    one = write(tmp_path / "a.ledger", {feed: [first, *pings(5)]})
    other = write(tmp_path / "b.ledger", {feed: [first, *pings(3), *pings(3, 30)]})
    merge([one, other], tmp_path / "c.ledger")
    before = content(tmp_path / "c.ledger")
    result = take(tmp_path / "c.ledger", exported(one))
    assert result.feeds == {"alpha": Taken(0, 4, 2)}
    assert [conflict.pos for conflict in result.conflicts] == ["alpha#5"]
    assert len(result.conflicts[0].branches) == 2
    assert content(tmp_path / "c.ledger") == before


def test_records_that_do_not_fit(tmp_path):
    """Of a record that skips a number, begins before the last one ends or is larger than any, the entries stay open."""
    feed, first = opened(key="ed25519:x")
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(9)]}, seals=(5,))
    told = [json.loads(line) for line in exported(source).splitlines()]
    for recs, records in (([2] * 5, 0), ([1] * 5 + [3] * 5, 1)):
        altered = [{**each, "rec": rec} for each, rec in zip(told, [*recs, None, None, None, None, None], strict=False)]
        target = tmp_path / f"{records}.ledger"
        result = take(target, b"".join(json.dumps(each).encode() + b"\n" for each in altered))
        assert result.refused == []
        with Ledger.open(target) as ledger:
            assert (ledger.head(feed).records, ledger.head(feed).last) == (records, 10)
        assert take(target, exported(source)).conflicts == []
        assert content(target) == content(source)
    notes = [Observed(START, NoteAdded("x" * 4000)) for _ in range(20)]
    assert take(tmp_path / "huge.ledger", lines(Run(feed, "alpha", 1, 1, [first, *notes])).encode()).refused == []
    with Ledger.open(tmp_path / "huge.ledger") as ledger:
        assert (ledger.head(feed).records, ledger.head(feed).last) == (0, 21)


def test_a_feed_begins_with_its_opening(tmp_path):
    """A first entry that is no feed.opened, or opens a feed of another name, makes no feed."""
    feed, first = opened()
    strange = lines(Run(feed, "bravo", 1, None, [first])) + lines(Run(feed, "charlie", 1, None, pings(3)))
    strange += lines(Run(feed, "alpha~0000", 1, None, [first]))
    result = take(tmp_path / "a.ledger", strange.encode())
    assert result.feeds == {}
    assert [refusal.why for refusal in result.refused] == [
        f"bravo opens as alpha~{feed.id[:8]}",
        "charlie begins with ping.answered, not with feed.opened; and 2 more lines of this feed",
        f"alpha~0000 opens as alpha~{feed.id[:8]}",
    ]


def test_another_incarnation(tmp_path):
    """Lines of another incarnation than the ledger's are refused as a whole, naming both and the line."""
    feed, first = opened()
    other, begun = opened(incarnation="import:" + "1" * 64)
    write(tmp_path / "a.ledger", {feed: [first]})
    with pytest.raises(WrongIncarnation, match="line 1") as caught:
        take(tmp_path / "a.ledger", lines(Run(other, "alpha", 1, None, [begun])).encode())
    assert (caught.value.held, caught.value.given) == (feed.incarnation, other.incarnation)


def test_two_feeds_of_one_name(tmp_path):
    """Feeds that share machine and epoch are told apart by the first digits of their ids, there and back."""
    one, first = opened(key="ed25519:x")
    two, second = opened(key="ed25519:y")
    again, third = opened(epoch=2, key="ed25519:y")
    source = write(
        tmp_path / "a.ledger",
        {one: [first, *pings(3)], two: [second, *pings(4)], again: [third, Observed(START, SettingsChanged(1))]},
    )
    data = exported(source)
    assert {json.loads(line)["pos"].partition("#")[0] for line in data.splitlines()} == {
        f"alpha~{one.id[:4]}", f"alpha~{two.id[:4]}", "alpha.2",
    }  # fmt: skip
    assert set(take(tmp_path / "b.ledger", data).feeds) == {f"alpha~{one.id[:4]}", f"alpha~{two.id[:4]}", "alpha.2"}
    assert content(tmp_path / "b.ledger") == content(source)
    middle = data.splitlines()[2].replace(f"alpha~{min(one, two).id[:4]}".encode(), b"alpha")
    assert "several feeds have that name here" in take(tmp_path / "b.ledger", middle).refused[0].why


def test_an_import_in_many_commits(tmp_path, monkeypatch):
    """Where commits fall changes nothing, also within a record, and each is told."""
    monkeypatch.setattr("replay.jsonl_import.COMMIT_LINES", 7)
    feed, first = opened()
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(2500)]})
    told = []
    take(tmp_path / "b.ledger", exported(source), told.append)
    assert content(tmp_path / "b.ledger") == content(source)
    assert told[:2] == [7, 14]
    assert told[-1] == 2501


def test_a_long_open_part(tmp_path):
    """Lines of no record are taken in parts, and a feed without a key seals them by count as always."""
    for key, records in ((None, 5), ("ed25519:x", 0)):
        feed, first = opened(key=key)
        target = tmp_path / f"{records}.ledger"
        result = take(target, lines(Run(feed, "alpha", 1, None, [first, *pings(5000)])).encode())
        assert result.feeds == {"alpha": Taken(5001, 0, 0)}
        with Ledger.open(target) as ledger:
            assert ledger.head(feed).records == records


def test_only_whole_records_bear_their_number(tmp_path):
    """A range that cuts a record gives its entries without a number, so that no part is taken for the whole."""
    from replay.moments import Range

    feed, first = opened()
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(2500)]})
    with Ledger.open(source) as ledger:
        found = list(runs(ledger, Range(START + 500 * SECOND, START + 2200 * SECOND)))
    assert [(run.first, run.record, len(run.entries)) for run in found] == [(501, None, 500), (1001, 2, 1000), (2001, None, 200)]


def test_no_file_of_lines(tmp_path):
    """A file of another kind gives a refusal a line, and no feed."""
    result = take(tmp_path / "a.ledger", b"\x00\xff" * 10 + b"\n" + b"x" * (3 * LINE_MAX_BYTES) + b"\nhello")
    assert [refusal.line for refusal in result.refused] == [1, 2, 3]
    assert result.feeds == {}


def test_a_refusal_says_no_more_than_it_must():
    """What is wrong is said in one short line that no terminal obeys, whatever the line holds."""
    for what, (data, _why) in BAD.items():
        if what == "a line that is too long":
            continue
        with pytest.raises(EventRefused) as caught:
            read_line(data)
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 300
    with pytest.raises(EventRefused, match=r"^at '\\x1b\[2J.*…' is no instant such as 2026-11-22T03:12:07\.25Z$"):
        read_line(bad(at="\x1b[2J" * 9))


def test_the_rest_of_a_record(tmp_path):
    """Lines that begin within a record complete it, where the ledger holds its beginning as open entries."""
    feed, first = opened(key="ed25519:x")
    source = write(tmp_path / "a.ledger", {feed: [first, *pings(9)]}, seals=(6,))
    whole = exported(source).splitlines(keepends=True)
    take(tmp_path / "b.ledger", b"".join([*whole[:3], b"broken\n"]))
    with Ledger.open(tmp_path / "b.ledger") as ledger:
        assert (ledger.head(feed).records, ledger.head(feed).last) == (0, 3)
    assert take(tmp_path / "b.ledger", b"".join(whole[2:])).feeds == {"alpha": Taken(7, 1, 0)}
    assert content(tmp_path / "b.ledger") == content(source)
