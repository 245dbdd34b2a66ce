"""A cluster of real nodes left alone for a long time: does anything grow? `python tests/bench/soak.py [--nodes N]`

Each node is a process of its own, linked over `ccs` on loopback. Of each are sampled, from /proc and from the ledgers, while they
run: resident memory, open descriptors, and how far behind it is with the entries of the others (the age of the oldest
entry that its origin has and it has not). What a node holds of each feed that no record covers yet grows until the feed is
sealed for the first time: till then it warms up. Of the samples after that the last quarter is held against the first: where
the median of the worst node has grown by more than the tolerance, it fails (exit code 1), as it does if there was a false alarm
or a ledger does not verify at the end. Nothing is broken here, so each lost link is one, and with `--lost-after 1` each failed
ping. The slope is the median of all slopes between two samples (Theil and
Sen). One hour of twenty nodes is what is promised; with a ping a minute a feed is first sealed after 53 of its minutes, with
one in ten seconds (`--interval 10`) after nine, and the hour is judged by five times as many pings.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.agents import end, processor_s  # noqa: E402 - the path must stand first
from naming import Names  # noqa: E402
from raised import Node, linked, raised  # noqa: E402

from ledger.events import LinkLost, PingAnswered, PingFailed  # noqa: E402
from ledger.store import Ledger  # noqa: E402
from ledger.writer import RECORD_ENTRIES  # noqa: E402
from replay.check import verify  # noqa: E402

MEBI = 1024 * 1024
SAMPLES_MIN = 16


class Sample(NamedTuple):
    """One node at one time."""

    at_s: float
    rss_mib: float
    descriptors: float
    lag_s: float
    cpu_s: float
    sealed: int


def tolerances(interval_s: float) -> dict[str, float]:
    """By how much each may be greater in the end. Memory: what an allocator's pages come to; lag: pings of others travel with
    every third ping (`pinging.BATCH`), so that it swings by so much anyway.
    """
    return {"rss_mib": 4.0, "descriptors": 3.0, "lag_s": 3 * interval_s + 1}


def of_process(pid: int) -> tuple[float, float, float]:
    """Resident MiB, open descriptors, processor seconds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEBI, len(list(Path(f"/proc/{pid}/fd").iterdir())), processor_s(pid)


def standing(nodes: list[Node]) -> tuple[dict[str, float], int]:
    """By node the age in seconds of the oldest entry of another that its origin has, and it has not; and how many records' worth
    of entries every feed has had sealed, at least.
    """
    held: dict[str, dict[str, int]] = {}
    sealed: list[int] = []
    for node in nodes:  # what is held first, what there is later: a lag is never told too small
        with Ledger.open(node.folder.ledger) as ledger:
            held[node.name] = {feed.machine: ledger.head(feed).last for feed in ledger.feeds()}
    now_ns = time.time_ns()
    worst = dict.fromkeys(held, 0.0)
    for origin in nodes:
        least = min(each.get(origin.name, 0) for each in held.values())
        with Ledger.open(origin.folder.ledger) as ledger:
            feed = next(feed for feed in ledger.feeds() if feed.machine == origin.name)
            sealed.append(ledger.head(feed).sealed // RECORD_ENTRIES)
            instants = {entry.index: entry.at_ns for entry in ledger.read(feed, after=least)}
        for name, each in held.items():
            missing = instants.get(each.get(origin.name, 0) + 1)
            if missing is not None and missing < now_ns:
                worst[name] = max(worst[name], (now_ns - missing) / 1e9)
    return worst, min(sealed)


def quarter(values: list[float], *, last: bool) -> float:
    """The median of the first or the last quarter."""
    size = max(len(values) // 4, 1)
    return statistics.median(values[-size:] if last else values[:size])


def warm(some: list[Sample]) -> list[Sample]:
    """The samples after the warm-up."""
    return [each for each in some if each.sealed > 0]


def slope(times: list[float], values: list[float]) -> float:
    """The median of the slopes between all pairs, by the hour."""
    found = [
        (values[j] - values[i]) / (times[j] - times[i]) for i in range(len(times)) for j in range(i + 1, len(times))
    ]  # fmt: skip
    return statistics.median(found) * 3600 if found else 0.0


def judged(samples: dict[str, list[Sample]], interval_s: float) -> list[dict[str, Any]]:
    """For each thing that is sampled the node in which it grew most: first and last quarter, slope by the hour, and whether
    that is more than is tolerated.
    """
    rows = []
    for part, tolerance in tolerances(interval_s).items():
        found = []
        for name, some in samples.items():
            kept = warm(some)
            values = [getattr(each, part) for each in kept]
            first, last = quarter(values, last=False), quarter(values, last=True)
            found.append((last - first, first, last, slope([each.at_s for each in kept], values), max(values), name))
        growth, first, last, by_hour, peak, name = max(found)
        rows.append({
            "measure": part, "first": first, "last": last, "growth": growth, "by_hour": by_hour, "peak": peak, "node": name,
            "tolerance": tolerance, "ok": growth <= tolerance,
        })  # fmt: skip
    return rows


def recorded(nodes: list[Node], since_ns: int, until_ns: int) -> tuple[Counter[str], list[str]]:
    """Pings answered and failed, and links lost, as the nodes recorded them themselves in that time; and each lost link."""
    counts: Counter[str] = Counter(answered=0, failed=0, lost=0)
    losses: list[tuple[int, str]] = []
    words = {PingAnswered: "answered", PingFailed: "failed", LinkLost: "lost"}
    for node in nodes:
        with Ledger.open(node.folder.ledger) as ledger:
            for feed in ledger.feeds():
                if feed.machine == node.name:
                    for entry in ledger.read(feed):
                        word = words.get(type(entry.event))
                        if word is not None and since_ns <= entry.at_ns < until_ns:
                            counts[word] += 1
                            if isinstance(entry.event, LinkLost):
                                at_s = (entry.at_ns - since_ns) / 1e9
                                told = f"{node.name} lost {entry.event.peer} after {at_s:.1f} s: {entry.event.reason}"
                                losses.append((entry.at_ns, told))
    return counts, [told for _at_ns, told in sorted(losses)]


def soak(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the cluster, sample it, end it, and judge."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:7.1f} s] {text}", file=sys.stderr, flush=True)

    interval_s = options.interval
    names = Names()
    nodes = raised(
        folder, options.nodes, interval_ms=int(interval_s * 1000), timeout_ms=int(options.timeout * 1000),
        lost_after=options.lost_after, dns=(names.server,),
    )  # fmt: skip
    samples: dict[str, list[Sample]] = {node.name: [] for node in nodes}
    try:
        for node in nodes:
            node.start("soak 1")
        until = time.monotonic() + 300
        while not linked(nodes):
            if time.monotonic() > until:
                raise SystemExit("the mesh did not form within five minutes")
            time.sleep(1)
        formed_s = time.monotonic() - began
        say(f"{options.nodes} nodes are linked")
        begun, begun_ns = time.monotonic(), time.time_ns()
        pause = max(min(options.minutes * 60 / 60, 60.0), 5.0)
        whole = options.minutes * 60
        while (here := time.monotonic() - begun) < whole:
            behind, sealed = standing(nodes)
            for node in nodes:
                if node.process is None or node.process.poll() is not None:
                    raise SystemExit(f"{node.name} has ended by itself: {node.complaints()}")
                rss, descriptors, cpu = of_process(node.process.pid)
                samples[node.name].append(Sample(time.monotonic() - begun, rss, descriptors, behind[node.name], cpu, sealed))
            latest = [some[-1] for some in samples.values()]
            worst = (max(getattr(each, part) for each in latest) for part in ("rss_mib", "descriptors", "lag_s"))
            say("{:6.1f} MiB, {:.0f} descriptors, {:.2f} s behind".format(*worst))
            time.sleep(max(0.0, min(pause - (time.monotonic() - begun - here), whole - (time.monotonic() - begun))))
        over_ns = time.time_ns()
    finally:
        end(nodes)
        names.close()
    judgeable = len(warm(samples[nodes[0].name]))
    if judgeable < SAMPLES_MIN:
        raise SystemExit(f"{judgeable} samples after the warm-up are too few to judge by; run longer, or ping more often")
    say("verifying")
    bad = {node.name: verify([node.folder.ledger]).problems for node in nodes}
    counts, losses = recorded(nodes, begun_ns, over_ns)
    rows = judged(samples, interval_s)
    spent = [(some[-1].cpu_s - some[0].cpu_s) / (some[-1].at_s - some[0].at_s) for some in samples.values()]
    problems = [f"{name}: {each.what}" for name, found in bad.items() for each in found]
    alarms = counts["lost"] + (counts["failed"] if options.lost_after == 1 else 0)
    return {
        "nodes": options.nodes, "minutes": options.minutes, "interval_s": interval_s, "timeout_s": options.timeout,
        "lost_after": options.lost_after, "formed_s": formed_s, "alarms": alarms,
        "samples": judgeable, "warm_s": warm(samples[nodes[0].name])[0].at_s, "rows": rows, **counts,
        "cpu_of_a_core": sum(spent), "cpu_worst": max(spent),
        "losses": losses, "problems": problems, "ok": all(row["ok"] for row in rows) and not (alarms or problems),
    }  # fmt: skip


def table(told: dict[str, Any]) -> str:
    """What was found, as a table in Markdown."""
    lines = ["| grows? | first quarter | last quarter | growth | by the hour | peak | tolerated | worst node | |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    shape = "| {measure} | {first:.2f} | {last:.2f} | {growth:+.2f} | {by_hour:+.2f} | {peak:.2f} | {tolerance:.2f} | {node} | "
    lines += [shape.format(**row) + ("ok |" if row["ok"] else "GROWS |") for row in told["rows"]]
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, once the mesh is formed")
    parser.add_argument("--interval", type=float, default=60.0, help="the ping interval in seconds")
    parser.add_argument("--timeout", type=float, help="after so many seconds a ping has failed (default: half an interval)")
    parser.add_argument("--lost-after", type=int, default=1, help="failed pings in a row that lose a link")
    parser.add_argument("--folder", type=Path, help="where the nodes' directories are made (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of the table")
    options = parser.parse_args()
    if options.timeout is None:
        options.timeout = min(options.interval / 2, 15.0)
    with tempfile.TemporaryDirectory(prefix="meshledger-soak-", dir=options.folder) as folder:
        told = soak(Path(folder), options)
    if options.json:
        print(json.dumps(told))
        return 0 if told["ok"] else 1
    print("{nodes} nodes, {minutes:g} minutes, a ping each {interval_s:g} s".format(**told))
    print("a ping fails after {timeout_s:g} s, {lost_after} in a row lose a link".format(**told))
    print("formed in {formed_s:.1f} s, warm after {warm_s:.0f} s\n".format(**told))
    print(table(told))
    print("\n{answered:,} pings answered, {failed} failed; {lost} links lost; {alarms} false alarms".format(**told))
    print("processor: {cpu_of_a_core:.3f} of a core in all, {cpu_worst:.4f} the busiest node".format(**told))
    for loss in told["losses"]:
        print(loss)
    for problem in told["problems"]:
        print(f"PROBLEM: {problem}")
    print("ok" if told["ok"] else "NOT OK")
    return 0 if told["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
