"""The measures of the benchmark: who is asked what, how often, and what counts as the answer.

Each measure asks its contestants task by task, a process each (`tasks`), in turn and `repeats` times, holds every answer
against the plain fold's, and tells one line a peer. A peer's append is the best of three batch sizes, ours is at 1000.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench import commands, seattle, workload, world
from bench.peers.contestant import Absent
from bench.roster import contestant

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONHASHSEED": "0"}
SLOW_EVENTS = 300_000
RIGHT = ("world.py", "workload.py", "digest.py", "tasks.py")
"""The rooms that decide what is right; their text names the cache of it."""
MEASURES = ("append", "bytes", "replay", "order", "at", "why", "verify", "invariants", "bisect", "memory", "commands", "worlds")


class Scale(NamedTuple):
    """How much of everything: events of the log, of an append, of the real log for rows; repetitions; moments at which a state is
    asked for, and why; events of the naive check, which is quadratic, and of a bisection at every entry.
    """

    events: int
    append: int
    slow: int
    real: int
    repeats: int
    moments: int
    why: int
    naive: int
    every: int


SCALES = {
    "quick": Scale(20_000, 10_000, 4_000, 10_000, 1, 60, 20, 3_000, 2_000),
    "default": Scale(1_000_000, 200_000, 100_000, 1_000_000, 3, 200, 200, 6_000, 4_000),
    "full": Scale(10_000_000, 1_000_000, 200_000, 10_000_000, 5, 200, 200, 6_000, 4_000),
}


class Line(NamedTuple):
    """One row of the table."""

    measure: str
    ours: float | None
    peer: float | None
    peer_name: str
    ratio: float | None
    unit: str
    goal: str = ""
    note: str = ""


class Wrong(Exception):
    """A contestant gave another answer than the plain fold."""


class Run:
    """One run: a folder with everybody's stores, what is right, and the lines so far."""

    def __init__(self, scale: Scale, folder: Path, say: Callable[[str], None]) -> None:
        self.scale, self.folder, self.say = scale, folder, say
        self.lines: list[Line] = []
        self.built: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.right: dict[int, dict[str, Any]] = {}
        self.absent: dict[str, str] = {}
        self.broken: list[str] = []
        self.threads: dict[str, int] = {}

    def task(self, task: str, **told: Any) -> dict[str, Any]:
        """Run a task in a process of its own. Raises Absent where the contestant is, or has no such answer."""
        command = [sys.executable, str(ROOT / "tests" / "bench" / "tasks.py"), json.dumps({"task": task, **told})]
        done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
        if done.returncode or not done.stdout.strip():
            said = done.stderr.decode(errors="replace").strip()
            print(said, file=sys.stderr)
            self.broken.append(f"{self.name(told['who']) if 'who' in told else 'the plain fold'}, {task}")
            raise Absent(f"broke: {said.splitlines()[-1] if said else done.returncode}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if "absent" in result:
            raise Absent(result["absent"])
        return result

    def events_for(self, who: str) -> int:
        try:
            return min(self.scale.events, SLOW_EVENTS) if contestant(who).slow else self.scale.events
        except Absent:
            return self.scale.events

    def name(self, who: str) -> str:
        try:
            return contestant(who).name
        except Absent:
            return who

    def note(self, who: str, events: int | None = None) -> str:
        used = events or self.events_for(who)
        return f"scaled: {used:,} events" if used < self.scale.events else ""

    def answers(self, events: int) -> dict[str, Any]:
        """What is right for a log of so many events; kept in the cache beside it."""
        if events not in self.right:
            text = b"".join(Path(ROOT, "tests", "bench", room).read_bytes() for room in RIGHT)
            python = f"{sys.version_info.major}{sys.version_info.minor}"
            name = f"right-{hashlib.sha256(text).hexdigest()[:12]}-{python}-{events}-{self.scale.moments}.json"
            path = workload.cache_folder() / name
            if not path.exists():
                self.say(f"what is right for {events:,} events")
                path.write_text(json.dumps(self.task("reference", events=events, many=self.scale.moments)))
            self.right[events] = json.loads(path.read_text())
        return self.right[events]

    def store(self, who: str, source: str = "generated", events: int | None = None) -> tuple[str, dict[str, Any]]:
        """The folder of a contestant's store with the whole log in it, made at the first call, and what making it told."""
        used = events or self.events_for(who)
        key = who, source, used
        folder = str(self.folder / f"{who}-{source}-{used}")
        if key not in self.built:
            self.say(f"{self.name(who)}: {source}, {used:,} events")
            try:
                self.built[key] = self.task("build", who=who, folder=folder, source=source, events=used)
            except Absent as why:
                self.built[key] = {"absent": str(why)}
        if "absent" in self.built[key]:
            raise Absent(self.built[key]["absent"])
        return folder, self.built[key]

    def rounds(self, measure: str, people: list[str], ask: Callable[[str], dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Ask each contestant `repeats` times, in turn; who is absent is noted and left out."""
        results: dict[str, list[dict[str, Any]]] = {}
        for turn in range(self.scale.repeats):
            for who in people:
                if turn and who not in results:
                    continue
                try:
                    results.setdefault(who, []).append(ask(who))
                except Absent as why:
                    results.pop(who, None)
                    self.absent[f"{self.name(who)}, {measure}"] = str(why)
        return results

    def check(self, who: str, given: Any, right: Any) -> None:
        if given != right:
            raise Wrong(f"{self.name(who)} gave another answer than the plain fold: {str(given)[:200]} is not {str(right)[:200]}")

    def tell(
        self,
        measure: str,
        unit: str,
        values: dict[str, float],
        goals: dict[str, float],
        *,
        less: bool,
        notes: dict[str, str] | None = None,
    ) -> None:
        """A line for each peer. `less`: less is better."""
        ours = values.get("ours")
        for who, goal in goals.items():
            peer = values.get(who)
            ratio = None if ours is None or peer is None else (peer / ours if less else ours / peer)
            note = (notes or {}).get(who, "")
            self.lines.append(Line(measure, ours, peer, self.name(who), ratio, unit, f"≥ {goal:g}×" if goal else "", note))

    # The measures, in the order of the table.

    def append(self) -> None:
        goals = {"es-aggregates": 15, "es-structs": 15, "sqlite3": 1, "sqlite-utils": 3}
        best: dict[str, float] = {}
        notes: dict[str, str] = {}
        tried: dict[tuple[str, int], list[float]] = {}
        for turn in range(self.scale.repeats):
            for who in ("ours", *goals):
                try:
                    kind = contestant(who)
                    for batch in kind.batches:
                        if turn and (who, batch) not in tried:
                            continue
                        events = self.scale.slow if kind.slow else self.scale.append
                        self.say(f"{kind.name}: append, {batch:,} a commit")
                        got = self.task("append", who=who, folder=str(self.folder / "append"), events=events, batch=batch)
                        tried.setdefault((who, batch), []).append(got["rate"])
                except Absent as why:
                    self.absent[f"{self.name(who)}, append"] = str(why)
        rates = {each: statistics.median(some) for each, some in tried.items()}
        for (who, batch), rate in rates.items():
            if rate > best.get(who, 0):
                events = self.scale.slow if contestant(who).slow else self.scale.append
                commit = min(batch, events // len(workload.feeds()))
                best[who], notes[who] = rate, f"its best: {commit:,} a commit"
                (ours,) = contestant("ours").batches
                if commit > ours and (who, ours) in rates:
                    notes[who] += f"; {rates[who, ours] / 1e3:.0f} k at {ours:,}, as ours"
        self.tell("durable append", "events/s", best, goals, less=False, notes=notes)

    def bytes(self) -> None:
        goals = {"sqlite3": 6, "es-aggregates": 20, "es-structs": 20}
        sources = [("generated", self.scale.events)]
        if seattle.archive():
            sources.append(("seattle", self.scale.real))
        else:
            self.say("no data of Seattle here ($MESHLEDGER_DATA): left out")
        for source, events in sources:
            values, notes = {}, {}
            for who in ("ours", *goals):
                used = min(events, self.events_for(who))
                try:
                    _, told = self.store(who, source, used)
                except Absent as why:
                    self.absent[self.name(who)] = str(why)
                else:
                    values[who] = told["bytes"] / told["events"]
                    notes[who] = self.note(who, used) if source == "generated" else f"{told['events']:,} events"
            self.tell(f"bytes per event, {source}", "bytes", values, goals, less=True, notes=notes)

    def replay(self) -> None:
        self._replays({"es-aggregates": 100, "es-structs": 100, "duckdb": 1, "polars": 0.4}, "replay")

    def memory(self) -> None:
        self._replays({"duckdb": 6, "polars": 6}, "memory")

    def _replays(self, goals: dict[str, float], measure: str) -> None:
        def ask(who: str) -> dict[str, Any]:
            folder, told = self.store(who)
            self.say(f"{self.name(who)}: {measure}")
            got = self.task("replay", who=who, folder=folder)
            self.check(who, got["answer"], self.answers(told["events"])["replay"])
            self.threads[self.name(who)] = got["threads"]
            if measure == "memory" and got["mib"] is None:
                raise Absent("this system does not tell a process its memory")
            return {"value": got["mib"] if measure == "memory" else told["events"] / got["seconds"]}

        results = self.rounds(measure, ["ours", *goals], ask)
        values = {who: statistics.median(one["value"] for one in some) for who, some in results.items()}
        notes = {who: self.note(who) for who in goals}
        if measure == "memory":
            self.tell("memory of a replay, over imports (ours: ≤ 10 MiB)", "MiB", values, goals, less=True, notes=notes)
        else:
            self.tell("full replay to the whole state", "events/s", values, goals, less=False, notes=notes)

    def order(self) -> None:
        goals = {"es-aggregates": 40, "es-structs": 40, "sqlite3": 0}

        def ask(who: str) -> dict[str, Any]:
            folder, told = self.store(who)
            self.say(f"{self.name(who)}: every event, in order")
            got = self.task("order", who=who, folder=folder)
            self.check(who, got["answer"], self.answers(told["events"])["order"])
            return {"value": told["events"] / got["seconds"]}

        results = self.rounds("in order", ["ours", *goals], ask)
        values = {who: statistics.median(one["value"] for one in some) for who, some in results.items()}
        self.tell(
            "every event through Python, in order",
            "events/s",
            values,
            goals,
            less=False,
            notes={who: self.note(who) for who in goals},
        )

    def at(self) -> None:
        goals, many = {"sql-state": 1.4, "snapshots": 4, "duckdb": 100}, self.scale.moments

        def ask(who: str, events: int | None = None) -> dict[str, Any]:
            folder, told = self.store(who, events=events)
            self.say(f"{self.name(who)}: the state at {many} moments")
            got = self.task("at", who=who, folder=folder, events=told["events"], many=many)
            right = self.answers(told["events"])
            for counted, answer in got["answer"].items():
                self.check(who, answer, right[counted])
            return got

        results = self.rounds("at a moment", ["ours", *goals], ask)
        for part, aims in (("p50", dict.fromkeys(goals, 0.0)), ("p99", goals)):
            values = {who: statistics.median(one[f"{part}_ms"] for one in some) for who, some in results.items()}
            self.tell(f"state at a random moment, {part} of {many}", "ms", values, aims, less=True)
        if "ours" in results and self.scale.repeats > 1:
            tenth = self.scale.events // 10
            small = [ask("ours", tenth)["p99_ms"] for _ in range(self.scale.repeats)]
            big = statistics.median(one["p99_ms"] for one in results["ours"])
            few = statistics.median(small)
            self.lines.append(
                Line(
                    "state at a moment, p99, as the log grows tenfold",
                    big,
                    few,
                    f"meshledger, {tenth:,} events",
                    few / big,
                    "ms",
                    "≥ 0.77× (p99 ≤ 1.3 ×)",
                )
            )

    def why(self) -> None:
        many = self.scale.why

        def ask(who: str) -> dict[str, Any]:
            folder, told = self.store(who)
            self.say(f"{self.name(who)}: why at {many} moments")
            got = self.task("why", who=who, folder=folder, events=told["events"], many=many)
            self.check(who, got["agreed"], got["asked"])
            return got

        results = self.rounds("why", ["ours"], ask)
        if "ours" in results:
            ours, state = (statistics.median(one[part] for one in results["ours"]) for part in ("p99_ms", "at_p99_ms"))
            found = f"{results['ours'][0]['causes']} different answers"
            peer = "meshledger, the state alone"
            self.lines.append(Line(f"why at a random moment, p99 of {many}", ours, state, peer, state / ours, "ms", "", found))

    def verify(self) -> None:
        def ask(who: str) -> dict[str, Any]:
            folder, told = self.store(who)
            self.say(f"{self.name(who)}: verify")
            got = self.task("verify", who=who, folder=folder)
            self.check(who, got["answer"], told["events"])
            return {"value": told["events"] / got["seconds"]}

        results = self.rounds("verify", ["ours", "sha-chain"], ask)
        values = {who: statistics.median(one["value"] for one in some) for who, some in results.items()}
        self.tell("verify of the bytes", "events/s", values, {"sha-chain": 5}, less=False)

    def invariants(self) -> None:
        """All invariants over the whole log, and the naive check, which is quadratic, over the beginning of it: there both must
        find the same.
        """

        def ask(who: str) -> dict[str, Any]:
            plain = who == "naive"
            folder, told = self.store("ours", events=min(self.scale.events, self.scale.naive) if plain else self.scale.events)
            self.say(f"all invariants, {'by their sentences' if plain else 'by monitors'}, {told['events']:,} events")
            got = self.task("invariants", who="ours", folder=folder, plain=plain)
            if plain:
                self.check("ours", self.task("invariants", who="ours", folder=folder, plain=False)["answer"], got["answer"])
            return {"value": told["events"] / got["seconds"], "mib": got["mib"]}

        results = self.rounds("invariants", ["ours", "naive"], ask)
        note = f"naive: {min(self.scale.events, self.scale.naive):,} events"
        for part, measure, unit, less in (
            ("value", "verify with all invariants", "events/s", False),
            ("mib", "its memory", "MiB", True),
        ):
            found = {who: statistics.median(one[part] or 0 for one in some) for who, some in results.items()}
            ours, naive = found.get("ours"), found.get("naive")
            if ours and naive:
                ratio = naive / ours if less else ours / naive
                self.lines.append(Line(measure, ours, naive, "the naive check", ratio, unit, "", note))

    def bisect(self) -> None:
        """All stretches of `full-mesh`: asked where it may have changed, over much, and at every entry, over the beginning: there
        both must find the same.
        """

        def ask(events: int, *, every: bool) -> dict[str, Any]:
            folder, told = self.store("ours", events=min(self.scale.events, events))
            self.say(f"bisect full-mesh, {'at every entry' if every else 'at its turns'}, {told['events']:,} events")
            return {"events": told["events"], **self.task("bisect", who="ours", folder=folder, every=every)}

        try:
            every, there = ask(self.scale.every, every=True), ask(self.scale.every, every=False)
            self.check("ours", there["answer"], every["answer"])
            ours = [ask(self.scale.slow, every=False) for _ in range(self.scale.repeats)]
        except Absent as why:
            self.absent["meshledger, bisect"] = str(why)
            return
        rate, plain = (statistics.median(one["events"] / one["seconds"] for one in some) for some in (ours, [every]))
        note = f"at every entry: {every['events']:,} events; {ours[0]['stretches']} stretches"
        self.lines.append(Line("bisect full-mesh", rate, plain, "meshledger, at every entry", rate / plain, "events/s", "", note))

    def commands(self) -> None:
        """Whole processes: start-up and modules beside a bare interpreter; export, import and merge in events a second."""
        floor = statistics.median(commands.run(commands.FLOOR) for _ in range(5))
        bare = commands.modules(commands.FLOOR)
        moment = datetime.fromtimestamp(world.START_US / 1e6 + self.scale.events / 760 * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            store, told = self.store("ours")
            places = commands.files(Path(store), self.folder / "commands", moment)
        except Absent as why:
            self.absent["meshledger, on a ledger"] = str(why)
            places, told = None, {"events": 0}
        for name in commands.COMMANDS:
            if name != "help" and places is None:
                continue
            self.say(f"meshledger {name}")
            try:
                times = [
                    commands.whole(name, places or {}) for _ in range(self.scale.repeats * 2 - 1 if name in {"help", "at"} else 1)
                ]
            except Absent as why:
                self.absent[f"meshledger {name}"] = str(why)
                continue
            took = statistics.median(times)
            if name in {"help", "at"}:
                many = commands.modules(commands.spelled(name, places or {}))
                self.lines.append(
                    Line(f"meshledger {name}, whole process", took * 1000, floor * 1000, "python -c pass", floor / took, "ms")
                )
                self.lines.append(
                    Line(f"meshledger {name}, modules imported", many, bare, "python -c pass", bare / many, "modules")
                )
            else:
                self.lines.append(Line(f"meshledger {name}, whole process", told["events"] / took, None, "", None, "events/s"))

    def worlds(self) -> None:
        """Generated worlds a second, and the entries that their observers recorded; nobody else has the like."""
        count = 20 if self.scale.repeats == 1 else 200
        self.say(f"{count} worlds")
        told = [self.task("worlds", count=count) for _ in range(self.scale.repeats)]
        if len({one["entries"] for one in told}) > 1:
            raise Wrong("the same seeds gave other worlds")
        took = statistics.median(one["seconds"] for one in told)
        note = f"{told[0]['entries'] // count:,} entries a world"
        self.lines.append(Line("worlds of 5 machines and 30 minutes", count / took, None, "", None, "worlds/s", note=note))
