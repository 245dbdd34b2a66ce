"""Matrices of round-trip times become the entries that the contract promises, whatever shape they come in."""

import io
import tarfile
from decimal import Decimal
from pathlib import Path

import pytest
import seattle_data

from ledger.errors import Refused, WrongIncarnation
from ledger.events import (
    FeedOpened,
    LinkEstablished,
    LinkFailed,
    LinkLost,
    MachineJoined,
    PingAnswered,
    PingFailed,
    SettingsChanged,
)  # fmt: skip
from ledger.store import Ledger
from replay.export import export
from replay.matrices import LOST, Cells, cell_us, default_names, natural
from replay.receipts import Import, Taken
from replay.rtt_matrix import Options, _Observer, import_rtt_matrix, open_matrices
from replay.union import Union

START = 1_767_225_600_000_000_000
MINUTE = 60_000_000_000
OPTIONS = Options(START, MINUTE)


def slices(folder, *texts, begin=1):
    """Files `s_1`, `s_2`, … with these texts."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, text in enumerate(texts, begin):
        path = folder / f"s_{number}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        paths.append(path)
    return paths


def take(target: Path, sources, options=OPTIONS, names=None) -> Import:
    matrices = open_matrices(sources, options, names)
    with Ledger.create(target, incarnation=matrices.incarnation) as ledger:
        return import_rtt_matrix(ledger, matrices)


def events(path, machine):
    with Ledger.open(path) as ledger:
        return [(entry.at_ns - START, entry.event) for entry in ledger.read(machine)]


def exported(path) -> bytes:
    stream = io.BytesIO()
    with Union.open([path]) as union:
        export(union, stream, "jsonl")
    return stream.getvalue()


def heads(path):
    with Ledger.open(path) as ledger:
        return {feed: ledger.head(feed) for feed in ledger.feeds()}


def test_row_i_is_what_machine_i_saw(tmp_path):
    """Each feed opens, joins and states the interval at the start; then each slice's pings follow in the order of columns."""
    sources = slices(tmp_path / "in", "0 0.25 0.5\n0.1 0 0.2\n1 2 0\n", "0 0.3 90.5\n0.1 0 0.2\n1 2 0\n")
    take(tmp_path / "a.ledger", sources)
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        incarnation = ledger.incarnation
        assert [feed.machine for feed in ledger.feeds()] == ["m1", "m2", "m3"]
        assert all(entry.boot is None and entry.mono_ns is None for entry in ledger.read())
    assert events(tmp_path / "a.ledger", "m1") == [
        (0, FeedOpened(incarnation, "m1", 1)),
        (0, MachineJoined("m1")),
        (0, SettingsChanged(1, 60_000)),
        (0, LinkEstablished("m2", "1")),
        (0, PingAnswered("m2", 1, 250_000, "1")),
        (0, LinkEstablished("m3", "1")),
        (0, PingAnswered("m3", 1, 500_000, "1")),
        (MINUTE, PingAnswered("m2", 2, 300_000, "1")),
        (MINUTE, PingAnswered("m3", 2, 90_500_000, "1")),
    ]


def test_a_link_that_comes_and_goes(tmp_path):
    """Failed until first answered, lost after K failures in a row, established anew under the next id, silent in between."""
    cells = ["0", "-1", "0.1", "nan", "0.2", "inf", "0", "0", "0.3", "0.4"]
    sources = slices(tmp_path / "in", *(f"0,{cell}\n0.1,0\n" for cell in cells))
    take(tmp_path / "a.ledger", sources, Options(START, MINUTE, lost_after=2))
    told = [event for _at, event in events(tmp_path / "a.ledger", "m1")]
    assert told[2] == SettingsChanged(1, 60_000, lost_after=2)
    assert told[3:] == [
        PingFailed("m2", 1, "timeout"),
        LinkFailed("m2", "timeout"),
        PingFailed("m2", 2, "timeout"),
        LinkFailed("m2", "timeout"),
        LinkEstablished("m2", "1"),
        PingAnswered("m2", 3, 100_000, "1"),
        PingFailed("m2", 4, "timeout", "1"),
        PingAnswered("m2", 5, 200_000, "1"),
        PingFailed("m2", 6, "timeout", "1"),
        PingFailed("m2", 7, "timeout", "1"),
        LinkLost("m2", "timeout", "1"),
        PingFailed("m2", 8, "timeout"),
        LinkEstablished("m2", "2"),
        PingAnswered("m2", 9, 300_000, "2"),
        PingAnswered("m2", 10, 400_000, "2"),
    ]


@pytest.mark.parametrize(
    ("text", "decimals", "rtt_us"),
    [
        (b"0.17", 6, 170_000),
        (b"0.0000005", 6, 0),
        (b"0.0000015", 6, 2),
        (b"0.0000025", 6, 2),
        (b"1.0000005000000000000000001", 6, 1_000_001),
        (b"+2.5e1", 3, 25_000),
        (b".5", 0, 0),
        (b"1e-999999999", 6, 0),
        (b"12.", 0, 12),
        (b"90.071992547409915", 6, 90_071_993),
        (b"0", 6, LOST),
        (b"-0.0", 6, LOST),
        (b"-3", 6, LOST),
        (b"NaN", 6, LOST),
        (b"-inf", 6, LOST),
        (b"Infinity", 6, LOST),
    ],
)
def test_a_cell_is_read_exactly(text, decimals, rtt_us):
    """Whole microseconds come from the decimal text, half to even; what is not positive and finite is no answer."""
    assert cell_us(text, decimals) == rtt_us


@pytest.mark.parametrize(
    "text", [b"", b"x", b"1_0", b"0x10", "١".encode(), b"1e1000000000", b"1e30", b"9" * 65, b"1,2", b"--1", b"1 ", b"\xff"]
)
def test_what_is_no_cell(text):
    """Whatever is no decimal number, or longer than any round trip, is refused and never guessed at."""
    with pytest.raises(ValueError, match="is"):
        cell_us(text, 6)


def test_cells_are_remembered_within_bounds():
    """The cache of cell texts gives what the cell gives, and never grows beyond its bound."""
    cells = Cells("ms")
    assert [cells[b"1.5"], cells[b"1.5"], cells[b"0"]] == [1500, 1500, LOST]
    assert all(cells[str(value).encode()] == int(Decimal(value) * 1000) for value in range(1, 500))


def test_names_are_as_wide_as_the_count():
    """Machines are m1 … m9, m01 … m99, m001 …, by how many there are."""
    assert [default_names(count)[0][0] for count in (9, 10, 99, 100, 1000)] == ["m1", "m01", "m01", "m001", "m0001"]


def test_natural_order():
    """Numbers within names sort as numbers, so that _2 stands before _10, and zeros in front decide last."""
    names = ["s_10", "s_2", "s_02", "s_1", "t_1", "s", "s_1/x_3", "s_1/x_20"]
    assert sorted(names, key=natural) == ["s", "s_1", "s_1/x_3", "s_1/x_20", "s_02", "s_2", "s_10", "t_1"]


def test_folders_and_archives_give_the_same(tmp_path):
    """The same slices as files in any order, as a folder, and as tar, tar.gz and tar.xz make the same ledger."""
    texts = [f"0 0.{number}\n0.5 0\n" for number in range(1, 13)]
    paths = slices(tmp_path / "in", *texts)
    (tmp_path / "in" / ".hidden").write_text("no matrix")
    wanted = None
    for name, mode in (("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.TGZ", "w:gz"), ("x.tar.xz", "w:xz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            for path in reversed(paths):
                archive.add(path, arcname=f"deep/{path.name}")
            archive.add(tmp_path / "in" / ".hidden", arcname="deep/._s_1")
    for place, sources in enumerate(
        [list(reversed(paths)), [tmp_path / "in"], *[[tmp_path / n] for n in ("x.tar", "x.tar.gz", "x.TGZ", "x.tar.xz")]]
    ):
        target = tmp_path / f"{place}.ledger"
        assert take(target, sources).refused == []
        wanted = wanted or exported(target)
        assert exported(target) == wanted


def test_importing_twice_adds_nothing(tmp_path):
    """The second import finds everything there, and leaves the file's content as it was."""
    sources = slices(tmp_path / "in", *["0 0.1 0\n0.2 0 0.3\n0 0.4 0\n"] * 30)
    first = take(tmp_path / "a.ledger", sources)
    before = exported(tmp_path / "a.ledger")
    again = take(tmp_path / "a.ledger", sources)
    assert {name: (taken.new, taken.there, taken.conflicting) for name, taken in again.feeds.items()} == {
        name: (0, taken.new, 0) for name, taken in first.feeds.items()
    }
    assert exported(tmp_path / "a.ledger") == before


def test_part_by_part_is_all_at_once(tmp_path, monkeypatch):
    """Ten slices and then all of them give the bytes and heads of all at once, however they are chunked."""
    texts = [f"0 {number % 7}.1 0\n0.{number} 0 {number % 3}\n0.1 0.2 0\n" for number in range(1, 401)]
    sources = slices(tmp_path / "in", *texts)
    take(tmp_path / "once.ledger", sources)
    monkeypatch.setattr("replay.rtt_matrix.CHUNK_PINGS", 100)
    take(tmp_path / "parts.ledger", sources[:10])
    result = take(tmp_path / "parts.ledger", sources)
    assert all(taken.there and taken.new and not taken.conflicting for taken in result.feeds.values())
    assert heads(tmp_path / "once.ledger") == heads(tmp_path / "parts.ledger")
    assert exported(tmp_path / "once.ledger") == exported(tmp_path / "parts.ledger")


def test_a_slice_that_was_altered(tmp_path):
    """Where a slice says something else than what stands, the feed is named with both digests and left as it was."""
    texts = ["0 0.1\n0.2 0\n"] * 5
    take(tmp_path / "a.ledger", slices(tmp_path / "in", *texts))
    before = exported(tmp_path / "a.ledger")
    texts[3] = "0 0.9\n0.2 0\n"
    result = take(tmp_path / "a.ledger", slices(tmp_path / "in", *texts, "0 0.1\n0.2 0\n"))
    assert result.feeds["m1"] == Taken(new=0, there=7, conflicting=3)
    assert result.feeds["m2"] == Taken(new=1, there=9, conflicting=0)
    (conflict,) = result.conflicts
    assert conflict.pos == "m1#8"
    assert len(set(conflict.branches)) == 2
    assert exported(tmp_path / "a.ledger").startswith(before.split(b'{"pos":"m2#1"')[0])


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", None, "empty"),
        ("\n \n", None, "empty"),
        ("0 1\n1 0 3\n", 2, "3 cells, not 2"),
        ("0 1\n", 2, "not square"),
        ("0 1\n1 0\n\n1 1\n", 4, "row 3 of a matrix of 2 columns"),
        ("0 1 1\n1 0 1\n1 1 0\n", 1, "3 cells, not 2"),
        ("0 1\nx 0\n", 2, "cell 1: 'x' is no number"),
        ("0,1\n1,,\n", 2, "3 cells"),
        ("0,\n1,0\n", 1, "cell 2: is empty"),
        ("0 1e40\n1 0\n", 1, "longer than any RTT"),
        (b"0 \xff\xfe\n1 0\n", 1, "is no number"),
        ("0 \x1b[2J\n1 0\n", 1, r"'\x1b[2J' is no number"),
    ],
)
def test_a_slice_that_is_no_matrix(tmp_path, text, line, why):
    """It is refused whole, with its file and line; its number stays empty, and all other slices are taken."""
    good = "0 0.1\n0.2 0\n"
    sources = slices(tmp_path / "in", good, text, good)
    result = take(tmp_path / "a.ledger", sources)
    (refusal,) = result.refused
    assert (refusal.line, refusal.file) == (line, str(sources[1]))
    assert why in refusal.why
    pings = [event for _at, event in events(tmp_path / "a.ledger", "m1") if isinstance(event, PingAnswered)]
    assert [ping.number for ping in pings] == [1, 3]


def test_the_first_good_slice_decides(tmp_path):
    """Where the first slice cannot be read, the next one sets size and incarnation, and numbers stay those of the order."""
    sources = slices(tmp_path / "in", "no matrix", "0 1\n1 0\n")
    result = take(tmp_path / "a.ledger", sources)
    assert len(result.refused) == 1
    assert events(tmp_path / "a.ledger", "m1")[-1] == (MINUTE, PingAnswered("m2", 2, 1_000_000, "1"))


def test_a_blank_line_and_a_mark_of_order_do_not_matter(tmp_path):
    """Blank lines, CRLF, tabs, commas and a byte order mark make no difference to what is recorded."""
    wanted = open_matrices(slices(tmp_path / "a", "0 1\n2 0\n"), OPTIONS).incarnation
    for place, text in enumerate(["\ufeff0\t1\r\n2\t0", "\n0, 1\n\n2 ,0\n\n", "  0   1.0\n2.000 nan"]):
        assert open_matrices(slices(tmp_path / f"b{place}", text), OPTIONS).incarnation == wanted


def test_one_machine_alone(tmp_path):
    """A matrix of one cell is a cluster of one: a feed with its opening and nothing more."""
    assert take(tmp_path / "a.ledger", slices(tmp_path / "in", "0\n", "1\n")).feeds == {"m1": Taken(3, 0, 0)}


def test_names_of_machines(tmp_path):
    """A names file gives machines and host names, in their one form, and they are part of the incarnation."""
    (tmp_path / "names").write_text("Alpha  alpha.Lab.example.\n\nbravo\n")
    sources = slices(tmp_path / "in", "0 1\n2 0\n")
    take(tmp_path / "a.ledger", sources, names=tmp_path / "names")
    assert events(tmp_path / "a.ledger", "alpha")[1] == (0, MachineJoined("alpha", "alpha.lab.example"))
    assert events(tmp_path / "a.ledger", "bravo")[1] == (0, MachineJoined("bravo"))
    assert open_matrices(sources, OPTIONS).incarnation != open_matrices(sources, OPTIONS, tmp_path / "names").incarnation


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (b"alpha\n", "1 name for machines, "),
        (b"alpha\nalpha\n", "line 2: names alpha again"),
        (b"alpha\nbra vo x\n", "line 2: has more than two columns"),
        (b"alpha\n-\n", "line 2: '-' is no machine name"),
        (b"alpha\nbravo \xff\n", "is no UTF-8 text"),
        (None, "no such file"),
    ],
)
def test_names_that_will_not_do(tmp_path, names, why):
    """A names file that does not name each row once is refused, with its line, before anything is written."""
    path = tmp_path / "names"
    if names is not None:
        path.write_bytes(names)
    with pytest.raises(Refused, match=why):
        open_matrices(slices(tmp_path / "in", "0 1\n2 0\n"), OPTIONS, path)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (Options(START, MINUTE, "h"), "no unit"),
        (Options(START, 1500), "an interval of 1.5us"),
        (Options(START, 0), "an interval of 0s"),
        (Options(START, MINUTE, lost_after=0), "lost after 0"),
        (Options(2**62 + 1, MINUTE), "start is out of range"),
        (Options(2**62, MINUTE), "beyond 2116"),
    ],
)
def test_options_out_of_range(tmp_path, options, why):
    """Options that the record cannot hold are refused at the door."""
    with pytest.raises(Refused, match=why):
        open_matrices(slices(tmp_path / "in", "0 1\n2 0\n", "0 1\n2 0\n"), options)


def test_nothing_to_read(tmp_path):
    """A path that is not there, an empty folder, a damaged archive and nothing but bad slices are refused by name."""
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(slices(tmp_path / "in", "0 1\n2 0\n" * 3000)[0])
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "x.tar.gz").read_bytes()[:-40])
    (tmp_path / "no.tar.xz").write_bytes(b"no archive")
    for source, why in (
        ("gone", "there is no such file"),
        ("empty", "no matrix to read"),
        ("cut.tar.gz", "is no whole archive"),
        ("no.tar.xz", "is no whole archive"),
        ("x.tar.gz", "is row 3 of a matrix of 2 columns"),
    ):
        with pytest.raises(Refused, match=why):
            open_matrices([tmp_path / source], OPTIONS)
    with pytest.raises(Refused, match="nothing named"):
        open_matrices([], OPTIONS)


def test_other_matrices_are_another_incarnation(tmp_path):
    """Whatever changes what all entries mean (options, first slice) changes the incarnation, and a ledger holds one."""
    sources = slices(tmp_path / "in", "0 1\n2 0\n")
    take(tmp_path / "a.ledger", sources)
    others = [
        Options(START + 1, MINUTE),
        Options(START, 2 * MINUTE),
        Options(START, MINUTE, "ms"),
        Options(START, MINUTE, "s", 2),
    ]
    incarnations = {open_matrices(sources, options).incarnation for options in (OPTIONS, *others)}
    incarnations.add(open_matrices(slices(tmp_path / "other", "0 1\n3 0\n"), OPTIONS).incarnation)
    assert len(incarnations) == 6
    assert all(len(each) == len("import:") + 64 for each in incarnations)
    with Ledger.open(tmp_path / "a.ledger", write=True) as ledger, pytest.raises(WrongIncarnation, match="what is imported"):
        import_rtt_matrix(ledger, open_matrices(sources, others[0]))


def test_the_incarnation_for_ever(tmp_path):
    """The text that the incarnation is a digest of never changes: this one was computed by hand with sha256sum."""
    matrices = open_matrices(slices(tmp_path / "in", "0 1 0.5\n0.25 0 -1\n1e-6 2 0\n"), OPTIONS)
    assert matrices.incarnation == "import:cce11799afaf9ea7852178161bcc638ec23eba3f75b1961ba484e18d8f8537df"


def test_progress_is_told(tmp_path, monkeypatch):
    """Who waits is told after each chunk how many slices are done, of how many."""
    monkeypatch.setattr("replay.rtt_matrix.CHUNK_PINGS", 8)
    told = []
    matrices = open_matrices(slices(tmp_path / "in", *["0 1\n2 0\n"] * 5), OPTIONS)
    with Ledger.create(tmp_path / "a.ledger", incarnation=matrices.incarnation) as ledger:
        import_rtt_matrix(ledger, matrices, lambda done, of: told.append((done, of)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_seattle(tmp_path):
    """Of real measurements, every cell of the first 20 slices comes back from the ledger as it was measured."""
    sources = seattle_data.write_slices(tmp_path, 20)
    take(tmp_path / "ten.ledger", sources[:10])
    take(tmp_path / "ten.ledger", sources)
    assert take(tmp_path / "a.ledger", sources).refused == []
    assert exported(tmp_path / "ten.ledger") == exported(tmp_path / "a.ledger")
    found = {}
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        for entry in ledger.read():
            if isinstance(entry.event, PingAnswered | PingFailed):
                assert entry.at_ns == START + (entry.event.number - 1) * MINUTE
                found[entry.event.number, entry.observer, entry.event.peer] = getattr(entry.event, "rtt_us", LOST)
    wanted = {}
    for number, path in enumerate(sources, 1):
        for i, line in enumerate(path.read_text().split("\n")[:99], 1):
            for j, cell in enumerate(line.split("\t"), 1):
                if i != j:
                    rtt = Decimal(cell) * 10**6
                    wanted[number, f"m{i:02}", f"m{j:02}"] = int(rtt) if rtt > 0 else LOST
    assert found == wanted
    assert len(found) == 20 * 99 * 98


def test_the_whole_archive_begins_like_its_slices(tmp_path):
    """The archive itself is read as a stream, in natural order, and belongs to the same incarnation as its first slice."""
    first = seattle_data.write_slices(tmp_path, 1)
    matrices = open_matrices([seattle_data.archive()], OPTIONS)
    assert len(matrices) == 688
    assert matrices.incarnation == open_matrices(first, OPTIONS).incarnation


def test_a_steady_row_is_no_other(tmp_path):
    """A row of nothing but answers, read the quick way, gives the entries that it gives cell by cell."""
    rows = [[300_000, 400_000], [LOST, 1], [2, LOST], [3, 4], [5, 6], [LOST, 7]]
    matrices = open_matrices(slices(tmp_path / "in", "0 1 1\n1 0 1\n1 1 0\n"), OPTIONS)
    quick, slow = _Observer(1, matrices), _Observer(1, matrices)
    for number, row in enumerate(rows, 1):
        slow.steady = False
        assert list(quick.see(number, row)) == list(slow.see(number, row))
    assert quick.links == slow.links == [None, "2"]
