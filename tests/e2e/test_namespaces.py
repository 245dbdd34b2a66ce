"""Four machines with a real network between them: cut without a word, cut one way, refused with resets, cut off from everybody.

Each machine is a `meshledger run` in a network namespace of its own; a router joins them, and its firewall (nftables) is the
fault. The story is told once; what each test asks is asked of the ledgers afterwards, by processes that know nothing of it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest
from namespaces import SERVER, network
from raised import COMMAND, raised, wait_for

from ledger.node.control import Unreachable
from ledger.store import Ledger
from replay.jsonl import read_instant

NAMES = ("alpha", "bravo", "charlie", "delta")
CUT = (("alpha", "bravo"), ("bravo", "alpha"))
"""Cut both ways, and later refused."""
ONE_WAY = ("charlie", "delta")
"""What charlie sends is lost; what delta sends arrives."""
CUTS_MAX = 6
"""So often both cuts are made, until a ping of delta's arrives. Where other bytes were on the way before it, TCP waits for an
answer to these, which is lost, and keeps the pings back: then they are lost too, as truly.
"""
ALONE = tuple(way for other in NAMES[:3] for way in ((other, "delta"), ("delta", other)))


class Story:
    """The machines, the moments, and what their ledgers say."""

    def __init__(self, folder, net, stack):
        self.net, self.times, self.live = net, {}, {}
        hosts = [net.addresses[name] for name in NAMES]
        net.names(stack, {f"{name}.lab.example": net.addresses[name] for name in NAMES})
        nodes = raised(
            folder,
            4,
            interval_ms=1000,
            timeout_ms=1000,
            lost_after=2,
            addressing="name",
            hosts=hosts,
            dns=(SERVER,),
            dial_timeout_ms=2000,
        )
        self.nodes = {node.name: node for node in nodes}

    def start(self, stack):
        for name, node in self.nodes.items():
            node.run(*self.net.inside(name))
            stack.callback(lambda node=node: node.process and node.kill())
        wait_for(lambda: all(map(self.up, self.nodes.values())), 60, 0.3)
        self.whole("at first")

    def seen(self):
        """What each says of each other, by both."""
        said = {name: node.ask("status")["members"] for name, node in self.nodes.items()}
        return {(a, b): said[a][b] for a, b in permutations(NAMES, 2)}

    def up(self, node):
        """Whether a node takes questions yet; that it runs."""
        assert node.process.poll() is None, node.complaints()
        with contextlib.suppress(Unreachable):
            return node.ask("status")["ok"]

    def whole(self, key):
        """Wait until all are linked, and each has answered each from now on; remember the moment."""
        begun = time.time_ns()
        wait_for(lambda: all(peer["linked"] and (peer["last_ping_ns"] or 0) > begun for peer in self.seen().values()), 60, 0.3)
        self.times[key] = time.time_ns()

    def broken(self, key, *pairs, rules, refused=()):
        """Give the firewall these rules, wait until both ends of these pairs have lost each other, the rest are linked, and
        `refused` have dialled in vain; and remember the moments.
        """
        begun = time.time_ns()
        self.net.rules(*rules)
        ends = {way for pair in pairs for way in (pair, pair[::-1])}
        wait_for(lambda: all(peer["linked"] == (way not in ends) for way, peer in self.seen().items()), 40, 0.3)
        wait_for(lambda: all(self.failed(a, b, begun) for a, b in refused), 40, 0.3)
        self.live[key] = {way: peer["route"] for way, peer in self.seen().items() if way in ends}
        self.times[f"{key} began"], self.times[key] = begun, time.time_ns()
        self.net.rules()

    def own(self, name, peer, kind, since_ns, until_ns=sys.maxsize):
        """What a node's own feed has recorded of a peer after then."""
        with Ledger.open(self.nodes[name].folder.ledger) as ledger:
            feed = next(feed for feed in ledger.feeds() if feed.machine == name)
            return [
                entry.event for entry in ledger.read(feed)
                if entry.kind == kind and entry.event.peer == peer and since_ns <= entry.at_ns <= until_ns
            ]  # fmt: skip

    def failed(self, name, peer, since_ns):
        """Whether a dial of a machine has come to nothing since then."""
        return bool(self.own(name, peer, "link.failed", since_ns))

    def arrived(self, key, source, target):
        """Whether the first ping that failed on a link during a fault had arrived all the same."""
        times = self.times[f"{key} began"], self.times[key]
        failed = [event.number for event in self.own(source, target, "ping.failed", *times) if event.link is not None]
        heard = [event.number for event in self.own(target, source, "ping.heard", *times)]
        return bool(failed and heard) and min(failed) <= max(heard)

    def tell(self):
        """What happens."""
        net = self.net
        for _try in range(CUTS_MAX):
            self.broken("cut", CUT[0], ONE_WAY, rules=(*net.silence(*CUT), *net.silence(ONE_WAY)))
            self.whole("between")
            if self.arrived("cut", *ONE_WAY[::-1]):
                break
        self.broken("off", CUT[0], *ALONE[::2], rules=(*net.reset(*CUT), *net.silence(*ALONE)), refused=CUT)
        self.whole("at last")
        self.codes = [node.kill(signal.SIGTERM) for node in self.nodes.values()]

    def moment(self, key):
        """A moment, as the command line takes it."""
        return f"@{self.times[key] // 10**9}.{self.times[key] % 10**9:09}"

    def ask(self, question):
        """What a fresh process says of the three ledgers, and how it ended."""
        ledgers = [word for node in self.nodes.values() for word in ("-L", str(node.folder.ledger))]
        command = [sys.executable, "-c", COMMAND, *question.split(), *ledgers, "-o", "json", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return json.loads(done.stdout), done.returncode

    def asked(self):
        """All questions, and their answers by a name of each."""
        at = self.moment
        questions = {
            "cut": f"at {at('cut')}",
            "why cut": f"why alpha bravo --at {at('cut')}",
            "why one way": f"why charlie delta --at {at('cut')}",
            "differing": f"disagreements --since {at('cut began')} --until {at('cut')}",
            "off": f"at {at('off')}",
            "why refused": f"why alpha bravo --at {at('off')}",
            "why off": f"why alpha delta --at {at('off')}",
            "log": f"log -k ping.failed -k ping.heard -k link -k machine. --since {at('at first')} --until {at('at last')}",
            "whole": f"bisect full-mesh --since {at('at first')} --until {at('at last')}",
            "verify": "verify",
        }
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(questions, pool.map(self.ask, questions.values()), strict=True))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    with network(*NAMES) as net, contextlib.ExitStack() as stack:
        made = Story(tmp_path_factory.mktemp("spaces"), net, stack)
        made.start(stack)
        made.tell()
        made.answers = made.asked()
        yield made


def said(story, key):
    """The answer to a question."""
    return story.answers[key][0]


def told(story, key, observer, peer, kind):
    """What an observer recorded of a peer during a fault."""
    begun, over = story.times[f"{key} began"], story.times[key]
    return [
        entry["event"]
        for entry in said(story, "log")["entries"]
        if entry["kind"] == kind and entry["pos"].startswith(f"{observer}#") and entry["event"]["peer"] == peer
        and begun <= read_instant(entry["at"]) <= over
    ]  # fmt: skip


def reasons(story, key, way, kind):
    """The reasons that both ends recorded during a fault, that of the first of `way` first."""
    return [{event["reason"] for event in told(story, key, *each, kind)} for each in (way, way[::-1])]


def arrived(story, key, source, target):
    """Which of the pings that failed on a link had arrived at the other end all the same: the first, the last."""
    failed = [event["number"] for event in told(story, key, source, target, "ping.failed") if "link" in event]
    heard = max(event["number"] for event in told(story, key, target, source, "ping.heard"))
    return min(failed) <= heard, max(failed) <= heard


def test_a_silent_cut_is_a_time_out_and_a_third_machine_the_way(story):
    """Dropped both ways: each end says `timeout`, the last pings that failed had not arrived; the nodes' own tables and the
    ledgers have the route by way of a third machine, and nobody ceased to communicate.
    """
    assert reasons(story, "cut", CUT[0], "link.lost") == [{"timeout"}, {"timeout"}]
    assert [arrived(story, "cut", *way)[1] for way in CUT] == [False, False]
    why, cut = said(story, "why cut"), said(story, "cut")
    assert (why["cause"], why["direct"], why["reachable"]) == ("timeout", "down", True)
    assert why["route"] == cut["routes"]["alpha:bravo"] == story.live["cut"]["alpha", "bravo"] == ["alpha", "charlie", "bravo"]
    assert cut["routes"]["bravo:alpha"] == story.live["cut"]["bravo", "alpha"] == ["bravo", "charlie", "alpha"]
    assert {pair for pair, state in cut["pairs"].items() if state != "up"} == {"alpha=bravo", "charlie=delta"}
    assert all(machine["communicating"] for machine in cut["machines"].values())


def test_a_one_way_cut_says_which_way(story):
    """Only what charlie sends to delta is dropped: a ping of delta's that failed had arrived at charlie, charlie's not at delta;
    delta saw a time-out; and the observers disagree about both, and about the pair.
    """
    assert arrived(story, "cut", "delta", "charlie")[0], "a lost answer"
    assert not arrived(story, "cut", "charlie", "delta")[1], "a lost request"
    charlie, delta = reasons(story, "cut", ONE_WAY, "link.lost")
    assert delta == {"timeout"}
    assert charlie in ({"timeout"}, {"reset"}), "its own time-out, or delta's reset, which comes through: whichever is first"
    why, code = story.answers["why one way"]
    assert (why["cause"], why["route"], code) == ("timeout", ["charlie", "alpha", "delta"], 0)
    differing, code = story.answers["differing"]
    sides = {
        (each["kind"], each["about"]): {side["says"]: set(side["by"]) for side in each["sides"]}
        for each in differing["disagreements"]
    }
    assert code == 1
    assert sides["machine", "charlie"] == {"down": {"delta"}, "up": {"alpha", "bravo"}}
    assert sides["machine", "delta"] == {"down": {"charlie"}, "up": {"alpha", "bravo"}}
    assert set(sides["pair", "charlie=delta"]) == {"down", "up"}, "one end knew it before the other: asymmetric meanwhile"


def test_a_firewall_that_refuses_is_told_from_one_that_is_silent(story):
    """Rejected with a TCP reset: the link ends with `reset` at both ends, each dial with `refused`, and that is the cause."""
    assert reasons(story, "off", CUT[0], "link.lost") == [{"reset"}, {"reset"}]
    assert reasons(story, "off", CUT[0], "link.failed") == [{"refused"}, {"refused"}]
    why = said(story, "why refused")
    assert (why["cause"], why["route"]) == ("refused", ["alpha", "charlie", "bravo"])


def test_a_machine_cut_off_from_all_ran_on(story):
    """Cut off from all others, delta is a member that does not communicate, without a route; and its own log, which the others
    got later, tells that it ran and was isolated.
    """
    (why, code), off = story.answers["why off"], said(story, "off")
    assert (why["reachable"], why["cause"], why["suspect"], code) == (False, "observer-isolated", "delta", 1)
    assert off["machines"]["delta"]["member"]
    assert {name for name, machine in off["machines"].items() if not machine["communicating"]} == {"delta"}
    assert {way for way, route in off["routes"].items() if route is None} == {":".join(way) for way in ALONE}
    assert {way for way, route in story.live["off"].items() if route is None} == set(ALONE)


def test_the_mesh_came_back_by_itself_each_time(story):
    """Whole before, between and after the faults, and broken in each; with no word about any membership."""

    def verdict(key):
        at = story.times[key]
        found = [each for each in said(story, "whole")["stretches"] if read_instant(each["since"]) <= at]
        return found[-1]["verdict"]

    assert [verdict(key) for key in ("at first", "cut", "between", "off", "at last")] == ["held", "broken"] * 2 + ["held"]
    assert [entry for entry in said(story, "log")["entries"] if entry["kind"].startswith("machine.")] == []


def test_no_invariant_of_ours_is_broken(story):
    """SIGTERM ends each node in order, and over the four ledgers `verify` finds only what the firewall did to the mesh."""
    verified, code = story.answers["verify"]
    assert story.codes == [0] * 4
    assert verified["problems"] == []
    broken = [each for each in verified["invariants"] if each["verdict"] == "violated"]
    assert [each for each in broken if each["severity"] in {"log", "software"}] == []
    assert code == (1 if broken else 0)
