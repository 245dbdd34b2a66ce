"""Laws of the time grammar, for every instant that 64 bits hold and every text there is."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import Refused
from replay import zones
from replay.moments import Anchors, Moment, parse_moment, parse_range
from replay.spans import format_instant, format_span, parse_span

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
INSTANTS = INT64 | st.integers(min_value=-(2**33), max_value=2**33).map(lambda second: second * 10**9)
ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = 1_795_317_127_123_456_789
ANCHORS = Anchors(now_ns=NOW, start_ns=0, end_ns=NOW, marks={"deploy": (5,)}, position=lambda position: position.index)
WORDS = st.sampled_from(
    ["now", "-", "+", "5", "90", "m", "M", "h", "min", " ", "ago", "2026", "-11-", "22", "T", "03:12", ":07", ".5", "Z", "@",
     "/", "start", "mark:", "deploy", "alpha", "#", "7", "±", "Europe/Berlin", "pm", "month", "today", "\u202e", "٣"],
)  # fmt: skip


def _answer(text: str, anchors: Anchors) -> Moment | Refused:
    try:
        return parse_moment(text, anchors)
    except Refused as refused:
        return refused


@given(INSTANTS)
@example(-(2**63))
@example(2**63 - 1)
@example(-1)
def test_every_instant_printed_parses_back_to_itself(at_ns: int) -> None:
    """Printing and reading are inverse for all of int64, whatever the zone of the reader."""
    text = format_instant(at_ns)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", text)
    assert parse_moment(text, Anchors()).at_ns == at_ns
    assert parse_moment(text, Anchors(tz="Europe/Berlin")).at_ns == at_ns


@given(INSTANTS, INSTANTS)
def test_instants_of_one_length_sort_as_their_texts(one: int, other: int) -> None:
    """At nine decimals the order of texts is the order of time: nothing is lost to a float."""
    padded = [format_instant(at_ns).removesuffix("Z").ljust(20, ".").ljust(29, "0") for at_ns in (one, other)]
    assert (padded[0] < padded[1]) == (one < other)


@given(INSTANTS)
def test_an_epoch_names_the_same_instant(at_ns: int) -> None:
    """`@` with seconds and nine decimals names every instant, before 1970 too."""
    whole, fraction = divmod(abs(at_ns), 10**9)
    assert parse_moment(f"@{'-' if at_ns < 0 else ''}{whole}.{fraction:09}", Anchors()).at_ns == at_ns


@given(INSTANTS, st.integers(min_value=-1439, max_value=1439))
def test_an_offset_moves_the_clock_and_not_the_instant(at_ns: int, minutes: int) -> None:
    """What a clock at any offset shows, written with the offset, is the same instant."""
    second, fraction = divmod(at_ns, 10**9)
    shown = (EPOCH + timedelta(seconds=second, minutes=minutes)).isoformat()[:19]
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    if shown[:4] in {"1676", "1677", "2262", "2263"}:
        return  # at the ends the clock may show a year in which no instant lies
    assert parse_moment(f"{shown}.{fraction:09}{offset}", Anchors()).at_ns == at_ns


@given(st.integers(min_value=-(2**31), max_value=2**32), ZONES)
def test_local_time_is_read_back_or_refused_as_ambiguous(second: int, tz: str) -> None:
    """What a clock in a zone shows names its instant, unless the zone showed it twice; then both are named."""
    zone = zones.zone_named(tz)
    shown = zones.shown_at(second, zone)
    meant = zones.instants_of(shown, zone)
    assert second in meant
    answer = _answer(str(shown), Anchors(tz=tz))
    if isinstance(answer, Refused):
        assert len(meant) == 2
        assert all(format_instant(each * 10**9) in answer.message for each in meant)
    else:
        assert (answer.at_ns, meant) == (second * 10**9, [second])


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)), ZONES)  # noqa: DTZ001
def test_local_time_agrees_with_a_search_through_all_offsets(shown: datetime, tz: str) -> None:
    """The instants of a local time are those, and only those, found by trying every quarter of an hour around it."""
    shown = shown.replace(microsecond=0)
    zone = zones.zone_named(tz)
    naive = (shown - datetime(1970, 1, 1)) // timedelta(seconds=1)  # noqa: DTZ001
    offsets = {(EPOCH + timedelta(seconds=naive + hours * 3600)).astimezone(zone).utcoffset() for hours in range(-30, 31)}
    tried = sorted(
        naive - offset // timedelta(seconds=1)
        for offset in offsets
        if offset is not None and zones.shown_at(naive - offset // timedelta(seconds=1), zone) == shown
    )
    assert zones.instants_of(shown, zone) == tried
    if not tried:
        change = zones.change_near(shown, zone)
        assert zones.shown_at(change - 1, zone) < shown < zones.shown_at(change, zone)


@given(st.integers(min_value=0, max_value=2**63 - 1) | st.integers(min_value=0, max_value=10**13))
def test_every_span_printed_is_read_back(span_ns: int) -> None:
    """Printing and reading spans are inverse, and a printed span may stand in a moment."""
    text = format_span(span_ns)
    assert parse_span(text) == span_ns
    assert format_span(-span_ns) == (f"-{text}" if span_ns else text)
    if span_ns <= NOW:
        assert parse_moment(f"{text} ago", ANCHORS).at_ns == NOW - span_ns
        assert parse_moment(f"now-{text}", ANCHORS).at_ns == NOW - span_ns


@given(st.text(st.characters(exclude_categories=())) | st.lists(WORDS, max_size=8).map("".join))
def test_any_text_is_a_moment_or_is_refused_with_valid_hints(text: str) -> None:
    """No text crashes the grammar; what is refused has a hint, harmless to show, whose spellings are all valid."""
    answer = _answer(text, ANCHORS)
    if isinstance(answer, Refused):
        assert answer.hint
        assert "\u202e" not in answer.message + answer.hint
        if answer.hint.startswith("did you mean"):
            for spelling in re.findall(r"'([^']*)'", answer.hint):
                parse_moment(spelling, ANCHORS)
    else:
        assert -(2**63) <= answer.at_ns < 2**63
        assert parse_moment(format_instant(answer.at_ns), ANCHORS).at_ns == answer.at_ns


@given(
    st.lists(st.integers(min_value=0, max_value=NOW), min_size=2, max_size=4).map(sorted), st.integers(min_value=0, max_value=NOW)
)
def test_adjoining_ranges_lose_and_repeat_nothing(ends: list[int], at_ns: int) -> None:
    """Of ranges that adjoin, just one holds an instant between their ends."""
    texts = [format_instant(end) for end in ends]
    ranges = [parse_range(since, until, None, ANCHORS) for since, until in pairwise(texts)]
    assert sum(each.holds(at_ns) for each in ranges) == (ends[0] <= at_ns < ends[-1])
