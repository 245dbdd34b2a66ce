"""Where the Seattle measurements lie, if they are at hand: real round-trip times, never copied into the project."""

import os
import tarfile
from functools import cache
from pathlib import Path

import pytest

NAME = "seattle-rtt.tar.xz"
START_NS = 1_767_225_600_000_000_000
INTERVAL_NS = 60_000_000_000


def folder() -> Path:
    """The folder named by MESHLEDGER_DATA, else `shared/data` beside the repository."""
    named = os.environ.get("MESHLEDGER_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def archive() -> Path:
    """The archive of all slices; skips the test where it is missing."""
    path = folder() / NAME
    if not path.is_file():
        pytest.skip(f"the Seattle data is not at hand: no {NAME} in MESHLEDGER_DATA or beside the repository")
    return path


@cache
def _slices() -> dict[int, bytes]:
    with tarfile.open(archive(), "r|*") as members:
        return {
            int(member.name.rpartition("_")[2]): file.read()
            for member in members
            if (file := members.extractfile(member)) is not None
        }


def write_slices(target: Path, count: int) -> list[Path]:
    """The first `count` slices as files in `target`, in their order."""
    found = _slices()
    paths = []
    for number in range(1, count + 1):
        path = target / f"SeattleData_{number}"
        path.write_bytes(found[number])
        paths.append(path)
    return paths
