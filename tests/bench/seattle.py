"""Real round trips as the other workload: 688 slices of 99 × 99 matrices, measured between machines of Seattle.

The same entries that `meshledger import rtt-matrix … --unit s --start 2026-01-01T00:00:00Z --interval 60s` records: row i
is what observer `m<i>` saw, a positive cell an answered ping, any other off the diagonal a failed one, with the transition
it makes: `link.established` just before the first answer and before the first after a loss, `link.lost` just after a
failure of a link that stood, `link.failed` while none was ever answered. Boot, monotonic clock and stamps are null.

The data is found in `$MESHLEDGER_DATA`, else in `../shared/data` beside the repository. Without it there is no workload.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from bench.workload import Batch, rebatched

from ledger.entry import Observed
from ledger.events import (
    FeedOpened,
    LinkEstablished,
    LinkFailed,
    LinkLost,
    MachineJoined,
    PingAnswered,
    PingFailed,
    SettingsChanged,
)
from ledger.identity import IMPORTED, Feed

START_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
INTERVAL_NS = 60_000_000_000
INCARNATION = f"{IMPORTED}bench-seattle"
MACHINES = 99


def archive() -> Path | None:
    """Where the matrices are, or None."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(os.environ.get("MESHLEDGER_DATA", beside)) / "seattle-rtt.tar.xz"
    return path if path.is_file() else None


def feeds() -> list[Feed]:
    """The feeds of the 99 observers."""
    return [Feed.of(INCARNATION, f"m{number:02d}") for number in range(1, MACHINES + 1)]


def matrices(path: Path) -> Iterator[list[list[str]]]:
    """The slices in natural order, each as rows of cells as they stand."""
    with tarfile.open(path) as packed:
        found = {int(number[0]): member for member in packed if (number := re.findall(r"_(\d+)$", member.name))}
        texts = {}
        for number, member in found.items():  # in the archive's order: xz goes forward only
            source = packed.extractfile(member)
            assert source is not None
            texts[number] = source.read()
    for number in sorted(texts):
        yield [line.split("\t") for line in texts[number].decode().splitlines() if line]


def slabs(slices: int | None = None) -> Iterator[list[Batch]]:
    """Slice by slice, what each observer wrote in it. `slices`: only the first so many."""
    path = archive()
    assert path is not None, "ask archive() first"
    names = feeds()
    machines = [feed.machine for feed in names]
    cells: dict[str, int] = {}
    links: list[list[int]] = [[0] * MACHINES for _ in names]  # ordinal of the link; negative while it is lost
    for turn, matrix in enumerate(matrices(path), 1):
        if slices is not None and turn > slices:
            return
        at_ns = START_NS + (turn - 1) * INTERVAL_NS
        parts = []
        for observer, row in enumerate(matrix):
            feed, state = names[observer], links[observer]
            entries: list[Observed] = []
            if turn == 1:
                opening = (
                    FeedOpened(INCARNATION, feed.machine, 1),
                    MachineJoined(feed.machine),
                    SettingsChanged(1, lost_after=1),
                )
                entries += [Observed(at_ns, event) for event in opening]
            for peer, cell in enumerate(row):
                if peer == observer:
                    continue
                rtt_us = cells.get(cell)
                if rtt_us is None:
                    rtt_us = cells[cell] = round(Decimal(cell) * 1_000_000)
                name, link = machines[peer], state[peer]
                if rtt_us > 0:
                    if link <= 0:
                        link = state[peer] = 1 - link
                        entries.append(Observed(at_ns, LinkEstablished(name, str(link))))
                    entries.append(Observed(at_ns, PingAnswered(name, turn, rtt_us, str(link))))
                elif link > 0:
                    entries.append(Observed(at_ns, PingFailed(name, turn, "timeout", str(link))))
                    entries.append(Observed(at_ns, LinkLost(name, "timeout", str(link))))
                    state[peer] = -link
                else:
                    entries.append(Observed(at_ns, PingFailed(name, turn)))
                    if not link:
                        entries.append(Observed(at_ns, LinkFailed(name, "timeout")))
            parts.append((feed, entries))
        yield parts


def batches(batch: int, slices: int | None = None) -> Iterator[Batch]:
    """The entries of the first `slices` slices as (feed, the next `batch` of it), the feeds in turn."""
    return rebatched(slabs(slices), batch)
