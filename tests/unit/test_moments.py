"""The time grammar, by examples: what each spelling means under a fixed now, and what is refused with which hint."""

import pytest

from ledger.errors import NotCovered, Refused
from ledger.identity import Position
from replay.moments import Anchors, Range, nearest, parse_moment, parse_range
from replay.spans import format_instant, format_span, parse_span

SECOND = 10**9
NOW = 1_795_317_127_123_456_789  # 2026-11-22T03:12:07.123456789Z, a Sunday
START = 1_795_000_000 * SECOND


def _position(position: Position) -> int:
    if position.index > 20_000:
        raise NotCovered(f"{position} is not held")
    return START + position.index


UTC = Anchors(
    now_ns=NOW,
    start_ns=START,
    end_ns=NOW,
    marks={"deploy": (NOW - 5,), "twice": (NOW - 9, NOW - 8), "same": (7, 7)},
    position=_position,
)
BERLIN = Anchors(now_ns=NOW, tz="Europe/Berlin", start_ns=START, end_ns=NOW)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-22T03:12:07Z", "2026-11-22T03:12:07Z"),
        ("2026-11-22t03:12:07.000000001z", "2026-11-22T03:12:07.000000001Z"),
        ("2026-11-22T03:12:07.5+01:00", "2026-11-22T02:12:07.5Z"),
        ("2026-11-22T03:12:07-23:59", "2026-11-23T03:11:07Z"),
        ("2026-11-22 03:12:07 +05:30", "2026-11-21T21:42:07Z"),
        ("2026-11-22T03:12:07-00:00", "2026-11-22T03:12:07Z"),
        ("2026-11-22", "2026-11-22T00:00:00Z"),
        ("2026-11-22 03:12", "2026-11-22T03:12:00Z"),
        ("2026-11-22T03:12", "2026-11-22T03:12:00Z"),
        ("2026-11-22 03:12:07.25", "2026-11-22T03:12:07.25Z"),
        ("2026-11-22 03:12 UTC", "2026-11-22T03:12:00Z"),
        ("2026-11-22 03:12 Europe/Berlin", "2026-11-22T02:12:00Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
        ("03:12", "2026-11-22T03:12:00Z"),
        ("03:12:07.123456789", "2026-11-22T03:12:07.123456789Z"),
        ("03:12:07.12345679", "2026-11-21T03:12:07.12345679Z"),
        ("03:13", "2026-11-21T03:13:00Z"),
        ("04:12+01:00", "2026-11-22T03:12:00Z"),
        ("00:00", "2026-11-22T00:00:00Z"),
        ("@0", "1970-01-01T00:00:00Z"),
        ("@1767225600.25", "2026-01-01T00:00:00.25Z"),
        ("@-1.5", "1969-12-31T23:59:58.5Z"),
        ("@-0.000000001", "1969-12-31T23:59:59.999999999Z"),
        ("now", "2026-11-22T03:12:07.123456789Z"),
        ("  now  ", "2026-11-22T03:12:07.123456789Z"),
        ("now-90m", "2026-11-22T01:42:07.123456789Z"),
        ("now - 90m", "2026-11-22T01:42:07.123456789Z"),
        ("now+5s", "2026-11-22T03:12:12.123456789Z"),
        ("-2h30m", "2026-11-22T00:42:07.123456789Z"),
        ("+5m", "2026-11-22T03:17:07.123456789Z"),
        ("-1w", "2026-11-15T03:12:07.123456789Z"),
        ("15 min ago", "2026-11-22T02:57:07.123456789Z"),
        ("1 hour 30 minutes ago", "2026-11-22T01:42:07.123456789Z"),
        ("1.5h ago", "2026-11-22T01:42:07.123456789Z"),
        ("123456789ms ago", "2026-11-20T16:54:30.334456789Z"),
        ("today", "2026-11-22T00:00:00Z"),
        ("yesterday", "2026-11-21T00:00:00Z"),
        ("start", "2026-11-18T11:06:40Z"),
        ("start+1s", "2026-11-18T11:06:41Z"),
        ("end", "2026-11-22T03:12:07.123456789Z"),
        ("end-5m", "2026-11-22T03:07:07.123456789Z"),
        ("mark:deploy", "2026-11-22T03:12:07.123456784Z"),
        ("mark:same", "1970-01-01T00:00:00.000000007Z"),
        ("1677-09-21T00:12:43.145224192Z", "1677-09-21T00:12:43.145224192Z"),
        ("2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_a_spelling_names_its_instant(text: str, instant: str) -> None:
    """Each spelling of the grammar names just this instant, to the nanosecond, under a fixed now in UTC."""
    moment = parse_moment(text, UTC)
    assert format_instant(moment.at_ns) == instant
    assert (moment.position, moment.text) == (None, text.strip())


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-22 03:12", "2026-11-22T02:12:00Z"),
        ("2026-07-22 03:12", "2026-07-22T01:12:00Z"),
        ("2026-11-22T03:12:00Z", "2026-11-22T03:12:00Z"),
        ("2026-11-22", "2026-11-21T23:00:00Z"),
        ("04:12", "2026-11-22T03:12:00Z"),
        ("04:13", "2026-11-21T03:13:00Z"),
        ("03:12Z", "2026-11-22T03:12:00Z"),
        ("today", "2026-11-21T23:00:00Z"),
        ("yesterday", "2026-11-20T23:00:00Z"),
        ("now-1h", "2026-11-22T02:12:07.123456789Z"),
        ("2026-10-25 01:59:59.9", "2026-10-24T23:59:59.9Z"),
        ("2026-10-25 03:00", "2026-10-25T02:00:00Z"),
        ("2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00Z"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00Z"),
        ("2026-03-29 01:59:59.999999999", "2026-03-29T00:59:59.999999999Z"),
        ("2026-03-29 03:00", "2026-03-29T01:00:00Z"),
    ],
)
def test_local_time_is_read_in_the_zone(text: str, instant: str) -> None:
    """With a zone, what has no offset of its own is read in that zone; what has one is not."""
    assert format_instant(parse_moment(text, BERLIN).at_ns) == instant


def test_a_position_names_its_entry() -> None:
    """A position is looked up, kept in the answer, and its owner's refusal comes through unchanged."""
    moment = parse_moment("alpha.2~3f2a#17", UTC)
    assert (moment.at_ns, moment.position) == (START + 17, Position("alpha", 2, "3f2a", 17))
    with pytest.raises(NotCovered):
        parse_moment("alpha#20001", UTC)
    with pytest.raises(Refused, match="no ledger is open"):
        parse_moment("alpha#1", Anchors())


@pytest.mark.parametrize(
    ("text", "hinted"),
    [
        ("3/4/26", "'2026-03-04' or '2026-04-03'"),
        ("3/4/26 3pm", "'2026-03-04 15:00' or '2026-04-03 15:00'"),
        ("12.5.2026", "'2026-12-05' or '2026-05-12'"),
        ("2026/11/22", "'2026-11-22'"),
        ("2026-1-5 3:07", "'2026-01-05 03:07'"),
        ("20260203", "'2026-02-03' or '@20260203'"),
        ("2026-02-30", "'2026-02-28' or '2026-03-01'"),
        ("2026-02-29 10:00", "'2026-02-28 10:00' or '2026-03-01 10:00'"),
        ("2026-13-02", "'2026-02-13'"),
        ("5M", "'5m ago' or '-5m'"),
        ("-5M", "'-5m'"),
        ("5m", "'5m ago' or '-5m'"),
        ("5 months ago", "'150d ago'"),
        ("now-1year", "'now-365d'"),
        ("5 sec ago", "'5 s ago'"),
        ("5ns ago", "us ms s m min h d w"),
        ("3m 2h ago", "'2h30m'"),
        ("0.0001us ago", "'0.001us'"),
        ("-5", "us ms s m min h d w"),
        ("noon", "'12:00'"),
        ("tomorrow", "'now+1d'"),
        ("tommorow", "'now+1d'"),
        ("yesteday", "'yesterday'"),
        ("Now", "'now'"),
        ("ALPHA#7", "'alpha#7'"),
        ("3pm", "'15:00'"),
        ("3:12", "'03:12'"),
        ("24:00", "'00:00'"),
        ("2026-02-03T24:00", "'2026-02-04T00:00'"),
        ("25:00", "'03:12'"),
        ("2026-12-31T23:59:60Z", "'2026-12-31T23:59:59.999999999Z'"),
        ("03:12:07,5", "'03:12:07.5'"),
        ("03:12:07.1234567891", "'03:12:07.123456789'"),
        ("@1.1234567891", "'@1.123456789'"),
        ("2026-11-22T03", "'2026-11-22T03:00'"),
        ("2026-11-22T03:12+0100", "'2026-11-22T03:12+01:00'"),
        ("2026-11-22 03:12 GMT", "'2026-11-22 03:12Z'"),
        ("2026-11-22T03:12:07+25:00", "'+01:00'"),
        ("2026-11-22 03:12 Mars/Base", "Europe/Berlin"),
        ("2026-11-2203:12", "'2026-11-22T03:12:07Z'"),
        ("1767225600", "'@1767225600'"),
        ("@1767225600123", "'@1767225600.123'"),
        ("1767225600123456789", "'@1767225600.123456789'"),
        ("−5m", "'-5m'"),
        ("1600-01-01", "1677-09-21T00:12:43.145224192Z"),
        ("2262-04-11T23:47:16.854775808Z", "2262-04-11T23:47:16.854775807Z"),
        ("@9223372036.854775808", "2262-04-11T23:47:16.854775807Z"),
        ("start-300w 1s 1s", "'2h30m'"),
        ("now+15000w", "2262-04-11T23:47:16.854775807Z"),
        ("99999w ago", "'15250w'"),
        ("mark:deplo", "'mark:deploy'"),
        ("mark:twice", "'2026-11-22T03:12:07.12345678Z' or '2026-11-22T03:12:07.123456781Z'"),
        ("", "'now-90m'"),
        ("\x1b[31m", "'now-90m'"),
        ("9" * 5000, "'now-90m'"),
        ("２０２６-11-22", "'now-90m'"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_nearest_spellings(text: str, hinted: str) -> None:
    """Nothing is guessed: the refusal is wrong use, shows the text harmlessly, and its hint names what to write."""
    with pytest.raises(Refused) as refusal:
        parse_moment(text, UTC)
    assert refusal.value.exit_code == 2
    assert hinted in (refusal.value.hint or "")
    assert "\x1b" not in refusal.value.message
    assert len(refusal.value.message) < 200


def test_a_local_time_that_came_twice_is_refused_with_both_instants() -> None:
    """The hour that a clock shows twice names two instants, and the refusal names them, each valid as it stands."""
    with pytest.raises(Refused, match="came twice in Europe/Berlin") as refusal:
        parse_moment("2026-10-25 02:30:00.5", BERLIN)
    for instant in ("2026-10-25T00:30:00.5Z", "2026-10-25T01:30:00.5Z"):
        assert instant in refusal.value.message
        assert instant in (refusal.value.hint or "")


def test_a_local_time_that_never_came_is_refused_with_its_neighbours() -> None:
    """The hour that a clock leaves out names no instant, and the refusal names what stood before and after."""
    with pytest.raises(Refused, match="01:59:59 was followed by 2026-03-29 03:00:00") as refusal:
        parse_moment("2026-03-29 02:30", BERLIN)
    assert refusal.value.hint == "write '2026-03-29T00:59:59Z' or '2026-03-29T01:00:00Z'"


@pytest.mark.parametrize(
    ("now", "text", "instant"),
    [
        ("2026-10-25T00:45:00Z", "02:30", None),  # in the first of the two hours: the day has two such moments
        ("2026-10-25T12:00:00Z", "02:30", None),
        ("2026-10-25T12:00:00Z", "03:30", "2026-10-25T02:30:00Z"),
        ("2026-03-29T12:00:00Z", "02:30", None),
        ("2026-03-30T12:00:00Z", "02:30", "2026-03-30T00:30:00Z"),
        ("2026-03-29T00:00:00Z", "02:30", "2026-03-28T01:30:00Z"),
    ],
)
def test_a_bare_clock_on_the_day_of_a_change(now: str, text: str, instant: str | None) -> None:
    """On the day of a change a bare clock is refused if that day shows it twice or leaves it out, and found otherwise."""
    anchors = Anchors(now_ns=parse_moment(now, Anchors()).at_ns, tz="Europe/Berlin")
    if instant is None:
        with pytest.raises(Refused, match=r"twice|never"):
            parse_moment(text, anchors)
    else:
        assert format_instant(parse_moment(text, anchors).at_ns) == instant


@pytest.mark.parametrize("text", ["now", "start", "end", "03:12", "today", "-5m", "5m ago"])
def test_without_entries_there_is_no_now(text: str) -> None:
    """What hangs on an entry is refused where there is none, with a way out."""
    with pytest.raises(Refused, match="no entry") as refusal:
        parse_moment(text, Anchors())
    assert "--now" in (refusal.value.hint or "")


def test_a_zone_that_is_none_is_refused() -> None:
    """A wrong zone is wrong use, whatever it is spelled like."""
    for key in ("Mars/Base", "../../etc/passwd", "", "Europe", "a\0b"):
        with pytest.raises(Refused, match="no time zone"):
            parse_moment("2026-11-22 03:12", Anchors(tz=key))


def test_hints_hold_only_what_is_valid_here() -> None:
    """A spelling is offered only if the grammar takes it under the same anchors: without a now, no relative one is."""
    assert nearest("5M", UTC) == ["5m ago", "-5m"]
    assert nearest("5M", Anchors()) == []


@pytest.mark.parametrize(
    ("since", "until", "around", "expected"),
    [
        (None, None, None, Range()),
        ("start", None, None, Range(START, None)),
        ("start", "end", None, Range(START, NOW)),
        ("end", "end", None, Range(NOW, NOW)),
        (None, None, "end", Range(NOW - 300 * SECOND, NOW + 300 * SECOND)),
        (None, None, "end±2min", Range(NOW - 120 * SECOND, NOW + 120 * SECOND)),
        (None, None, "end+-2min", Range(NOW - 120 * SECOND, NOW + 120 * SECOND)),
        (None, None, "end ± 1.5h", Range(NOW - 5400 * SECOND, NOW + 5400 * SECOND)),
        (None, None, "now+5s+-2s", Range(NOW + 3 * SECOND, NOW + 7 * SECOND)),
        (None, None, "alpha#7±1s", Range(START + 7 - SECOND, START + 7 + SECOND)),
    ],
)
def test_a_range_is_half_open(since: str | None, until: str | None, around: str | None, expected: Range) -> None:
    """Ranges come out as given; `since` belongs to them and `until` does not."""
    found = parse_range(since, until, around, UTC)
    assert found == expected
    if found.since_ns is not None and found.until_ns is not None and found.since_ns < found.until_ns:
        assert found.holds(found.since_ns)
        assert not found.holds(found.since_ns - 1)
        assert found.holds(found.until_ns - 1)
        assert not found.holds(found.until_ns)


@pytest.mark.parametrize(
    ("since", "until", "around", "why"),
    [
        ("end", "start", None, "ends before it begins"),
        ("start", None, "end", "--around or by --since"),
        (None, None, "end±", "no span"),
        (None, None, "end±0s", "reaches nowhere"),
        (None, None, "end±5M", "'M' has no fixed length"),
        (None, None, "±5min", "names no moment"),
        (None, None, "2262-04-11±1d", "beyond all instants"),
        ("noon", None, None, "names no moment"),
    ],
)
def test_a_range_that_is_none_is_refused(since: str | None, until: str | None, around: str | None, why: str) -> None:
    """A range turned round, said twice or reaching nowhere is refused, with a hint."""
    with pytest.raises(Refused, match=why) as refusal:
        parse_range(since, until, around, UTC)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("text", "span_ns"),
    [
        ("0s", 0), ("1us", 1_000), ("0.001us", 1), ("2ms", 2_000_000), ("90m", 5400 * SECOND), ("90min", 5400 * SECOND),
        ("2h30m", 9000 * SECOND), ("2h 30m", 9000 * SECOND), ("1d 12h", 129_600 * SECOND), ("1w", 604_800 * SECOND),
        ("1.5 hours", 5400 * SECOND), ("1 week 2 days 3 hours 4 minutes 5 seconds", 788_645 * SECOND),
        ("1 millisecond 1 microsecond", 1_001_000), (" 5 s ", 5 * SECOND), ("15.000000001s", 15 * SECOND + 1),
    ],
)  # fmt: skip
def test_a_span_is_read_exactly(text: str, span_ns: int) -> None:
    """Spans are whole nanoseconds, by integers alone."""
    assert parse_span(text) == span_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "-5m",
        "5M",
        "5 months",
        "1y",
        "3m2h",
        "1h1h",
        "1.5.5h",
        "5 µ",
        "99999w",
        "5m,3s",
        "m",
        "1e3s",
        "٥s",
        "0.0000000001s",
    ],
)
def test_what_is_no_span_is_refused(text: str) -> None:
    """Signs, months, units out of order, parts of a nanosecond and numbers of other scripts are refused with a hint."""
    with pytest.raises(Refused) as refusal:
        parse_span(text)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("span_ns", "text"),
    [
        (0, "0s"), (1, "0.001us"), (412_000, "412us"), (1_500_000, "1.5ms"), (SECOND, "1s"), (90 * SECOND, "1min 30s"),
        (911_500_000_000, "15min 11.5s"), (9000 * SECOND, "2h 30min"), (86_400 * SECOND, "1d"), (-SECOND, "-1s"),
        (864_000 * SECOND + 1, "10d 0.000000001s"),
    ],
)  # fmt: skip
def test_a_span_is_printed_in_units_that_are_read(span_ns: int, text: str) -> None:
    """A span is printed exactly, without units that are zero."""
    assert format_span(span_ns) == text
