"""The demonstration's rooms, each alone: wires between two real listeners, the parts, the questions, how answers are read."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from ledger.node.resolver import Resolver
from replay.demo import line
from replay.demo_checks import checks, read_heard, read_why, typed
from replay.demo_mesh import Cluster, Commands, Died, Late
from replay.demo_story import FAULTS, NAMES, Parts
from replay.demo_wires import Wires
from replay.receipts import Step

BLOCK = 99


@contextlib.asynccontextmanager
async def standing(*, by_address: bool = False):
    """Two machines that listen, echo what they hear, and note who dialled; and the wires between them."""
    came: list[tuple[str, str]] = []

    async def echo(name, reader, writer):
        came.append((name, writer.get_extra_info("peername")[0]))
        with contextlib.suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
        writer.transport.abort()

    names = ("alpha", "bravo")
    async with Wires(names, BLOCK, by_address=by_address) as wires, contextlib.AsyncExitStack() as stack:
        for name in names:
            server = await asyncio.start_server(
                lambda reader, writer, name=name: echo(name, reader, writer), wires.own(name), wires.ports[name]
            )
            stack.callback(server.close)
        yield wires, came
        await wires.close()
        for _ in range(10):
            await asyncio.sleep(0)


async def dialled(wires, dialler, acceptor):
    """A connection as that machine would make it."""
    return await asyncio.open_connection(wires.address(dialler, acceptor), wires.ports[acceptor])


async def heard(reader, seconds=5.0):
    """What comes next; None for nothing in that time, empty for an end of any kind."""
    try:
        async with asyncio.timeout(seconds):
            return await reader.read(100)
    except TimeoutError:
        return None
    except OSError:
        return b""


def test_a_wire_carries_and_tells_who_dialled() -> None:
    """What is dialled under bravo's address for alpha is bravo, who sees the address that its own DNS gives for alpha."""

    async def inner():
        async with standing() as (wires, came):
            wires.publish("alpha.lab.example", "alpha")
            reader, writer = await dialled(wires, "alpha", "bravo")
            writer.write(b"hello")
            assert await heard(reader) == b"hello"
            there = wires.dns["bravo"]
            found = await Resolver([(there.address, there.port)]).forward("alpha.lab.example")
            assert came == [("bravo", found.answers[0])]
            assert found.answers[0] != wires.own("alpha")
            writer.transport.abort()

    asyncio.run(inner())


def test_by_address_a_machine_has_one_address_and_perhaps_a_name() -> None:
    """Where addresses are dialled bravo sees the one it would dial alpha at, with its PTR until that is withdrawn."""

    async def inner():
        async with standing(by_address=True) as (wires, came):
            wires.publish("alpha.lab.example", "alpha")
            reader, writer = await dialled(wires, "alpha", "bravo")
            writer.write(b"x")
            await heard(reader)
            assert came == [("bravo", wires.address("bravo", "alpha"))]
            there = wires.dns["bravo"]
            resolver = Resolver([(there.address, there.port)])
            assert (await resolver.reverse(came[0][1], cached=True)).answers == ("alpha.lab.example",)
            wires.withdraw_pointer("alpha")
            assert (await resolver.reverse(came[0][1], cached=True)).outcome == "nxdomain"
            writer.transport.abort()

    asyncio.run(inner())
    with pytest.raises(ValueError, match="3 machines"):
        Wires(("a", "b", "c"), BLOCK, by_address=True)


def test_a_silent_cut_tells_nobody_and_what_waited_gets_through() -> None:
    """While a wire is cut nothing comes, no end either, and no new dial arrives; healed, all of it does."""

    async def inner():
        async with standing() as (wires, came):
            reader, writer = await dialled(wires, "alpha", "bravo")
            other, closing = await dialled(wires, "bravo", "alpha")
            for each, source in ((writer, reader), (closing, other)):
                each.write(b"1")
                assert await heard(source) == b"1"
            wires.cut("alpha", "bravo")
            wires.cut("bravo", "alpha")
            writer.write(b"2")
            assert await heard(reader, 0.2) is None
            fresh, third = await dialled(wires, "alpha", "bravo")
            third.write(b"3")
            closing.transport.abort()
            assert await heard(fresh, 0.2) is None
            assert len(came) == 2
            wires.heal("alpha", "bravo")
            wires.heal("bravo", "alpha")
            assert await heard(reader) == b"2"
            assert await heard(fresh) == b"3"
            assert len(came) == 3
            for each in (writer, third):
                each.transport.abort()

    asyncio.run(inner())


def test_a_one_way_cut_lets_the_other_way_through() -> None:
    """Bravo's bytes and its end still come to alpha, while what alpha sends waits."""

    async def inner():
        async with standing() as (wires, _came):
            reader, writer = await dialled(wires, "bravo", "alpha")
            writer.write(b"1")
            assert await heard(reader) == b"1"
            wires.cut("alpha", "bravo")
            writer.write(b"2")  # it arrives; its echo does not
            assert await heard(reader, 0.2) is None
            writer.transport.abort()
            reader, writer = await dialled(wires, "alpha", "bravo")
            assert await heard(reader, 0.2) is None
            wires.heal("alpha", "bravo")
            writer.write(b"4")
            assert await heard(reader) == b"4"
            writer.transport.abort()

    asyncio.run(inner())


def test_a_reset_and_a_limit_end_what_stands() -> None:
    """A reset ends both sides at once; above a limit what stands is ended and what is dialled is told so, until it is lifted."""

    async def inner():
        async with standing() as (wires, _came):
            reader, writer = await dialled(wires, "alpha", "bravo")
            writer.write(b"1")
            assert await heard(reader) == b"1"
            wires.reset("bravo")
            assert await heard(reader) == b""
            reader, writer = await dialled(wires, "alpha", "bravo")
            writer.write(b"1")
            assert await heard(reader) == b"1"
            wires.limit("bravo", 0)
            assert await heard(reader) == b""
            reader, writer = await dialled(wires, "bravo", "alpha")
            assert await heard(reader) == b"Exceeded MaxStartups\r\n"
            writer.transport.abort()
            wires.limit("bravo", None)
            reader, writer = await dialled(wires, "alpha", "bravo")
            writer.write(b"1")
            assert await heard(reader) == b"1"
            writer.transport.abort()

    asyncio.run(inner())


@pytest.mark.parametrize("machines", [5, 6, 8])
def test_parts_do_not_meet(machines: int) -> None:
    """Whatever the seed, one machine never plays two parts that would hide each other, and the same seed deals the same parts."""
    for seed in range(200):
        parts = Parts.of(machines, seed)
        assert parts == Parts.of(machines, seed)
        assert parts.names == NAMES[:machines]
        assert len({*parts.cut, *parts.one_way, parts.limited}) == 5
        assert parts.dropped not in {parts.limited, parts.killed}
        assert len({parts.asker, parts.killed, parts.renamed, parts.left}) == 4
        assert {parts.left, parts.removed} & {parts.asker} == set()
        others = sorted(set(parts.names) - {parts.limited, parts.killed})
        assert others.index(parts.dropped) == parts.limit


def test_every_fault_is_asked_about_with_a_control() -> None:
    """Each fault has its check, and each question a control that is another question, or one put to another ledger."""
    found = checks(Parts.of(5, 1))
    assert [check.fault for check in found] == [*FAULTS, "the record"]
    for check in found:
        assert check.questions
        for question in check.questions:
            assert (question.control, question.control_of or question.of) != (question.words, question.of)


def test_moments_are_filled_in() -> None:
    """A question is typed with the instants at which things happened, to the nanosecond."""
    assert typed(["why", "a", "--at", "{whole}"], {"whole": 5}) == ["why", "a", "--at", "1970-01-01T00:00:00.000000005Z"]


def pings(*said: tuple[str, str, int]) -> dict[str, list[dict[str, object]]]:
    """Pings of alpha and bravo, as `log` answers."""
    rows = []
    for number, (observer, kind, count) in enumerate(said, 1):
        event = {"peer": "bravo" if observer == "alpha" else "alpha", "number": count, "link": "1", "reason": "timeout"}
        rows.append({"pos": f"{observer}#{number}", "kind": f"ping.{kind}", "event": event})
    return {"entries": rows}


def test_which_way_pings_got_through() -> None:
    """From the failed pings of both ends, and what each says to have heard: which way is shut, or both, or none."""
    lost = [(who, "failed", number) for number in (4, 5, 6, 7) for who in ("alpha", "bravo")]
    began = [("alpha", "answered", 3), ("bravo", "answered", 3)]

    def read(*heard: tuple[str, str, int]) -> str:
        return read_heard(pings(*began, *lost, *heard), {})[0]

    assert read(("alpha", "heard", 3), ("bravo", "heard", 4)) == "nothing gets through either way"
    assert read(("alpha", "heard", 7), ("bravo", "heard", 4)) == "nothing gets from alpha to bravo"
    assert read(("alpha", "heard", 3), ("bravo", "heard", 6)) == "nothing gets from bravo to alpha"
    assert read(("alpha", "heard", 7), ("bravo", "heard", 7)) == "all gets through"
    assert read_heard(pings(*began), {}) == ("all gets through", [])
    _said, shown = read_heard(pings(*began, *lost, ("bravo", "heard", 4)), {})
    assert shown == ["alpha#7", "bravo#11", "bravo#8"]


def test_why_is_read() -> None:
    """The cause, the way round, and the entry with which all began by the name of the command that answered with it."""
    chain = [
        {"pos": "alpha#9", "kind": "link.failed", "root": False},
        {"pos": "charlie#4", "kind": "hostname.changed", "root": True},
    ]
    answer = {"direct": "down", "route": None, "cause": "renamed-without-dns", "chain": chain, "suspect": "charlie"}
    assert read_why(answer, {"the rename": "charlie#4"}) == (
        "renamed-without-dns, not reached, by the rename",
        ["alpha#9", "charlie#4"],
    )
    assert read_why(answer, {"the rename": "charlie#5"})[0] == "renamed-without-dns, not reached"
    assert read_why({**answer, "route": ["alpha", "bravo", "charlie"]}, {})[0] == "renamed-without-dns, reached by way of others"
    assert read_why({**answer, "direct": "up"}, {}) == ("linked", [])


def test_a_line_says_what_is_wrong() -> None:
    """An answer that is not the expected one, and one that comes without the fault too, make their line NOT OK."""
    good = Step("why alpha bravo --at x", "timeout", "timeout", True, "a cut", ["alpha#7", "alpha#7", "bravo#9"], "linked")
    assert line([good]) == "a cut: why alpha bravo -> timeout; by alpha#7 bravo#9   ok"
    other = Step("at x", "a member", "no member", False, "a cut", [], "a member")
    assert line([good, other]).endswith("at x -> no member; by alpha#7 bravo#9   expected a member   NOT OK")
    same = Step("at x", "a member", "a member", False, "a cut", [], "a member")
    assert line([same]).endswith("   and a member without it, too   NOT OK")


def test_a_command_that_fails_and_a_node_that_dies_are_told(tmp_path: Path) -> None:
    """What a failed command said is told, and of a node that ended by itself its last words; a wait ends, too."""

    async def inner():
        commands = Commands(tmp_path)
        try:
            async with Wires(("alpha", "bravo"), BLOCK) as wires:
                cluster = Cluster(commands, wires, ("alpha", "bravo"))
                with pytest.raises(Died, match=r"`meshledger invite --dir .*` ended with 5: meshledger: no node is running at"):
                    await cluster.command("alpha", "invite")
                (tmp_path / "alpha.log").write_text("the disk is full\n")
                nothing = asyncio.subprocess.DEVNULL
                process = await commands.begin(("version",), stdout=nothing, stderr=nothing)
                cluster._running["alpha"] = process
                with pytest.raises(
                    Died, match=r"the node of alpha has ended by itself .* while waiting until hell freezes"
                ) as died:
                    await cluster.until("hell freezes", lambda: False)
                assert died.value.hint == "its last words: the disk is full"
                cluster._running.clear()
                with pytest.raises(Late, match=r"not within 0 s: hell freezes"):
                    await cluster.until("hell freezes", lambda: False, deadline_s=0)
        finally:
            await commands.end_all()

    asyncio.run(inner())
