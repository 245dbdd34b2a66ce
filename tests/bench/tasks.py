"""One task of the benchmark, in a process of its own: `python tasks.py '{"task": …}'` prints one line of JSON.

A process a task, so that no contestant sees another's caches, imports or memory. All run with PYTHONHASHSEED=0, as
`digest.rolled` needs it. What is timed is the contestant's call and nothing else: the workload is in memory before an
append begins, digests are taken after the clock has stopped, and what the process has loaded is frozen out of the
collector (`gc.freeze`) for everybody alike.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench import seattle, workload, world  # noqa: E402 - the path must stand first
from bench.digest import Fold, digest, rolled, visited  # noqa: E402
from bench.peers.contestant import Absent, Contestant  # noqa: E402
from bench.roster import contestant  # noqa: E402

from ledger.identity import Feed  # noqa: E402

GENERATED, SEATTLE = "generated", "seattle"


def feeds(source: str) -> list[Feed]:
    return workload.feeds() if source == GENERATED else seattle.feeds()


def slabs(source: str, events: int) -> Iterator[list[workload.Batch]]:
    """`events` entries of the generated log from the cache; of the real one as many whole slices as hold them."""
    if source == GENERATED:
        return workload.slabs(events, cache=True)
    return seattle.slabs(max(1, events // (seattle.MACHINES * (seattle.MACHINES - 1))))


def opened(key: str, folder: str) -> Contestant:
    """A contestant over its store, ready to be asked, with a collector that has nothing old to look at."""
    store = contestant(key)(Path(folder))
    store.open()
    gc.collect()
    gc.freeze()
    return store


def memory_kib(field: str) -> int:
    """VmRSS or VmHWM of this process. Raises Absent where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        raise Absent("this system does not tell a process its memory") from None
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def moments(events: int, many: int) -> list[int]:
    """So many random instants within the log, in random order."""
    span_us = max(events // 380, 2) * world.INTERVAL_US
    dice = random.Random(events)
    return [(world.START_US + dice.randrange(1_000_000, span_us)) * 1000 for _ in range(many)]


def overall(digests: list[str]) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def reference(events: int, many: int) -> dict[str, Any]:
    """What is right for the generated log: the plain fold's digests, kept beside the log they belong to."""
    gc.disable()
    asked = moments(events, many)
    fold, values, ends = Fold(asked), {}, {}
    for parts in slabs(GENERATED, events):
        for feed, entries in parts:
            fold.add(feed, entries)
            end = ends.get(feed.machine, 0)
            seen = (visited(index, entry) for index, entry in enumerate(entries, end + 1))
            values[feed.machine] = rolled(seen, values.get(feed.machine, 0))
            ends[feed.machine] = end + len(entries)
    then = dict(zip(sorted(asked), fold.states(), strict=True))
    return {
        "events": sum(ends.values()),
        "replay": digest(fold.end()),
        "order": values,
        "at": overall([digest(then[at]) for at in asked]),
        "at-uncounted": overall([digest(then[at], counts=False) for at in asked]),
    }


def build(who: str, folder: str, source: str, events: int) -> dict[str, Any]:
    """A store with the whole log in it; its bytes, after close."""
    gc.disable()
    path = Path(folder)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    store = contestant(who)(path)
    store.create(feeds(source))
    count, began = 0, time.perf_counter()
    for feed, entries in workload.rebatched(slabs(source, events), 1000):
        store.append(feed, entries)
        count += len(entries)
    store.close()
    return {"events": count, "bytes": store.size(), "seconds": time.perf_counter() - began}


def append(who: str, folder: str, events: int, batch: int) -> dict[str, Any]:
    """Events a second, each batch durable on return; closing the store is part of the time."""
    path = Path(folder)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    given = list(workload.batches(events, batch, cache=True))
    store = contestant(who)(path)
    store.create(feeds(GENERATED))
    gc.collect()
    gc.freeze()
    calls = []
    began = last = time.perf_counter()
    for feed, entries in given:
        store.append(feed, entries)
        now = time.perf_counter()
        calls.append(now - last)
        last = now
    store.close()
    took = time.perf_counter() - began
    shutil.rmtree(path)
    calls.sort()
    return {"rate": events / took, "p99_ms": calls[int(len(calls) * 0.99)] * 1000}


def replay(who: str, folder: str) -> dict[str, Any]:
    """Seconds to the whole state, and the memory it took at its peak over what stood after the imports."""
    kind = contestant(who)
    gc.collect()
    before = memory_kib("VmRSS") if Path("/proc/self/status").exists() else None
    store = opened(who, folder)
    began = time.perf_counter()
    state = store.replay()
    took = time.perf_counter() - began
    peak = memory_kib("VmHWM") if before is not None else None
    threads = store.threads() if hasattr(store, "threads") else 1
    over = None if before is None or peak is None else max(peak - before, 1) / 1024
    return {"seconds": took, "mib": over, "answer": digest(state), "threads": threads, "name": kind.name}


def order(who: str, folder: str) -> dict[str, Any]:
    """Seconds in which every event passed through a Python loop, in order."""
    store = opened(who, folder)
    values: dict[str, int] = {}
    began = time.perf_counter()
    for machine, run in store.walk():
        values[machine] = rolled(run, values.get(machine, 0))
    return {"seconds": time.perf_counter() - began, "answer": values}


def at(who: str, folder: str, events: int, many: int) -> dict[str, Any]:
    """The time of each of the states at `many` random moments; half and 99th percentile (nearest rank)."""
    store = opened(who, folder)
    asked, took, states = moments(events, many), [], []
    for moment in asked:
        began = time.perf_counter()
        states.append(store.state_at(moment))
        took.append(time.perf_counter() - began)
    took.sort()
    answers = {"at-uncounted": overall([digest(state, counts=False) for state in states])}
    if store.counts_then:
        answers["at"] = overall([digest(state) for state in states])
    return {"p50_ms": took[len(took) // 2 - 1] * 1000, "p99_ms": took[-(-len(took) * 99 // 100) - 1] * 1000, "answer": answers}


def why(who: str, folder: str, events: int, many: int) -> dict[str, Any]:
    """The time of `why` at `many` random moments, beside that of the state alone: every other time for a link that is down then,
    if any is. `agreed`: how often it said of the way what the route table says.
    """
    from replay.why import why as asked_why

    history = opened(who, folder).history  # type: ignore[attr-defined]  only ours is asked
    dice = random.Random(events + 1)
    took, states, agreed, causes = [], [], 0, set()
    for number, moment in enumerate(moments(events, many)):
        began = time.perf_counter()
        cluster = history.at(moment)
        down = sorted(pair for pair, view in cluster.links.items() if view.state == "down")
        states.append(time.perf_counter() - began)
        a, b = dice.choice(down) if number % 2 and down else dice.sample(cluster.members, 2)
        began = time.perf_counter()
        answer = asked_why(history, a, b, moment)
        took.append(time.perf_counter() - began)
        route = cluster.routes[a, b]
        agreed += answer.reachable == (None if route == "unknown" else route is not None)
        causes.add(answer.cause)
    place = -(-len(took) * 99 // 100) - 1
    p99, at_p99 = sorted(took)[place] * 1000, sorted(states)[place] * 1000
    return {"p99_ms": p99, "at_p99_ms": at_p99, "agreed": agreed, "asked": len(took), "causes": len(causes)}


def verify(who: str, folder: str) -> dict[str, Any]:
    """Seconds to read and check every byte that vouches for an event."""
    store = opened(who, folder)
    began = time.perf_counter()
    checked = store.verify()
    return {"seconds": time.perf_counter() - began, "answer": checked}


def invariants(who: str, folder: str, *, plain: bool) -> dict[str, Any]:
    """Seconds in which all invariants were judged over the ledger, and the memory that took at its peak. `plain`: by the naive
    check, over a list of all entries. `answer`: of the invariants that both judge, how often each is violated.
    """
    import naive_invariants as naive

    from projections.invariants import shipped
    from replay.judging import judge

    sentences = {name.upper(): each for name, each in vars(naive).items() if name[:1] in "ab" and name[1:].isdigit()}
    history = opened(who, folder).history  # type: ignore[attr-defined]  only ours is asked
    gc.collect()
    before, began = memory_kib("VmRSS") if Path("/proc/self/status").exists() else None, time.perf_counter()
    if plain:
        log = naive.Log([entry for feed in history.feeds for entry in history.entries(feed)])
        answer = {name: len(sentence(log).wrong) for name, sentence in sentences.items()}
    else:
        answer = {each.rule.name: each.violations for each in judge(history, shipped()) if each.rule.name in sentences}
    took = time.perf_counter() - began
    over = None if before is None else max(memory_kib("VmHWM") - before, 1) / 1024
    return {"seconds": took, "mib": over, "answer": dict(sorted(answer.items()))}


def bisect(who: str, folder: str, *, every: bool) -> dict[str, Any]:
    """Seconds to all stretches of `full-mesh` over the whole log; `every`: asked at each entry, as what reads pings must be."""
    from msgspec.structs import replace

    from projections.conditions import CONDITIONS
    from replay.intervals import intervals

    history = opened(who, folder).history  # type: ignore[attr-defined]  only ours is asked
    began = time.perf_counter()
    found = intervals(history, replace(CONDITIONS["full-mesh"], pings=every))
    took = time.perf_counter() - began
    return {"seconds": took, "answer": hashlib.sha256(repr(found).encode()).hexdigest(), "stretches": len(found)}


def worlds(count: int) -> dict[str, Any]:
    """Seconds to play so many worlds of five machines and thirty minutes, and how many entries their observers recorded."""
    from ledger.worlds import world

    began = time.perf_counter()
    entries = sum(len(log) for seed in range(count) for log in world(seed, machines=5, minutes=30).whole.values())
    return {"seconds": time.perf_counter() - began, "entries": entries}


TASKS = {task.__name__: task for task in (reference, build, append, replay, order, at, why, verify, invariants, bisect, worlds)}


def living(task: str) -> Callable[..., dict[str, Any]]:
    """A task of the live mesh; its room is loaded only now, for it loads the network."""
    from bench import agents, limits, news, wired

    return (wired.TASKS | agents.TASKS | limits.TASKS | news.TASKS)[task]


def main() -> None:
    told = json.loads(sys.argv[1])
    try:
        task = told.pop("task")
        result = (TASKS.get(task) or living(task))(**told)
    except Absent as absent:
        result = {"absent": str(absent)}
    except ImportError as missing:
        result = {"absent": f"not installed, or not built yet: {missing}"}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a contestant's own farewell is not waited for: all that counts is on disk


if __name__ == "__main__":
    main()
