"""A cluster as its answers."""

from __future__ import annotations

import msgspec
from told import imported, ns, own, told

from ledger import events as ev
from projections.cluster import Cluster
from projections.projection import fold
from replay import states

NAMES = ("alpha", "bravo", "charlie")


def mesh() -> Cluster:
    """Three machines, all linked, of which alpha lost charlie and nobody has heard charlie's own word."""
    rows = []
    for name in NAMES[:2]:
        peers = [peer for peer in NAMES if peer != name]
        steps = [(0.5, ev.LinkEstablished(peer, "1")) for peer in peers]
        steps += [(60, ev.PingAnswered(peer, 1, 900, "1")) for peer in peers]
        if name == "alpha":
            steps += [(61.25, ev.PingFailed("charlie", 2, "timeout", "1")), (61.25, ev.LinkLost("charlie", "timeout", "1"))]
            steps.insert(0, (0.25, ev.MachineJoined("charlie", "charlie.lab.example")))
        rows += own(name, *steps, hostname=f"{name}.lab.example")
    return fold(Cluster(), rows)


def test_the_whole_state_in_the_shapes_that_are_printed() -> None:
    """Positions and instants as text, names of links and pairs as keys, null for what nobody said."""
    found = msgspec.to_builtins(states.at(mesh()))
    assert found["schema"] == "meshledger.at/1"
    assert found["at"] == "2026-01-01T00:01:01.25Z"
    assert found["cluster"] == {"name": None, "incarnation": "import:paper", "transport": None, "members": list(NAMES)}
    assert found["machines"]["charlie"] == {
        "member": True, "communicating": True, "cause": None, "hostname": "charlie.lab.example",
        "since": "2026-01-01T00:00:00.25Z", "since_pos": "alpha#3",
    }  # fmt: skip
    assert found["links"]["alpha:charlie"] == {
        "state": "down", "reason": "timeout", "since": "2026-01-01T00:01:01.25Z", "since_pos": "alpha#9",
        "last_ping": {"at": "2026-01-01T00:01:01.25Z", "outcome": "timeout", "rtt_us": None}, "sent": 2, "lost": 1,
    }  # fmt: skip
    assert found["links"]["alpha:bravo"]["last_ping"] == {"at": "2026-01-01T00:01:00Z", "outcome": "answered", "rtt_us": 900}
    assert found["links"]["charlie:alpha"] == {
        "state": "unknown", "reason": None, "since": None, "since_pos": None, "last_ping": None, "sent": 0, "lost": 0,
    }  # fmt: skip
    assert found["pairs"] == {"alpha=bravo": "up", "alpha=charlie": "uncovered", "bravo=charlie": "uncovered"}
    assert found["routes"]["alpha:bravo"] == ["alpha", "bravo"]
    assert found["routes"]["alpha:charlie"] == "unknown"
    assert found["coverage"]["alpha"] == {"until_pos": "alpha#9", "until": "2026-01-01T00:01:01.25Z", "covered": True}
    assert found["coverage"]["charlie"] is None


def test_each_part_is_the_part_of_the_whole() -> None:
    """`members`, `connstatus` and `routes` say what `at` says, and whose belief it is."""
    whole = msgspec.to_builtins(states.at(mesh(), as_seen_by="alpha"))
    for part in (states.members, states.connstatus, states.routes):
        found = msgspec.to_builtins(part(mesh(), as_seen_by="alpha"))
        name = found.pop("schema")
        assert name == f"meshledger.{part.__name__}/1"
        assert found == {word: whole[word] for word in found}
        assert found["as_seen_by"] == "alpha"


def test_results_of_earlier_epochs_are_counted() -> None:
    """A machine that goes on in a new feed has sent what it sent before, and its last ping is the last of all."""
    first = own("alpha", (1, ev.PingAnswered("bravo", 1, 900)), (2, ev.PingFailed("bravo", 2)))
    second = told(imported("alpha", 2), (3, ev.FeedOpened("import:paper", "alpha", 2)))
    cluster = fold(Cluster(), [*first, *own("bravo"), *second])
    link = states.at(cluster).links["alpha:bravo"]
    assert (link.state, link.since_pos, link.sent, link.lost) == ("unknown", None, 2, 1)
    assert link.last_ping == states.LastPing("2026-01-01T00:00:02Z", "timeout", None)
    assert cluster.at_ns == ns(3)


def test_nothing_at_all_has_an_answer() -> None:
    """An empty cluster is answered with empty parts."""
    found = msgspec.to_builtins(states.at(Cluster()))
    assert found["at"] == "1970-01-01T00:00:00Z"
    assert not any(found[part] for part in ("machines", "links", "pairs", "routes", "coverage"))
