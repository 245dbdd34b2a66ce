"""The rows of the live mesh: `python tests/bench/run.py --only live`. They take minutes, so nobody gets them unasked.

Links in one process (`wired`) beside asyncssh with its defaults; clusters of processes (`agents`) beside Serf where it is
installed; the simulation, which has no peer. A cluster that loses a link while nothing is wrong has a false alarm, and its
row says how many there were in how many pings.
"""

from __future__ import annotations

import statistics
from typing import Any

from bench import limits
from bench.measures import Line, Run, Wrong
from bench.peers.contestant import Absent

MESHES = {"quick": (10,), "default": (10, 20), "full": (10, 20, 40)}
NODES = {"quick": 5, "default": 10, "full": 10}
PINGS = {"quick": 2_000, "default": 10_000, "full": 30_000}
HOURS = {"quick": 1, "default": 6, "full": 24}


class Live:
    """The rows, told to a run."""

    def __init__(self, run: Run, scale: str) -> None:
        self.run, self.scale = run, scale

    def rows(self) -> None:
        """All of them."""
        self.meshes()
        self.pings()
        self.blows()
        self.limits()
        self.news()
        self.simulation()

    def asked(self, people: tuple[str, ...], measure: str, right: Any, task: str, **told: Any) -> dict[str, list[dict[str, Any]]]:
        """Each in turn, `repeats` times; who gave another answer than `right` ends the run, who breaks is absent."""
        found: dict[str, list[dict[str, Any]]] = {}
        for turn in range(self.run.scale.repeats):
            for who in people:
                if turn and who not in found:
                    continue
                self.run.say(f"{who}: {measure}")
                try:
                    got = self.run.task(task, who=who, **told)
                except Absent as why:
                    found.pop(who, None)
                    self.run.absent[f"{who}, {measure}"] = str(why)
                    continue
                if right is not None and got["answer"] != right:
                    raise Wrong(f"{who}, {measure}: {got['answer']} is not {right}")
                found.setdefault(who, []).append(got)
        return found

    def tell(self, measure: str, found: dict[str, list[dict[str, Any]]], part: str, unit: str, peer: str, **more: Any) -> None:
        """One row, less being better; a peer that is absent has no figure. `factor`: from the task's unit to this."""
        factor = more.pop("factor", 1.0)
        values = {who: statistics.median(one[part] for one in some) * factor for who, some in found.items()}
        ours, theirs = values.get("ours"), values.get(peer)
        ratio = theirs / ours if ours and theirs is not None else None
        name = {"asyncssh": "asyncssh, defaults", "openssh": "OpenSSH", "serf": "serf, lan profile"}.get(peer, "")
        self.run.lines.append(Line(measure, ours, theirs, name, ratio, unit, **more))

    def meshes(self) -> None:
        """Full meshes formed, all handshakes at once, and what an idle link of the largest takes."""
        found = {}
        for machines in MESHES[self.scale]:
            links = machines * (machines - 1) // 2
            measure = f"full mesh of {machines} formed"
            # An sshd a machine and an ssh a pair: forty of them would be 1,560 processes, which tell no more than twenty.
            people = ("ours", "asyncssh", "openssh") if machines <= 20 else ("ours", "asyncssh")
            found = self.asked(people, measure, links, "formed", machines=machines)
            goal = "≥ 1.3×" if machines == 20 else ""
            self.tell(measure, found, "seconds", "ms", "asyncssh", factor=1000, goal=goal, note=f"{links} links, one process")
            if "openssh" in people:
                self.tell(measure, found, "seconds", "ms", "openssh", factor=1000, note=f"{links} links, its own processes")
            note = f"of {machines} machines"
            for peer in people[1:]:
                self.tell("memory of an idle link, both ends", found, "kib", "KiB", peer, note=note)
                self.tell("processor time of an idle link, a minute", found, "idle_us", "µs", peer, note=note)

    def pings(self) -> None:
        """A round trip of 64 bytes over one link."""
        count = PINGS[self.scale]
        found = self.asked(("ours", "asyncssh", "openssh"), "pings", count, "pinged", pings=count)
        for peer in ("asyncssh", "openssh"):
            self.tell("processor time of a ping, both ends", found, "cpu_us", "µs", peer, note=f"{count:,} over one link")
            self.tell("round trip of a ping, half of them", found, "p50_us", "µs", peer)

    def blows(self) -> None:
        """A member killed, back, and silent, in clusters of processes."""
        machines = NODES[self.scale]
        folder = str(self.run.folder / "nodes")
        found = self.asked(("ours", "serf"), f"{machines} processes", None, "blows", folder=folder, machines=machines)
        for part, measure, goal in (
            ("killed", "killed peer known to all", "≥ 300×"),
            ("silent", "silent peer known to all", "≥ 5×"),
            ("back", "back after a kill, from listening", "≥ 6×"),
            ("back_whole", "back after a kill, from its start", ""),
        ):
            self.tell(measure, found, part, "ms", "serf", factor=1000, goal=goal, note=f"{machines} processes, all recorded")
        if "ours" in found:
            alarms, pings = (sum(one[part] for one in found["ours"]) for part in ("alarms", "pings"))
            note = f"{machines} processes; {alarms} false alarms in {pings:,} pings"
            own = {"ours": found["ours"]}
            self.tell("processor time of a ping, all of a node", own, "node_cpu_us", "µs", "", note=note)

    def limits(self) -> None:
        """A link that the limit of connections ended stands again, once there is room."""
        folder = str(self.run.folder / "limits")
        found = self.asked(("ours",), "back after a limit drop", limits.TIMES, "limited", folder=folder, machines=5)
        note = f"5 processes; {limits.TIMES} drops a run; nobody else dials again"
        for part, which in (("p50", "half of them"), ("max", "the slowest")):
            self.tell(f"back after a limit drop, {which}", found, part, "ms", "", factor=1000, note=note)

    def news(self) -> None:
        """What a machine records reaches all, also the one that it has no link to."""
        folder = str(self.run.folder / "news")
        found = self.asked(("ours",), "an entry reaches all", None, "news", folder=folder, machines=5)
        note = "5 processes; the origin and one of them never linked"
        for part, measure in (
            ("every_p50", "an entry reaches all, half of them"),
            ("every_max", "an entry reaches all, the slowest"),
        ):
            self.tell(measure, found, part, "ms", "", factor=1000, note=note)

    def simulation(self) -> None:
        """Simulated days of a machine in a second."""
        hours, machines = HOURS[self.scale], 5
        self.run.say(f"{machines} simulated machines, {hours} h")
        try:
            told = [self.run.task("simulated", machines=machines, hours=hours) for _ in range(self.run.scale.repeats)]
        except Absent as why:
            self.run.absent["simulation"] = str(why)
            return
        if len({one["entries"] for one in told}) > 1:
            raise Wrong("the same seed gave another simulation")
        if told[0]["answer"]:
            raise Wrong(f"the simulation did not come to rest: {told[0]['answer'][:3]}")
        rate = told[0]["days"] / statistics.median(one["seconds"] for one in told)
        note = f"{machines} machines, {hours} h, 12 faults; {told[0]['entries']:,} entries"
        self.run.lines.append(Line("simulated machine-days", rate, None, "", None, "days/s", note=note))
