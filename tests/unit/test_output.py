"""The four formats: one answer, four forms, and nothing that a terminal would obey."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ledger.events import LinkLost
from replay import receipts
from replay.answers import Blame, Blamed, Diff, LinkCounts, PairTimes, Rtt, Stats
from replay.output import BATCH, FORMATS, Format, Row, encode, write, write_rows
from replay.receipts import Error, Keygen, Log, LogRow, Sql
from replay.text import visible

HOSTILE = 'a\x1b[2J\u202e\u2028"b,\n\x7f\x9b\U000e0041'


def entry(index: int, **fields: Any) -> LogRow:
    return LogRow(f"alpha#{index}", None, "2026-11-22T03:12:00Z", None, None, "link.lost", 1, {"peer": "bravo", **fields})


def printed(answer: msgspec.Struct, form: Format, **lines: list[str]) -> str:
    out = io.StringIO()
    write(answer, form, out, **lines)
    return out.getvalue()


def streamed(head: msgspec.Struct, rows: list[Row], form: Format, *, live: bool = False) -> str:
    out = io.StringIO()
    write_rows(head, iter(rows), form, out, live=live)
    return out.getvalue()


def test_a_table_is_plain_and_aligned() -> None:
    """Columns stand below their names, null is a dash, and no line has spaces at its end."""
    answer = Blame(
        cell="alpha:bravo",
        at="2026-11-22T03:12:00Z",
        fields=[
            Blamed("state", "down", "alpha#7", "2026-11-22T03:11:00Z", "link.lost"),
            Blamed("reason", None, None, None, None),
        ],
    )
    assert printed(answer, "table", above=["as of now"], below=["end"]).splitlines() == [
        "as of now",
        "field   value  pos      at                    kind",
        "state   down   alpha#7  2026-11-22T03:11:00Z  link.lost",
        "reason  -      -        -                     -",
        "end",
    ]


def test_durations_are_spelled_out_for_people_and_stay_numbers_for_programs() -> None:
    """A table shows spans where csv and jsonl hold nanoseconds and microseconds under a name with the unit."""
    answer = Stats(
        since="2026-11-22T03:00:00Z",
        until="2026-11-22T04:00:00Z",
        pairs={"alpha=bravo": PairTimes(5_400_000_000_000, 0, 0, 0, 0, 0, 0, 2)},
        links={"alpha:bravo": LinkCounts(60, 1, Rtt(412, 9_000, 90_000_000))},
    )
    table = printed(answer, "table").splitlines()
    assert table[0].split() == [
        "cell", "up", "down", "asymmetric", "unknown", "uncovered", "planned", "absent", "flaps", "sent", "lost",
        "rtt_p50", "rtt_p99", "rtt_max",
    ]  # fmt: skip
    assert "1h 30min" in table[1]
    assert table[2].split()[-4:] == ["412us", "9ms", "1min", "30s"]
    rows = list(csv.DictReader(io.StringIO(printed(answer, "csv"), newline="")))
    assert (rows[0]["up_ns"], rows[0]["sent"], rows[1]["rtt_max_us"]) == ("5400000000000", "", "90000000")


def test_the_log_shows_people_what_they_look_for() -> None:
    """In a table an entry is its position, instant, kind and fields; of an unknown kind its bytes."""
    foreign = LogRow("alpha#8", 1, "2026-11-22T03:12:01Z", 1, 5, "moon.seen", 2, raw="e30=")
    lost = LogRow("alpha#7", 1, "2026-11-22T03:12:00Z", None, None, "link.lost", 1, LinkLost("bravo", "timeout", detail="gone\n"))
    assert printed(Log(entries=[lost, foreign]), "table").splitlines() == [
        "pos      at                    kind       event",
        "alpha#7  2026-11-22T03:12:00Z  link.lost  peer=bravo reason=timeout detail=gone\\n",
        "alpha#8  2026-11-22T03:12:01Z  moon.seen  raw=e30=",
    ]


def test_csv_is_rfc_4180() -> None:
    """Lines end in CRLF, cells with commas and quotes are quoted, null is empty, an event stands as JSON in its cell."""
    text = printed(Log(entries=[entry(7, detail='say "hi", please')]), "csv")
    header, row, rest = text.split("\r\n")
    assert header == "pos,rec,at,boot,mono_ns,kind,v,event,raw"
    assert row == 'alpha#7,,2026-11-22T03:12:00Z,,,link.lost,1,"{""peer"":""bravo"",""detail"":""say \\""hi\\"", please""}",'
    assert rest == ""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "answer",
    [
        Log(entries=[entry(7, detail=HOSTILE)]),
        Diff(since="", until="", changes=[]),
        Error(error="Refused", message=HOSTILE, hint=HOSTILE, exit_code=2),
        Keygen(file=HOSTILE + "\udc80", public_key=""),
        Sql(columns=[HOSTILE], rows=[{HOSTILE: HOSTILE}, {HOSTILE: b"\x00\xff"}, {HOSTILE: 1.5}, {HOSTILE: None}, {}]),
    ],
)
def test_no_format_prints_what_a_terminal_would_obey(form: Format, answer: msgspec.Struct) -> None:
    """Whatever stands in an answer, what is printed is plain but for its own line ends."""
    text = printed(answer, form, above=[HOSTILE], below=[HOSTILE])
    bare = text.replace("\r\n", "").replace("\n", "")
    assert visible(bare) == bare


def test_json_keeps_hostile_text_exactly() -> None:
    """Escaped is not changed: JSON reads back to the very text, except what no UTF-8 can say, which is made visible."""
    assert json.loads(printed(Log(entries=[entry(7, detail=HOSTILE)]), "json"))["entries"][0]["event"]["detail"] == HOSTILE
    assert json.loads(printed(Keygen(file="a\udc80\x1b", public_key="é"), "json"))["file"] == "a\\udc80\\x1b"
    assert json.loads(printed(Keygen(file="é\x1b", public_key="é"), "json"))["file"] == "é\x1b"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("count", [0, 1, 2, BATCH, BATCH + 1])
@pytest.mark.parametrize("live", [False, True])
def test_a_stream_prints_as_the_whole_answer_does(form: Format, count: int, live: bool) -> None:
    """Row by row, in batches or at once: the same text, but for the widths of a table that cannot know what follows."""
    rows: list[Row] = [entry(index, detail="é" * (index % 3)) for index in range(1, count + 1)]
    whole = printed(Log(entries=rows), form)  # type: ignore[arg-type]
    parts = streamed(Log(entries=[]), rows, form, live=live)
    if form == "table":
        assert [line.split() for line in parts.splitlines()] == [line.split() for line in whole.splitlines()]
    else:
        assert parts == whole


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_holds_no_more_than_a_batch(form: Format) -> None:
    """When a row is asked for, all rows but those of the last batch have been written."""
    out = io.StringIO()

    def rows() -> Iterator[Row]:
        for index in range(1, 3 * BATCH + 1):
            if index > 2 * BATCH:
                assert f"alpha#{index - 2 * BATCH}" in out.getvalue()
            yield entry(index)

    write_rows(Log(entries=[]), rows(), form, out)
    assert f"alpha#{3 * BATCH}" in out.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_a_live_stream_is_written_and_flushed_row_by_row(form: Format) -> None:
    """Who follows sees each row before the next is asked for."""

    class Watched(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    out = Watched()

    def rows() -> Iterator[Row]:
        yield entry(1)
        assert "alpha#1" in out.flushed
        yield entry(2)
        assert "alpha#2" in out.flushed

    write_rows(Log(entries=[]), rows(), form, out, live=True)


def test_a_table_never_grows_narrower() -> None:
    """In a stream of several batches a column is at least as wide as it was, so that lines go on below each other."""
    rows: list[Row] = [entry(index) for index in (123_456_789, *range(1, BATCH + 3))]
    lines = streamed(Log(entries=[]), rows, "table").splitlines()
    assert len(lines) == BATCH + 4
    assert {line.index("2026-11-22") for line in lines[1:]} == {len("alpha#123456789  ")}


@pytest.mark.parametrize("form", FORMATS)
def test_sql_prints_the_columns_of_its_query(form: Format) -> None:
    """A query's columns are its own: no unit is read into their names, and a blob stands as base64."""
    rows: list[Row] = [{"at_ns": 5, "blob": b"\x00\x01", "n": None}, {"at_ns": 60_000_000_000, "blob": None, "n": 1.5}]
    head = Sql(columns=["at_ns", "blob", "n"], rows=[])
    text = streamed(head, rows, form)
    assert text == printed(Sql(columns=head.columns, rows=rows), form)  # type: ignore[arg-type]
    assert "at_ns" in text
    assert "60000000000" in text
    assert "AAE=" in text


def test_encoding_says_what_the_struct_says() -> None:
    """The way round lone surrogates gives the same JSON as the plain way wherever both can go."""
    answer = receipts.Show(entries=[entry(7), LogRow("a#8", 1, "", 1, 5, "moon.seen", 2, raw="e30=")])
    odd = receipts.Show(entries=[entry(7, detail="\udc80"), answer.entries[1]])
    assert json.loads(encode(odd)) == json.loads(encode(receipts.Show(entries=[entry(7, detail="\\udc80"), answer.entries[1]])))
