"""Notes: an analyst's word changes nothing but the notes, and no two of them contradict each other."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import keepable, recorded
from scene import MEMORY

from ledger.errors import LedgerError
from ledger.testing import History as Feeds
from ledger.testing import histories
from replay import states
from replay.disagreements import disagreements
from replay.history import History
from replay.merge import merge
from replay.noting import note, taken
from replay.stats import stats

NOTES = st.lists(st.tuples(st.sampled_from(["a", "b", "\u202e"]), st.integers(-(10**12), 10**13), st.booleans()), max_size=4)


def answers(path: Path, at_ns: list[int]) -> list[object]:
    """What is answered about the mesh."""
    with History.open(path) as history:
        found: list[object] = [history.start_ns(), history.end_ns()]
        found += [states.at(history.at(each)) for each in at_ns]
        for machine in sorted({feed.machine for feed in history.feeds if not feed.notes}):
            for each in at_ns:
                try:
                    found.append(states.at(history.belief(machine, each), machine))
                except LedgerError as error:
                    found.append(str(error))
        found.append(stats(history, at_ns[0], at_ns[-1]))
        found.append(disagreements(history, at_ns[0], at_ns[-1]))
        return found


@settings(max_examples=15)
@given(histories(size_max=12), NOTES)
def test_a_note_changes_nothing_but_the_notes(feeds: Feeds, notes: list[tuple[str, int, bool]]) -> None:
    """Every answer about the mesh is the same before and after, whatever moment the notes are about."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        path = recorded(Path(folder) / "a.ledger", keepable(feeds))
        with History.open(path) as history:
            begin, end = history.start_ns(), history.end_ns()
        asked = [begin - 1, begin, (begin + end) // 2, end, end + 10**12]
        before = answers(path, asked)
        marks = {}
        for place, (text, at_ns, marked) in enumerate(notes):
            mark = f"m{place}" if marked else None
            assert note(path, text, machine="kim", at_ns=begin + at_ns, mark=mark).text == text
            if mark:
                marks[mark] = [begin + at_ns]
        assert answers(path, asked) == before
        with History.open(path) as history:
            assert history.marks().items() >= marks.items()
            assert "kim" not in taken(history)


@settings(max_examples=15)
@given(histories(size_max=8), NOTES, NOTES)
def test_notes_on_two_copies_come_together(feeds: Feeds, one: list, other: list) -> None:
    """Merged in either order they are all there, once each, and nothing is contradicted."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        first = recorded(Path(folder) / "a.ledger", keepable(feeds))
        second = Path(shutil.copy(first, Path(folder) / "b.ledger"))
        with History.open(first) as history:
            begin = history.start_ns()
        for path, notes in ((first, one), (second, other)):
            for text, at_ns, _marked in notes:
                note(path, text, machine="kim", at_ns=begin + at_ns)
        together = {(text, begin + at_ns) for text, at_ns, _marked in (*one, *other)}
        for order in ((first, second), (second, first)):
            target = Path(folder) / f"{order[0].stem}.merged"
            done = merge(order, target)
            assert not done.conflicts
            with History.open(target) as history:
                rows = [history.reader(feed).rare(("note.added",))[0] for feed in history.feeds if feed.notes]
            assert sorted((row.event.text, row.at_ns) for row in rows) == sorted(together)
