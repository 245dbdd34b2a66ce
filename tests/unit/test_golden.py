"""What the command line prints is what it printed: a change is seen before it is made."""

from pathlib import Path

import pytest
from spoken import check

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "cli").glob("*.txt"))


@pytest.mark.parametrize("script", GOLDEN, ids=lambda path: path.stem)
def test_golden(script: Path, tmp_path: Path) -> None:
    """Every command prints on either stream, and ends, as it did when the file was read and kept."""
    check(script, tmp_path)


def test_there_are_some() -> None:
    """The folder was found, so the test above is not empty."""
    assert len(GOLDEN) >= 5
