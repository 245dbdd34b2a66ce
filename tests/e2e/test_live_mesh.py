"""A real cluster from the command line: processes, keys, SSH and DNS on loopback, from `init` to the last machine's departure.

The story is told once, by one fixture, and each test looks at a part of it: what commands said while it ran, and what the ledgers
say afterwards. It names the sentences of the seed system that it shows (S1 … S31).
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from raised import free_port

from ledger.node.responder import Responder
from replay.check import verify
from replay.history import History
from replay.merge import merge
from replay.schemas import schema
from replay.verdicts import judged, monitors

NAMES = ("alpha", "bravo", "charlie", "delta")
PROGRAM = "import sys; from replay.cli import main; sys.exit(main())"


class Names:
    """A DNS server of our own, in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.responder = Responder()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        async with self.responder:
            self._ready.set()
            await self._end.wait()

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.responder.port}"

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


class Story:
    """The cluster, and what commands have said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = Names()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: free_port() for name in NAMES}
        self.said: dict[str, Any] = {}
        self.codes: dict[str, int] = {}
        self.times: dict[str, int] = {}
        for name in NAMES:
            self.names.responder.table.address(f"{name}.lab.example", "127.0.0.1", ttl_s=1)

    def call(self, key: str, *arguments: str, at: str) -> Any:
        """Call the command line for the node `at`, as a process; keep what it said as JSON, and its exit code."""
        command = [sys.executable, "-c", PROGRAM, *arguments, "--dir", str(self.folder / at), "-o", "json", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        self.codes[key] = done.returncode
        self.said[key] = json.loads(done.stdout) if done.stdout else None
        return self.said[key]

    def own(self, name: str) -> list[str]:
        """The options that say who a machine is."""
        who = ["--hostname", f"{name}.lab.example", "--listen", "127.0.0.1", "--port", str(self.ports[name])]
        return [*who, "--dns", self.names.server]

    def start(self, name: str) -> None:
        """Run a node."""
        with (self.folder / f"{name}.log").open("ab") as errors:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "run", "--dir", str(self.folder / name)], stderr=errors, stdout=errors
            )

    def stop(self, name: str, how: int = signal.SIGTERM) -> int:
        """End a node; its exit code."""
        process = self.running.pop(name)
        process.send_signal(how)
        return process.wait(30)

    def until(self, holds: Any, seconds: float = 20.0) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it did not come to hold"
            time.sleep(0.1)

    def linked(self, *names: str) -> bool:
        """Whether these are linked with each other, as each says itself."""
        for name in names:
            said = self.call("linked", "status", at=name)
            members = (said or {}).get("members") or {}
            if not all(other in members and members[other]["linked"] for other in names if other != name):
                return False
        return True

    def mark(self, key: str) -> None:
        """Remember the moment."""
        self.times[key] = time.time_ns()


def told(story: Story) -> None:
    """What happens."""
    pace = ["--interval", "500ms", "--timeout", "500ms", "--lost-after", "3"]  # a busy machine is not a silent one
    story.call("init", "init", "lab", "--transport", "ccs", *pace, *story.own("alpha"), at="alpha")
    story.start("alpha")
    story.until(lambda: story.call("alone", "status", at="alpha") and story.codes["alone"] == 0)
    for name in ("bravo", "charlie"):
        code = story.call("invite", "invite", at="alpha")["code"]
        story.call(f"join {name}", "join", code, *story.own(name), at=name)
        story.start(name)
        story.until(lambda name=name: story.linked("alpha", name))
    story.call("join used", "join", code, *story.own("delta"), at="delta")
    story.call("join wrong", "join", code[:-8] + "AAAAAAAA", *story.own("delta"), at="delta")
    story.until(lambda: story.linked("alpha", "bravo", "charlie"))
    time.sleep(1.5)
    story.mark("whole")
    story.call("status", "status", at="alpha")
    story.call("status there", "status", "charlie", at="alpha")
    story.call("doctor", "doctor", at="bravo")
    story.call("connstatus", "connstatus", at="charlie")
    story.call("routes", "routes", at="charlie")
    story.call("rename refused", "sethostname", "c3.lab.example", "charlie", at="alpha")
    story.call("rename forced", "sethostname", "c3.lab.example", "charlie", "--force", at="alpha")
    time.sleep(1)
    story.mark("renamed")
    assert story.stop("charlie", signal.SIGKILL) == -signal.SIGKILL
    time.sleep(0.5)
    story.start("charlie")
    time.sleep(6)
    story.mark("mute")
    story.names.responder.table.address("c3.lab.example", "127.0.0.1", ttl_s=1)
    story.until(lambda: story.linked("alpha", "bravo", "charlie"), 30)
    story.call("disconnect", "disconnect", "bravo", "--text", "upgrade", at="alpha")
    time.sleep(1.5)
    story.mark("planned")
    story.call("reconnect", "reconnect", "bravo", at="bravo")
    story.until(lambda: story.linked("alpha", "bravo", "charlie"), 30)
    story.mark("again")
    story.call("remove", "remove", "charlie", at="bravo")
    story.until(lambda: story.running["charlie"].poll() is not None, 30)
    story.running.pop("charlie")
    time.sleep(1.5)
    story.mark("removed")
    story.call("leave", "leave", at="bravo")
    story.until(lambda: story.running["bravo"].poll() is not None, 30)
    story.running.pop("bravo")
    time.sleep(1)
    story.call("leave last", "leave", at="alpha")
    story.call("dissolve", "leave", "--dissolve", at="alpha")
    story.until(lambda: story.running["alpha"].poll() is not None, 30)
    story.running.pop("alpha")
    story.call("after", "status", at="alpha")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    made = Story(tmp_path_factory.mktemp("live"))
    try:
        told(made)
        yield made
    finally:
        for process in made.running.values():
            process.kill()
            process.wait(10)
        made.names.close()


@pytest.fixture(scope="module")
def ledgers(story: Story) -> list[Path]:
    return [story.folder / name / "node.ledger" for name in ("alpha", "bravo", "charlie")]


@pytest.fixture(scope="module")
def history(ledgers: list[Path]) -> Iterator[History]:
    with History.open(*ledgers) as found:
        yield found


def test_every_command_answers_as_its_schema_says(story):
    """Each answer of the live mesh validates; what is refused ends with its own exit code."""
    for said in story.said.values():
        if said is not None:
            name = said["schema"].removeprefix("meshledger.").removesuffix("/1")
            jsonschema.validate(said, schema(name))
    codes = {
        key: story.codes[key] for key in ("init", "invite", "join bravo", "status", "rename forced", "disconnect", "dissolve")
    }
    assert set(codes.values()) == {0}, codes
    assert story.codes["rename refused"] == 1
    assert story.codes["leave last"] == 2
    assert story.codes["after"] == 5
    assert (story.codes["join used"], story.codes["join wrong"]) == (1, 2)


def test_a_node_that_is_asked_over_the_mesh_answers_for_itself(story):
    """`status charlie` at alpha is charlie's own word, signed for and carried there and back."""
    assert story.said["status there"]["machine"] == "charlie"
    assert story.said["status"]["machine"] == "alpha"
    assert {name for name, peer in story.said["status there"]["members"].items() if peer["linked"]} == {"alpha", "bravo"}


def test_the_mesh_is_full_and_every_pair_is_seen_from_both_sides(story, history):
    """S1, S2, S4, S7, S23, S26: three machines, three pairs up, each link over the transport that the cluster has."""
    whole = history.at(story.times["whole"])
    assert whole.members == ["alpha", "bravo", "charlie"]
    assert set(whole.pairs.values()) == {"up"}
    assert whole.transport == "ccs"
    established = [e.event for feed in history.feeds for e in history.entries(feed) if e.kind == "link.established"]
    assert {event.transport for event in established} == {"ccs"}
    assert min(view.sent for view in whole.links.values()) >= 2


def test_who_joined_is_pinged_and_who_left_is_not(history, story):
    """S7, S28: a newcomer is in everybody's pings within an interval or two, and a machine that was removed in nobody's."""
    pings = [
        (e.effective_ns, e.observer, e.event.peer)
        for feed in history.feeds
        for e in history.entries(feed)
        if e.kind in {"ping.answered", "ping.failed"}
    ]
    assert {(who, peer) for _at, who, peer in pings} == {(a, b) for a in NAMES[:3] for b in NAMES[:3] if a != b}
    assert [(who, peer) for at, who, peer in pings if at > story.times["removed"] and "charlie" in {who, peer}] == []


def test_a_used_and_a_wrong_code_let_nobody_in(story, history):
    """The refusal of a used code is recorded by the member that gave it out; a code with a slip is none, and reaches nobody."""
    refused = [e for feed in history.feeds for e in history.entries(feed) if e.kind == "join.refused"]
    assert [(e.observer, e.event.who) for e in refused] == [("alpha", "delta")]
    assert "used" in refused[0].event.detail
    assert "delta" not in history.at("end").machines


def test_renamed_without_dns_it_is_a_member_that_does_not_communicate(story, history):
    """S12, S15, S16, S18, S22: a forced rename kept its links; killed and started again, nobody reached it until DNS knew it."""
    from replay.why import why

    renamed, mute = history.at(story.times["renamed"]), history.at(story.times["mute"])
    assert renamed.machines["charlie"].hostname == "c3.lab.example"
    assert renamed.machines["charlie"].communicating is True
    assert mute.members == ["alpha", "bravo", "charlie"]
    assert mute.machines["charlie"].communicating is False
    assert why(history, "alpha", "charlie", story.times["mute"]).cause == "renamed-without-dns"
    assert history.at(story.times["again"]).machines["charlie"].communicating is True
    assert why(history, "alpha", "bravo", story.times["mute"]).reachable is True


def test_planned_is_not_lost_and_not_left(story, history):
    """S30: disconnected, the pair is planned and the machine a member; then all is as before."""
    planned = history.at(story.times["planned"])
    assert planned.pair("alpha", "bravo") == "planned"
    assert planned.machines["bravo"].cause == "disconnected"
    assert "bravo" in planned.members
    assert history.at(story.times["again"]).pair("alpha", "bravo") == "up"


def test_removed_means_removed_and_the_last_takes_the_cluster_along(story, history):
    """S27, S28: removed by another, left by itself, and with the last machine the incarnation ends."""
    removed, end = history.at(story.times["removed"]), history.at("end")
    assert removed.members == ["alpha", "bravo"]
    assert removed.machines["charlie"].cause == "removed"
    assert {name: view.cause for name, view in end.machines.items()} == {"alpha": "left", "bravo": "left", "charlie": "removed"}
    assert end.dissolved


def test_the_record_is_whole_and_breaks_no_invariant_of_its_own(ledgers):
    """Every byte, and every invariant of the classes log and software, over the ledgers of all three, also the killed one's."""
    report = verify(ledgers)
    assert report.problems == []
    bad = [
        (each.rule.name, each.outcome)
        for each in judged(ledgers, report, monitors())
        if each.severity not in {"mesh", "coverage"} and each.outcome == "violated"
    ]
    assert bad == []


def test_every_machine_holds_every_feed(ledgers, tmp_path):
    """What alpha holds is what all three together hold, up to each machine's departure: nobody hears what it says after that."""
    merge(ledgers, tmp_path / "all.ledger")
    with History.open(tmp_path / "all.ledger") as whole, History.open(ledgers[0]) as alpha:
        assert whole.contradicted == {}
        for feed in whole.feeds:
            ends = [e.index for other in whole.feeds for e in whole.entries(other) if e.kind == "machine.left" and other == feed]
            assert alpha.last(feed) >= (ends[0] if ends else whole.last(feed) - 30)
            pairs = zip(alpha.entries(feed), whole.entries(feed), strict=False)
            assert all(one.same(other) and one.position == other.position for one, other in pairs)
