"""The operator's socket: a line there, a line back, refusals with their exit code, and nobody there said as such."""

import asyncio
import stat

import pytest

from ledger.errors import Refused
from ledger.node.control import Control, Unreachable, ask


async def _answer(request):
    if request["ask"] == "refuse":
        raise Refused("not that", hint="this")
    return {"said": request.get("what")}


def _asked(path, *requests):
    async def run():
        control = Control(path, _answer)
        await control.start()
        try:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            return [await asyncio.to_thread(ask, path, each) for each in requests]
        finally:
            await control.close()

    return asyncio.run(run())


def test_an_answer_comes_back(tmp_path):
    """What the handler gives is what the asker gets; what it refuses comes with hint and exit code."""
    good, bad, none = _asked(tmp_path / "control.sock", {"ask": "say", "what": "ä\n"}, {"ask": "refuse"}, {"nothing": 1})
    assert good == {"ok": True, "said": "ä\n"}
    assert bad == {"ok": False, "error": "not that", "hint": "this", "exit": 2}
    assert (none["ok"], none["exit"]) == (False, 2)


def test_a_left_over_socket_is_replaced_and_an_end_takes_it_away(tmp_path):
    """A killed node's socket does not keep the next from starting, and after an end nobody seems to be there."""
    path = tmp_path / "control.sock"
    path.write_text("left over")
    assert _asked(path, {"ask": "say"}) == [{"ok": True, "said": None}]
    assert not path.exists()


def test_nobody_there_is_said(tmp_path):
    """Exit 5, and how to start the node."""
    with pytest.raises(Unreachable) as unreachable:
        ask(tmp_path / "control.sock", {"ask": "status"})
    assert unreachable.value.exit_code == 5
    assert "meshledger run" in unreachable.value.hint
