"""A real cluster from the command line: processes, keys, SSH and DNS on loopback, from `init` to the last machine's departure.

The story is told once, by one fixture, and each test looks at a part of it: what commands said while it ran, and what the ledgers
say afterwards. It names the sentences of the seed system that it shows (S1 … S31).
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from naming import Names
from raised import free_port

from ledger.node.control import SOCKET, Unreachable, ask
from ledger.store import Ledger
from replay.check import verify
from replay.history import History
from replay.merge import merge
from replay.schemas import schema
from replay.verdicts import judged, monitors

NAMES = ("alpha", "bravo", "charlie", "delta")
INTERVAL_MS = 1000
SECOND = 10**9
PROGRAM = "import sys; from replay.cli import main; sys.exit(main())"
SLOW_CLOCK = (
    "import time; real = time.time_ns; time.time_ns = lambda: real() - 10**12; time.time = lambda: time.time_ns() / 1e9; "
)
"""What makes of a program one whose clock is slow: to it a code is good that has expired."""


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
        program = SLOW_CLOCK + PROGRAM if key == "join expired" else PROGRAM
        command = [sys.executable, "-c", program, *arguments, "--dir", str(self.folder / at), "-o", "json", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        self.codes[key] = done.returncode
        self.said[key] = json.loads(done.stdout) if done.stdout else None
        return self.said[key]

    def calls(self, *each: tuple[str, ...]) -> list[Any]:
        """Commands that do not wait for each other: (key, where, words …)."""
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(lambda one: self.call(one[0], *one[2:], at=one[1]), each))

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

    def members(self, name: str) -> dict[str, Any]:
        """What a node that runs says of the members; nothing if it does not answer yet."""
        with contextlib.suppress(Unreachable):
            members: dict[str, Any] = ask(self.folder / name / SOCKET, {"ask": "status"})["members"]
            return members
        return {}

    def each(self, *names: str) -> list[dict[str, Any]]:
        """What each of these says of each other one; nothing of one that it does not know."""
        return [self.members(name).get(other, {}) for name in names for other in names if other != name]

    def linked(self, *names: str) -> bool:
        """Whether these are linked with each other, as each says itself."""
        return all(peer.get("linked") for peer in self.each(*names))

    def pinged(self, *names: str, rounds: int = 1) -> None:
        """Wait until each of these has answered each other, so many intervals from now."""
        since = time.time_ns() + (rounds - 1) * INTERVAL_MS * 1_000_000
        self.until(lambda: all((peer.get("last_ping_ns") or 0) > since for peer in self.each(*names)), 40)

    def failed(self, name: str, peer: str, reason: str) -> bool:
        """Whether a node has recorded that there was no link to a peer, and for this reason."""
        with Ledger.open(self.folder / name / "node.ledger") as ledger:
            own = [feed for feed in ledger.feeds() if feed.machine == name]
            found = [e.event for feed in own for e in ledger.read(feed) if e.kind == "link.failed"]
        return any((event.peer, event.reason) == (peer, reason) for event in found)

    def over(self, name: str) -> None:
        """Wait until a node has ended by itself."""
        self.until(lambda: self.running[name].poll() is not None, 30)
        self.running.pop(name)

    def mark(self, key: str) -> None:
        """Remember the moment."""
        self.times[key] = time.time_ns()


def told(story: Story) -> None:
    """What happens. Nothing waits for a time to pass: each act begins when what it needs has come to hold."""
    pace = ("--interval", f"{INTERVAL_MS}ms", "--timeout", f"{INTERVAL_MS}ms", "--lost-after", "3")
    story.call("init", "init", "lab", "--transport", "ccs", *pace, *story.own("alpha"), at="alpha")
    story.start("alpha")
    story.until(lambda: story.members("alpha"), 40)
    keys = ("bravo", "charlie", "short")
    invited = story.calls(*((f"invite {key}", "alpha", "invite", "--expires", "1s" if key == "short" else "1h") for key in keys))
    codes = {key: answer["code"] for key, answer in zip(keys, invited, strict=True)}
    expired_ns = time.time_ns() + SECOND
    story.calls(*((f"join {name}", name, "join", codes[name], *story.own(name)) for name in ("bravo", "charlie")))
    for name in ("bravo", "charlie"):
        story.start(name)
    story.until(lambda: time.time_ns() > expired_ns)
    story.calls(
        ("join used", "delta", "join", codes["charlie"], *story.own("delta")),
        ("join wrong", "echo", "join", codes["charlie"][:-8] + "AAAAAAAA", *story.own("delta")),
        ("join expired", "foxtrot", "join", codes["short"], *story.own("delta")),
    )
    everyone = ("alpha", "bravo", "charlie")
    story.until(lambda: story.linked(*everyone), 40)
    story.pinged(*everyone, rounds=2)
    story.mark("whole")
    story.calls(
        ("status", "alpha", "status"),
        ("status there", "alpha", "status", "charlie"),
        ("doctor", "bravo", "doctor"),
        ("connstatus", "charlie", "connstatus"),
        ("routes", "charlie", "routes"),
        ("rename refused", "alpha", "sethostname", "c3.lab.example", "charlie"),
    )
    story.call("rename forced", "sethostname", "c3.lab.example", "charlie", "--force", at="alpha")
    assert story.codes["rename forced"] == 0
    story.until(lambda: {story.members(name)["charlie"]["hostname"] for name in everyone} == {"c3.lab.example"})
    story.pinged(*everyone)
    story.mark("renamed")
    assert story.stop("charlie", signal.SIGKILL) == -signal.SIGKILL
    story.start("charlie")
    pairs = (("alpha", "charlie"), ("bravo", "charlie"), ("charlie", "alpha"), ("charlie", "bravo"))
    story.until(lambda: all(story.failed(*pair, "name-unresolvable") for pair in pairs), 40)
    story.mark("mute")
    story.names.responder.table.address("c3.lab.example", "127.0.0.1", ttl_s=1)
    story.until(lambda: story.linked(*everyone), 40)
    story.call("disconnect", "disconnect", "bravo", "--text", "upgrade", at="alpha")
    story.until(lambda: all(
        peer["disconnected"] and not peer["linked"] for peer in (story.members(name)["bravo"] for name in ("alpha", "charlie"))
    ) and story.members("bravo")["bravo"]["disconnected"])  # fmt: skip
    story.mark("planned")
    story.call("reconnect", "reconnect", "bravo", at="bravo")
    story.until(lambda: story.linked(*everyone), 40)
    story.mark("again")
    story.call("remove", "remove", "charlie", at="bravo")
    story.over("charlie")
    story.until(lambda: all("charlie" not in story.members(name) for name in ("alpha", "bravo")))
    story.mark("removed")
    story.pinged("alpha", "bravo", rounds=2)
    story.call("leave", "leave", at="bravo")
    story.over("bravo")
    story.until(lambda: "bravo" not in story.members("alpha"))
    story.call("leave last", "leave", at="alpha")
    story.call("dissolve", "leave", "--dissolve", at="alpha")
    story.over("alpha")
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
    """S21, S22: each answer of the live mesh validates; what is refused (also a host name that does not lead here) ends with its
    own exit code.
    """
    for said in story.said.values():
        if said is not None:
            name = said["schema"].removeprefix("meshledger.").removesuffix("/1")
            jsonschema.validate(said, schema(name))
    codes = {
        key: story.codes[key]
        for key in ("init", "invite bravo", "join bravo", "status", "rename forced", "disconnect", "dissolve")
    }
    assert set(codes.values()) == {0}, codes
    assert story.codes["rename refused"] == 1
    assert story.codes["leave last"] == 2
    assert story.codes["after"] == 5
    assert (story.codes["join used"], story.codes["join wrong"], story.codes["join expired"]) == (1, 2, 1)


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


def test_a_used_a_wrong_and_an_expired_code_let_nobody_in(story, history):
    """The refusal of a used or expired code is recorded by the member that gave it out; a code with a slip is none, and reaches
    nobody.
    """
    refused = [e for feed in history.feeds for e in history.entries(feed) if e.kind == "join.refused"]
    assert {(e.observer, e.event.who) for e in refused} == {("alpha", "delta")}
    assert sorted(next(why for why in ("expired", "used") if why in e.event.detail) for e in refused) == ["expired", "used"]
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
