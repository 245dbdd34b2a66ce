"""Every answer has a schema, and what is printed of it keeps to the schema."""

import csv
import io
import json
from typing import Any

import jsonschema
import msgspec
import pytest

from ledger.errors import Refused
from replay import answers as mesh
from replay import answers_conditions as judged
from replay import answers_node as nodes
from replay import answers_why as proofs
from replay import receipts
from replay.answers_views import Disagreement, Disagreements, Side
from replay.listings import LISTED
from replay.output import FORMATS, Format, columns, write
from replay.schemas import ANSWERS, row_schema, schema

ROOT = "ab" * 32
CLUSTER = mesh.ClusterHead(name=None, incarnation="import:1", transport=None, members=["alpha", "bravo"])
UP = mesh.Link("up", None, "2026-11-22T03:00:00Z", "alpha#7", mesh.LastPing("2026-11-22T03:12:00.5Z", "answered", 412), 9, 0)
DOWN = mesh.Link(
    "down", "timeout", "2026-11-22T03:00:00Z", "bravo#9", mesh.LastPing("2026-11-22T03:12:00Z", "timeout", None), 9, 3
)
STATE: dict[str, Any] = {
    "machines": {
        "alpha": mesh.Machine(True, True, None, "alpha.lab.example", "2026-11-22T03:00:00Z", "alpha#2"),
        "bravo": mesh.Machine(True, None, "timeout", None, None, None),
    },
    "links": {"alpha:bravo": UP, "bravo:alpha": DOWN, "alpha:charlie": mesh.Link("unknown", None, None, None, None, 0, 0)},
    "pairs": {"alpha=bravo": "asymmetric", "alpha=charlie": "uncovered"},
    "routes": {"alpha:bravo": ["alpha", "charlie", "bravo"], "bravo:alpha": None, "alpha:charlie": "unknown"},
    "coverage": {"alpha": mesh.Reach("alpha#12", "2026-11-22T03:12:00Z", True), "bravo": None},
}
HEAD: dict[str, Any] = {"at": "2026-11-22T03:12:00Z", "as_seen_by": None, "cluster": CLUSTER}
ENTRY = receipts.LogRow("alpha#7", 3, "2026-11-22T03:12:00Z", None, None, "link.lost", 1, {"peer": "bravo", "reason": "timeout"})
FOREIGN = receipts.LogRow("alpha.2#8", None, "2026-11-22T03:12:01Z", 1, 5, "moon.seen", 2, raw="e30=")
UNSEEN = proofs.Seen("unknown", None, None, None)
TAKEN: dict[str, Any] = {
    "feeds": {"alpha": receipts.Taken(12, 0, 1)},
    "conflicts": [receipts.Contradiction("alpha#9", ["alpha~3f2a#9", "alpha~77aa#9"])],
    "refused": [receipts.Refusal(7, "no JSON", "other.jsonl"), receipts.Refusal(None, "no ledger")],
}
WINDOW: dict[str, Any] = {"since": "2026-11-22T03:00:00Z", "until": "2026-11-22T04:00:00Z"}
BROKEN = judged.Stretch(
    "broken",
    "2026-11-22T03:12:00Z",
    "2026-11-22T03:12:01Z",
    1_000_000_000,
    "alpha#7",
    "link.lost",
    "bravo#6",
    witnesses=[judged.Against("alpha=bravo", "is down", ["alpha#7", "bravo#9"])] * 5,
    more=True,
)

SAMPLES: dict[str, mesh.Answer] = {
    "at": mesh.At(**HEAD, **STATE),
    "members": mesh.Members(**HEAD, machines=STATE["machines"]),
    "connstatus": mesh.Connstatus(**HEAD, links=STATE["links"], pairs=STATE["pairs"]),
    "routes": mesh.Routes(**HEAD, routes=STATE["routes"]),
    "diff": mesh.Diff(**WINDOW, changes=[mesh.Change("alpha:bravo", "route", ["alpha", "bravo"], None, "alpha#7")]),
    "blame": mesh.Blame(
        cell="alpha:bravo",
        at=WINDOW["since"],
        fields=[
            mesh.Blamed("state", "down", "alpha#7", WINDOW["since"], "link.lost"),
            mesh.Blamed("reason", None, None, None, None),
        ],
    ),
    "why": proofs.Why(
        source="alpha",
        target="bravo",
        at=WINDOW["since"],
        reachable=True,
        cause="renamed-without-dns",
        root_pos="bravo#9",
        chain=[
            proofs.ChainLink("alpha#7", WINDOW["since"], "link.lost", "alpha:bravo timeout", root=False, proves="since"),
            proofs.ChainLink("bravo#9", WINDOW["since"], "hostname.changed", "b -> c", root=True, proves="cause"),
        ],
        others=[proofs.Other("charlie", *[proofs.Seen("down", "timeout", WINDOW["since"], "charlie#3")] * 2, UNSEEN, UNSEEN)],
        since=WINDOW["since"],
        until=None,
        coverage=STATE["coverage"],
        advice="publish an address for c",
        route=["alpha", "charlie", "bravo"],
        direct="asymmetric",
        suspect="bravo",
        sides=[["alpha", "charlie"], ["bravo"]],
        missing=[proofs.Missing("charlie", WINDOW["since"], None, "charlie's feed does not cover the moment")],
    ),
    "stats": mesh.Stats(
        **WINDOW,
        pairs={"alpha=bravo": mesh.PairTimes(3_599_000_000_000, 1_000_000_000, 0, 0, 0, 0, 0, 1)},
        links={
            "alpha:bravo": mesh.LinkCounts(60, 1, mesh.Rtt(412, 9_000, 90_000_000)),
            "bravo:alpha": mesh.LinkCounts(0, 0, mesh.Rtt(None, None, None)),
        },
    ),
    "disagreements": Disagreements(
        **WINDOW,
        covered_ns={"alpha": 3_600_000_000_000, "bravo": 0},
        disagreements=[
            Disagreement(
                "machine",
                "charlie",
                WINDOW["since"],
                WINDOW["until"],
                "alpha",
                [Side("up", {"bravo": "bravo#9", "delta": "delta.2#7"}), Side("down", {"alpha": "alpha#7"})],
            ),
        ],
    ),
    "bisect": judged.Bisect(
        condition="full-mesh",
        says="Every pair of members is up.",
        **WINDOW,
        held_ns=3_599_000_000_000,
        broken_ns=1_000_000_000,
        uncovered_ns=0,
        broken=1,
        first=BROKEN,
        good="2026-11-22T03:11:59.999999999Z",
        stretches=[
            BROKEN,
            judged.Stretch("not covered", "2026-11-22T03:12:01Z", None, 5, None, None, None, witnesses=[], more=False),
        ],
    ),
    "absences": judged.Absences(
        machine="charlie",
        **WINDOW,
        left=1,
        silent=0,
        planned=0,
        times_ns={"up": 3_599_000_000_000, "absent": 1_000_000_000},
        flaps_max=6,
        flap_window_ms=3_600_000,
        flapping=False,
        stretches=[
            judged.Absence("absent", WINDOW["since"], WINDOW["until"], 5, "left", "alpha#7", "alpha", "operator", ["bravo#9"]),
            judged.Absence("up", WINDOW["since"], None, 5, None, None, None, None, []),
        ],
    ),
    "conditions": judged.Conditions(
        conditions=[judged.Listed("full-mesh", "Every pair of members is up.")], words=[judged.Listed("members", "how many")]
    ),
    "verify": receipts.Verify(
        ok=False,
        feeds={"alpha": receipts.FeedCheck(1, 12, 2, ROOT, "good"), "alpha.2": receipts.FeedCheck(2, 1, 0, None, None)},
        problems=[receipts.Problem("alpha#7", "altered"), receipts.Problem(None, "a page is missing")],
        invariants=[],
        findings=[
            receipts.Finding("limit-drops", "It healed late.", ["alpha"], "2026-11-22T03:12:00Z", None, ["alpha#7", "alpha#9"])
        ],
    ),
    "merge": receipts.Merge(**TAKEN),
    "import": receipts.Import(**TAKEN),
    "log": receipts.Log(entries=[ENTRY, FOREIGN]),
    "show": receipts.Show(entries=[FOREIGN]),
    "tail": receipts.Tail(entries=[]),
    "export": receipts.Export(file=None, format="jsonl", feeds={"alpha": 12}, entries=12),
    "backup": receipts.Backup(file="copy.ledger", feeds={"alpha": 12}, entries=12, bytes=4096),
    "checkpoint": receipts.Checkpoint(heads=[receipts.Head("alpha", 2, ROOT, 12, signed=False, text="origin\n2\nq6s=\n")]),
    "prove": receipts.Prove(
        proof="inclusion", feed="alpha", records=2, root=ROOT, hashes=[ROOT], pos="alpha#7", rec=1, leaf=ROOT
    ),
    "keygen": receipts.Keygen(file="ledger.key", public_key="ed25519:AAAA"),
    "note": receipts.Note(
        file="a.ledger", pos="kim~3f2a#2", at=WINDOW["since"], mark="cut", by="kim", text="the wire\x1b was cut", new=True
    ),
    "sql": receipts.Sql(columns=["kind", "count(*)", "at_ns"], rows=[{"kind": "link.lost", "count(*)": 3, "at_ns": 5}]),
    "version": receipts.Version(version="0.1.0", python="3.11.7", sqlite="3.46.0", format=1),
    "demo": receipts.Demo(
        ok=True,
        generated=False,
        ledger="kept/mesh.ledger",
        steps=[receipts.Step("why alpha bravo", "timeout", "timeout", True, "a wire cut silently", ["alpha#7"], "linked")],
    ),
    "node": nodes.Node(
        machine="alpha",
        hostname="alpha.lab.example",
        port=22,
        cluster="lab",
        incarnation="0" * 64,
        transport="ssh",
        dir="/var/lib/meshledger",
        host_key="ssh-ed25519 AAAA",
        dial_key="ssh-ed25519 AAAB",
        ledger_key="ed25519:AA==",
    ),
    "invite": nodes.Invite(code="meshledger-1-abc", machine="alpha", expires="2026-11-22T04:00:00Z"),
    "done": nodes.Done(ask="leave", machine="charlie", by="anna", pos="charlie#9"),
    "status": nodes.Status(
        machine="alpha",
        cluster="lab",
        incarnation="0" * 64,
        transport="ccs",
        addressing="name",
        hostname=None,
        software="0.1.0",
        boot=7,
        since="2026-11-22T03:00:00Z",
        at="2026-11-22T04:00:00Z",
        state="running",
        position="alpha#12",
        members={
            "alpha": nodes.Peer("alpha.lab.example", False, None, None, None, None, None, "alpha#12"),
            "bravo": nodes.Peer(
                None, True, "7-1", "dialled", "192.0.2.2", 412, "2026-11-22T03:59:59Z", "bravo#8", route=["alpha", "bravo"]
            ),
        },
    ),
    "doctor": nodes.Doctor(
        ok=False,
        checks=[nodes.Looked("charlie", "forward", "bad", "c3.lab.example: nxdomain", "name-unresolvable", "publish an address")],
    ),
    "error": receipts.Error(error="Refused", message="'noon' names no moment", hint=None, exit_code=2),
}


def _valid(value: Any, described: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.Draft202012Validator(described).validate(value)


def printed(name: str, form: Format) -> str:
    out = io.StringIO()
    write(SAMPLES[name], form, out)
    return out.getvalue()


def test_the_samples_are_the_closed_list() -> None:
    """Every answer of the list stands in these tests, and each bears its own name and version."""
    assert set(SAMPLES) == set(ANSWERS)
    for name, answer in SAMPLES.items():
        assert type(answer) is ANSWERS[name]
        assert msgspec.json.encode(answer).startswith(f'{{"schema":"meshledger.{name}/1",'.encode())


@pytest.mark.parametrize("name", SAMPLES)
def test_json_keeps_to_its_schema(name: str) -> None:
    """The object printed is valid under the schema that is printed for it, and says what the struct holds."""
    value = json.loads(printed(name, "json"))
    _valid(value, schema(name))
    assert value == msgspec.to_builtins(SAMPLES[name])


@pytest.mark.parametrize("name", SAMPLES)
def test_jsonl_keeps_to_its_row_schema(name: str) -> None:
    """Each line is a JSON object that is valid under the row's schema."""
    lines = printed(name, "jsonl").splitlines()
    assert bool(lines) == (name != "tail")
    for line in lines:
        _valid(json.loads(line), row_schema(name))


@pytest.mark.parametrize("name", SAMPLES)
def test_csv_has_the_columns_and_rows_of_jsonl(name: str) -> None:
    """What csv prints parses, its header is the row's columns, and it has a line for each line of jsonl."""
    header, *rows = csv.reader(io.StringIO(printed(name, "csv"), newline=""), strict=True)
    answer = SAMPLES[name]
    expected = answer.columns if isinstance(answer, receipts.Sql) else columns(LISTED[type(answer)][0])
    assert header == [column for column in expected if column != "schema"]
    assert len(rows) == len(printed(name, "jsonl").splitlines())
    assert all(len(row) == len(header) for row in rows)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("form", FORMATS)
def test_every_answer_prints_in_every_format(name: str, form: Format) -> None:
    """No answer is silent in any format, but for an empty list as jsonl, and each ends its last line."""
    text = printed(name, form)
    assert text.endswith("\n") or (name, form) == ("tail", "jsonl")


@pytest.mark.parametrize("name", ["at", "diff", "log", "verify", "error"])
def test_a_schema_refuses_what_is_not_the_answer(name: str) -> None:
    """The schemas are not empty promises: without a field, or under another name, an answer is invalid."""
    value = json.loads(printed(name, "json"))
    last = list(value)[-1]
    wrongs: tuple[Any, ...] = (
        {**value, "schema": "meshledger.other/1"},
        {key: value[key] for key in value if key != last},
        [],
        None,
    )
    for wrong in wrongs:
        with pytest.raises(jsonschema.ValidationError):
            _valid(wrong, schema(name))


def test_the_shapes_of_the_contract() -> None:
    """The shapes hold the keys that the contract gives, in its order."""
    value = json.loads(printed("at", "json"))
    assert list(value) == ["schema", "at", "as_seen_by", "cluster", "machines", "links", "pairs", "routes", "coverage"]
    assert list(value["cluster"]) == ["name", "incarnation", "transport", "members"]
    assert list(value["machines"]["alpha"]) == ["member", "communicating", "cause", "hostname", "since", "since_pos"]
    assert list(value["links"]["alpha:bravo"]) == ["state", "reason", "since", "since_pos", "last_ping", "sent", "lost"]
    assert list(value["links"]["alpha:bravo"]["last_ping"]) == ["at", "outcome", "rtt_us"]
    assert list(json.loads(printed("diff", "json"))) == ["schema", "from", "to", "as_seen_by", "changes"]
    assert list(json.loads(printed("why", "json")))[:13] == [
        "schema", "from", "to", "at", "reachable", "cause", "root_pos", "chain", "others", "since", "until", "coverage", "advice",
    ]  # fmt: skip
    entry, foreign = (json.loads(line) for line in printed("log", "jsonl").splitlines())
    assert list(entry) == ["pos", "rec", "at", "boot", "mono_ns", "kind", "v", "event"]
    assert list(foreign) == ["pos", "rec", "at", "boot", "mono_ns", "kind", "v", "raw"]


def test_rows_say_what_the_answer_says() -> None:
    """A link's row bears its pair, whichever end it is seen from; a route's row its hops; the whole state every field."""
    links = [json.loads(line) for line in printed("connstatus", "jsonl").splitlines()]
    assert [(row["from"], row["to"], row["state"], row["pair"], row["last_ping_rtt_us"]) for row in links] == [
        ("alpha", "bravo", "up", "asymmetric", 412),
        ("bravo", "alpha", "down", "asymmetric", None),
        ("alpha", "charlie", "unknown", "uncovered", None),
    ]
    routes = [json.loads(line) for line in printed("routes", "jsonl").splitlines()]
    assert [(row["hops"], row["route"]) for row in routes] == [(2, "alpha>charlie>bravo"), (None, None), (None, "unknown")]
    cells = {(row["cell"], row["field"]): row["value"] for row in map(json.loads, printed("at", "jsonl").splitlines())}
    assert cells["bravo", "communicating"] is None
    assert cells["bravo:alpha", "reason"] == "timeout"
    assert cells["alpha=bravo", "state"] == "asymmetric"
    assert cells["alpha:bravo", "route"] == "alpha>charlie>bravo"
    assert (cells["alpha", "covered_until_pos"], cells["bravo", "covered"]) == ("alpha#12", False)


def test_an_unknown_name_is_refused() -> None:
    """A schema that there is not is refused, naming those there are."""
    for describe in (schema, row_schema):
        with pytest.raises(Refused, match="no answer named") as refusal:
            describe("nosuch\x1b")
        assert "connstatus" in (refusal.value.hint or "")
        assert "\x1b" not in refusal.value.message
