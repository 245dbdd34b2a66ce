"""Runs that wait to be given and taken in: their order, their turns, and when a channel has to hold its peace."""

from __future__ import annotations

from typing import Any

from ledger.node.bulk import DOOR_NS, NEVER_NS, REST, WAITING_MAX, Bulk, Haste
from ledger.node.replicas import Held
from ledger.node.signals import Give, Take
from ledger.node.words import Named

FEED = Named("alpha", 1, "ssh-ed25519 AAAA")


def take(channel: int, run: Any) -> Take:
    return Take(channel, run)


def all_of(bulk: Bulk) -> list[Any]:
    found = []
    while bulk:
        found.append(bulk.next())
    return found


def test_a_channel_keeps_its_order_and_the_channels_take_turns():
    """Each channel's runs come in the order they were added, and one with many waits for one with few."""
    bulk = Bulk()
    for run in range(3):
        bulk.add(take(1, run))
    bulk.add(take(2, 10))
    assert [(each.channel, each.run) for each in all_of(bulk)] == [(1, 0), (2, 10), (1, 1), (1, 2)]


def test_what_follows_is_pushed_once():
    """Pushes of what follows, asked for again while the first still waits, are one; those that name a beginning are not."""
    bulk = Bulk()
    for after in (None, None, Held(), Held(), None):
        bulk.add(Give(1, FEED, after))
    assert [each.after for each in all_of(bulk)] == [None, Held(), Held()]


def test_what_came_before_the_end_still_counts():
    """When a channel ends, runs that came on it are still taken in, and nothing is given on it any more."""
    bulk = Bulk()
    for action in (take(1, "first"), Give(1, FEED, None), take(1, "last")):
        bulk.add(action)
    bulk.ended(1)
    assert [each.run for each in all_of(bulk)] == ["first", "last"]


def test_one_who_sends_too_much_is_told_to_wait_once_and_to_go_on_once():
    """Above the limit a channel is held, and it may speak again when half of that is done: each is said one time."""
    bulk = Bulk()
    said = []
    for run in range(WAITING_MAX + 3):
        bulk.add(take(1, run))
        said.append(bulk.crowds(1))
    assert said == [False] * WAITING_MAX + [True, False, False]
    eased = []
    while bulk:
        bulk.next()
        eased.append(bulk.eases(1))
    assert eased.count(True) == 1
    assert eased.index(True) == WAITING_MAX + 3 - WAITING_MAX // 2 - 1


def test_what_is_urgent_waits_for_nothing_but_a_link_that_is_made():
    """Urgent things are due as they come, or a moment later while somebody is on the way in, however often more come by then;
    what can wait is due at its time, and takes the urgent along.
    """
    haste = Haste()
    assert haste.due_ns(knocks=True) >= NEVER_NS
    haste.soon(900)
    haste.soon(1000)
    assert haste.due_ns(knocks=False) == 900
    haste.soon(DOOR_NS * 2)
    haste.done(waiting=False)
    haste.soon(DOOR_NS * 2)
    for here in (500, 510, 520):
        haste.urgent(here)
    assert (haste.due_ns(knocks=False), haste.due_ns(knocks=True)) == (500, 500 + DOOR_NS)
    haste.done(waiting=True)
    assert haste.due_ns(knocks=False) == DOOR_NS * 2
    assert not haste.is_soon(DOOR_NS * 2 - 1)
    assert haste.is_soon(DOOR_NS * 2)
    haste.urgent(DOOR_NS * 2 - 1)
    assert haste.due_ns(knocks=True) == DOOR_NS * 2
    haste.done(waiting=False)
    assert haste.due_ns(knocks=False) >= NEVER_NS


def test_what_can_wait_leaves_time_to_all_else():
    """After a piece of work that is not all of it, twice as long is left to others; what is urgent does not wait for that."""
    haste = Haste()
    haste.soon(1000)
    haste.worked(1000, 1300)
    assert haste.due_ns(knocks=False) == 1300 + REST * 300
    haste.urgent(1350)
    assert haste.due_ns(knocks=False) == 1350
    haste.done(waiting=False)
    assert haste.due_ns(knocks=False) >= NEVER_NS
    haste.soon(5000)
    assert haste.due_ns(knocks=False) == 5000
