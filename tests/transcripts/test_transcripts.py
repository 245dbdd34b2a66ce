"""Incidents, told in the words of an operator: the commands typed, and the answers that they must give."""

from pathlib import Path

import pytest
from spoken import UPDATE, check

TOLD = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("script", TOLD, ids=lambda path: path.stem)
def test_transcript(script: Path, tmp_path: Path) -> None:
    """Each question of the incident gets the answer that the transcript tells."""
    check(script, tmp_path)


def test_a_wrong_answer_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transcript that tells another answer fails: the proof can fail."""
    monkeypatch.delenv(UPDATE, raising=False)
    script = tmp_path / "wrong.txt"
    script.write_text("meshledger schema\n----\nnothing\n")
    with pytest.raises(AssertionError):
        check(script, tmp_path)


def test_there_are_some() -> None:
    """The transcripts were found."""
    assert len(TOLD) >= 3
