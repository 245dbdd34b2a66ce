"""The benchmark: Meshledger against its peers, on one log, in one run. `python tests/bench/run.py [--quick | --full]`.

A million generated events by default, 20 thousand with --quick (within a minute), ten million with --full; the real log
of Seattle beside it for bytes. Contestants known to be slow get 300 thousand at most, and are marked *scaled*. Each
task runs in a process of its own, repetitions interleaved, medians told; a peer's append is the best of three batch sizes.
A wrong answer of anybody ends the run with exit code 1; who breaks is listed as absent, with exit code 1 at the end.
`--only live` measures the live mesh, links and clusters of processes, which takes minutes and is no part of the default run.
Ratios say how many times better ours is: quote these, not the absolutes. With --json one object a line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.live import Live  # noqa: E402
from bench.measures import MEASURES, SCALES, Line, Run, Wrong  # noqa: E402 - the path must stand first
from bench.peers.contestant import Absent  # noqa: E402
from bench.roster import ROSTER, contestant  # noqa: E402


def machine_line() -> str:
    """What it ran on."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (OSError, ValueError):
        memory = ""
    return (
        f"{model}, {os.cpu_count()} cores{memory}, {platform.system()} {platform.release()}, CPython {platform.python_version()}"
    )


def versions() -> list[str]:
    found = []
    for who in ROSTER:
        try:
            version = contestant(who).version()
        except Absent as why:
            version = f"absent: {why}"
        if version not in found:
            found.append(version)
    return found


def number(value: float | None) -> str:
    if value is None:
        return "absent"
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 10_000:
        return f"{value / 1e3:.1f} k"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(lines: list[Line]) -> str:
    """The lines as a table, in Markdown."""
    rows = [("measure", "unit", "ours", "peer", "its figure", "ratio", "goal", "")]
    rows += [
        (
            line.measure,
            line.unit,
            number(line.ours),
            line.peer_name,
            number(line.peer),
            f"{line.ratio:.3g}×" if line.ratio else "",
            line.goal,
            line.note,
        )
        for line in lines
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    drawn = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="scale", const="quick", help="20 thousand events, within a minute")
    size.add_argument("--full", action="store_const", dest="scale", const="full", help="10 million events")
    parser.add_argument("--json", action="store_true", help="one object a line on stdout instead of the table")
    parser.add_argument("--only", action="append", choices=(*MEASURES, "live"), help="only this measure (may be repeated)")
    parser.add_argument("--folder", type=Path, help="where the stores are made (default: a temporary folder)")
    given = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="meshledger-bench-", dir=given.folder) as folder:
        run = Run(SCALES[given.scale or "default"], Path(folder), say)
        try:
            for measure in MEASURES:
                if not given.only or measure in given.only:
                    getattr(run, measure)()
            if "live" in (given.only or ()):
                Live(run, given.scale or "default").rows()
        except Wrong as wrong:
            print(f"WRONG: {wrong}", file=sys.stderr)
            return 1
    if given.json:
        for line in run.lines:
            print(json.dumps(line._asdict(), ensure_ascii=False))
        return 1 if run.broken else 0
    print(machine_line())
    print(" · ".join(versions()))
    print("threads: " + ", ".join(f"{name} {many}" for name, many in run.threads.items()) + "; all others 1")
    print(f"{run.scale.events:,} generated events; medians of {run.scale.repeats}, interleaved\n")
    print(table(run.lines))
    for name, why in run.absent.items():
        print(f"absent: {name}: {why}")
    return 1 if run.broken else 0


if __name__ == "__main__":
    sys.exit(main())
