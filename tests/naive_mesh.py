"""The invariants across feeds once more, as their sentences say them: pair by pair and machine by machine, over whole lists.

As `naive_invariants`, whose `Log` and `Found` it uses. A pair, a machine, a leave is followed through the log by itself, from
its beginning to its end, and whatever is asked of it is looked up in the list.

Not here: B6, which asks the fold for its links (`model.py` gives them, at every position), and A2, B1 and B18, which are about
stored bytes, copies and signed heads, of which entries say nothing: `properties/test_damage.py`, `test_merge.py` and
`unit/test_check.py` judge those.
"""

from __future__ import annotations

from collections.abc import Iterator

from naive_invariants import PARTED, Found, Log, is_

from ledger import events as ev
from ledger.entry import Entry

LINKS = ("link.established", "link.lost", "link.failed")
LIVES = ("node.started", "node.stopped")


def said(entry: Entry) -> str:
    """What a link entry says of its link."""
    if is_(entry, "link.established"):
        return "up"
    return "parted" if entry.event.reason in PARTED else "down"


def half(log: Log, place: int, observer: str, peer: str) -> tuple[str, Entry | None, int]:
    """One direction after the control at `place`: what it is, by which entry, and when it last stopped standing."""
    state, by, lost = "unknown", None, 0
    for entry in log.controls[: place + 1]:
        if entry.feed.machine != observer:
            continue
        if is_(entry, *LINKS) and entry.event.peer == peer:
            if said(entry) != state:
                lost = entry.effective_ns if state == "up" else lost
                state, by = said(entry), entry
        elif is_(entry, *LIVES) and by is not None:
            state, by = "unknown", entry
    return state, by, lost


def running(log: Log, place: int) -> list[str]:
    """The machines whose nodes run after the control at `place`, in the order of their starts."""
    found: dict[str, int] = {}
    for each, entry in enumerate(log.controls[: place + 1]):
        if is_(entry, *LIVES):
            found.pop(entry.feed.machine, None)
            if is_(entry, "node.started"):
                found[entry.feed.machine] = each
    return list(found)


def gone(entry: Entry) -> str | None:
    return entry.event.machine if is_(entry, "machine.left", "machine.disconnected") else None


def pairs(log: Log) -> Iterator[tuple[str, str]]:
    found = {tuple(sorted((e.feed.machine, e.event.peer))) for e in log.controls if is_(e, *LINKS)}
    return iter(sorted(found))


def goes_on(log: Log, place: int) -> bool:
    """Whether the node's start or stop before this one stands in the same feed, or it went on in it under a new key."""
    entry = log.controls[place]
    before = [
        each
        for each in log.controls[:place]
        if each.feed.machine == entry.feed.machine
        and (is_(each, *LIVES) or (is_(each, "feed.opened") and each.event.why == "new-key"))
    ]
    return bool(before) and before[-1].feed == entry.feed


def ended(log: Log, place: int) -> int:
    """When what a node did before its start or stop ended."""
    entry = log.controls[place]
    return log.before(entry) if is_(entry, "node.started") and goes_on(log, place) else entry.effective_ns


def crashed(log: Log, place: int) -> bool:
    entry = log.controls[place]
    return is_(entry, "node.started") and entry.feed.machine in running(log, place - 1) and goes_on(log, place)


def b3(log: Log) -> Found:
    found = Found()
    found.judged = bool(log.controls)
    return found


def b5(log: Log) -> Found:
    """Without what it says of the fold."""
    found = Found()
    for a, b in pairs(log):
        since: tuple[int, Entry] | None = None

        def close(until: int, *, blind: bool = False) -> None:
            nonlocal since
            if since is None:
                return
            if until - since[0] > log.detection(since[0]) + log.interval(since[0]):
                found.wrong.append((since[0], since[1].position))
            elif blind:
                found.uncovered = True
            else:
                found.judged = True
            since = None

        for place, entry in enumerate(log.controls):
            observer = entry.feed.machine
            if is_(entry, *LINKS) and tuple(sorted((observer, entry.event.peer))) == (a, b):
                if half(log, place - 1, observer, entry.event.peer)[0] == said(entry):
                    continue
                sides = half(log, place, a, b), half(log, place, b, a)
                if {side[0] for side in sides} == {"up", "down"}:
                    if since is None:
                        since = entry.effective_ns, next(side[1] for side in sides if side[0] == "down")
                else:
                    close(entry.effective_ns)
            elif is_(entry, *LIVES) and observer in (a, b):
                close(ended(log, place), blind=crashed(log, place))
            elif gone(entry) in (a, b):
                close(entry.effective_ns)
        if since is not None:
            until = min(since[0] if end is None else end for end in (log.end(a), log.end(b)))
            if until - since[0] > log.detection(since[0]) + log.interval(since[0]):
                close(until)
            else:
                found.pending = True
    return found


def excused(log: Log, place: int, pair: tuple[str, str]) -> bool:
    """Whether one of a pair is disconnected on purpose after the control at `place`, as far as the two know."""
    entries = log.controls[: place + 1]
    for machine in pair:
        acts = [e for e in entries if is_(e, "machine.disconnected", "machine.left") and e.event.machine == machine]
        if not acts or is_(acts[-1], "machine.left"):
            continue
        since = entries[entries.index(acts[-1]) :]
        over = [e for e in since if is_(e, "machine.reconnected") and e.event.machine == machine]
        if not over:
            return True
        for each in pair:
            told = (
                e for e in since[since.index(over[-1]) :]
                if is_(e, "feed.received") and e.feed.machine == each and e.event.feed == over[-1].feed.id
            )  # fmt: skip
            if each != over[-1].feed.machine and not any(e.event.held >= over[-1].index for e in told):
                return True
    return False


def b10(log: Log) -> Found:
    found = Found()
    for a, b in pairs(log):
        since: Entry | None = None

        def close(until: int, *, blind: bool = False) -> None:
            nonlocal since
            if since is None:
                return
            if until - since.effective_ns > max(3 * log.interval(since.effective_ns), 60 * 10**9):
                found.at(since)
            elif blind:
                found.uncovered = True
            else:
                found.judged = True
            since = None

        for place, entry in enumerate(log.controls):
            observer = entry.feed.machine
            if is_(entry, *LINKS) and tuple(sorted((observer, entry.event.peer))) == (a, b):
                if excused(log, place, (a, b)):
                    continue
                up = running(log, place)
                if said(entry) == "down" and is_(entry, "link.lost") and a in up and b in up:
                    since = since or entry
                    continue
                close(entry.effective_ns)
                there = half(log, place, entry.event.peer, observer)[0]
                if is_(entry, "link.failed") and there != "up" and said(entry) == "down":
                    since = entry
            elif is_(entry, *LIVES) and observer in (a, b):
                close(ended(log, place), blind=True)
            elif gone(entry) in (a, b):
                close(entry.effective_ns, blind=True)
        if since is not None:
            ends = [since.effective_ns if end is None else end for end in (log.end(a), log.end(b))]
            if min(ends) - since.effective_ns > max(3 * log.interval(since.effective_ns), 60 * 10**9):
                found.at(since)
            else:
                found.pending = True
    return found


def joins_of(log: Log, place: int, machine: str) -> list[str]:
    """The positions of a machine's joins that no leave has ended, after the control at `place`."""
    found: list[str] = []
    for entry in log.controls[: place + 1]:
        if is_(entry, "machine.joined") and entry.event.machine == machine:
            found.append(entry.position)
        elif is_(entry, "machine.left") and entry.event.machine == machine:
            found = [pos for pos in found if entry.event.joins and pos not in entry.event.joins]
    return found


def last_leave(log: Log, place: int, machine: str) -> Entry | None:
    """The leave that ended a machine's last join, unless it joined since."""
    found = None
    for each, entry in enumerate(log.controls[: place + 1]):
        if is_(entry, "machine.joined") and entry.event.machine == machine:
            found = None
        elif is_(entry, "machine.left") and entry.event.machine == machine:
            found = entry if joins_of(log, each - 1, machine) and not joins_of(log, each, machine) else found
    return found


def held(log: Log, place: int, observer: str, feed: str) -> int:
    told = [
        entry.event.held
        for entry in log.controls[: place + 1]
        if is_(entry, "feed.received") and entry.feed.machine == observer and entry.event.feed == feed
    ]
    return max(told, default=0)


def joined_later(log: Log, place: int, machine: str) -> int | None:
    """When a machine joins next after the control at `place`."""
    later = (e for e in log.controls[place + 1 :] if is_(e, "machine.joined") and e.event.machine == machine)
    return next((entry.effective_ns for entry in later), None)


def ever(log: Log, place: int) -> set[str]:
    return {entry.event.machine for entry in log.controls[: place + 1] if is_(entry, "machine.joined")}


def enrolled(log: Log, place: int, machine: str) -> bool:
    """Whether the last that was said of a machine, up to the control at `place`, is that it joined."""
    acts = [e for e in log.controls[: place + 1] if is_(e, "machine.joined", "machine.left") and e.event.machine == machine]
    return bool(acts) and is_(acts[-1], "machine.joined")


def b11(log: Log) -> Found:
    found = Found()
    for place, act in enumerate(log.controls):
        if is_(act, "machine.joined", "machine.left"):
            for other in running(log, place):
                if other not in (act.feed.machine, act.event.machine) and enrolled(log, place, other):
                    _told(log, found, place, other)
    return found


def _told(log: Log, found: Found, place: int, other: str) -> None:
    """Whether `other` said in time that it holds the act at `place`: by its next words, one after another."""
    act = log.controls[place]
    since, allowed = act.effective_ns, 3 * log.interval(act.effective_ns)

    def late(until: int, each: int) -> bool:
        if until - since <= allowed:
            return False
        if any(is_(e, "feed.received") and e.feed.machine == other for e in log.controls[: each + 1]):
            found.at(act)
        else:
            found.uncovered = True  # it never says what it holds
        return True

    if held(log, place, other, act.feed.id) >= act.index:  # its clock is behind
        found.judged = True
        return
    for each, entry in enumerate(log.controls[place + 1 :], place + 1):
        if is_(entry, "machine.left") and entry.event.machine == other:
            return
        if entry.feed.machine != other:
            continue
        if is_(entry, *LIVES):
            if not late(ended(log, each), each):
                found.uncovered = True
            return
        if is_(entry, "feed.received"):
            if late(entry.effective_ns, each):
                return
            if held(log, each, other, act.feed.id) >= act.index:
                found.judged = True
                return
    if not late(log.end(other) or 0, len(log.controls)):
        found.pending = True


def b13(log: Log) -> Found:
    found = Found()
    for place, entry in enumerate(log.controls):
        if not is_(entry, "link.established"):
            continue
        observer, doubted = entry.feed.machine, False
        for machine in {entry.event.peer, observer}:
            leave = last_leave(log, place, machine)
            if leave is None:
                continue
            if observer == leave.feed.machine or held(log, place, observer, leave.feed.id) >= leave.index:
                doubted = True
                again = joined_later(log, place, machine)
                if again is not None and again - entry.effective_ns <= 2 * log.interval(entry.effective_ns):
                    found.judged = True
                else:
                    found.at(entry)
        if not doubted and {entry.event.peer, observer} & ever(log, place):
            found.judged = True
    return found


def b19(log: Log) -> Found:
    found = Found()
    waiting: set[tuple[str, str]] = set()
    for place, entry in enumerate(log.controls):
        if is_(entry, "machine.joined"):
            waiting = {pair for pair in waiting if pair[1] != entry.event.machine}
        if not is_(entry, "link.established"):
            continue
        pair = entry.feed.machine, entry.event.peer
        leave, at = last_leave(log, place, pair[1]), entry.effective_ns
        late = leave is not None and at - leave.effective_ns > 2 * log.interval(leave.effective_ns)
        if pair[1] in ever(log, place) and not late:
            found.judged = True
        elif pair not in waiting:  # of several only the first is told
            waiting.add(pair)
            again = joined_later(log, place, pair[1])
            if again is None and leave is None and not ever(log, len(log.controls)):
                found.uncovered = True
            elif again is None or again - at > 2 * log.interval(at):
                found.at(entry)
            else:
                found.judged = True
    return found


def b15(log: Log) -> Found:
    found = Found()
    for place, entry in enumerate(log.controls):
        bears = _named(log, place)
        machine = entry.event.machine if is_(entry, "machine.joined") else entry.feed.machine
        named = is_(entry, "machine.joined") and entry.event.hostname is not None
        named |= is_(entry, "hostname.changed") and machine in _named(log, place - 1)
        if named:
            found.judged = True
            ports = {
                e.event.machine: e.event.port for e in log.controls[: place + 1] if is_(e, "machine.joined") and e.event.hostname
            }
            here = bears[machine], ports[machine]
            if any((name, ports[other]) == here for other, name in bears.items() if other != machine):
                found.at(entry)
    return found


def _named(log: Log, place: int) -> dict[str, str]:
    """By member its host name."""
    found: dict[str, str] = {}
    for each, entry in enumerate(log.controls[: place + 1]):
        if is_(entry, "machine.joined") and entry.event.hostname is not None:
            found[entry.event.machine] = entry.event.hostname
        elif is_(entry, "hostname.changed") and entry.feed.machine in found:
            found[entry.feed.machine] = entry.event.new
        elif is_(entry, "machine.left"):
            machine = entry.event.machine
            if joins_of(log, each - 1, machine) and not joins_of(log, each, machine):
                found.pop(machine, None)
    return found


def b16(log: Log) -> Found:
    found = Found()
    told = [e for e in log.controls if is_(e, "cluster.created", "link.established") and e.event.transport is not None]
    for entry in told:
        found.judged = True
        if entry.event.transport != told[0].event.transport:
            found.at(entry)
    return found


def a19(log: Log) -> Found:
    found = Found()
    for place, entry in enumerate(log.controls):
        if not is_(entry, "version.changed"):
            continue
        machine, before = entry.feed.machine, log.controls[:place]
        names = [
            each.event.new if is_(each, "hostname.changed") else each.event.hostname
            for each in before
            if (is_(each, "hostname.changed") and each.feed.machine == machine)
            or (is_(each, "machine.joined") and each.event.machine == machine and each.event.hostname is not None)
        ]
        if not any(is_(each, "hostname.changed") and each.feed.machine == machine for each in before):
            continue
        asked = [
            each
            for each in before
            if is_(each, "name.resolved", "name.failed") and (each.event.direction, each.event.name) == ("forward", names[-1])
        ]
        if not asked:
            found.uncovered = True
        elif isinstance(asked[-1].event, ev.NameFailed) or asked[-1].event.outcome != "answered":
            found.at(entry)
        else:
            found.judged = True
    return found


def b9(log: Log) -> Found:
    """Without the feeds that end amid things, of which only those with later answers are told apart."""
    found = Found()
    for place, entry in enumerate(log.controls):
        if crashed(log, place):
            for other in running(log, place - 1):
                if other != entry.feed.machine:
                    _noticed(
                        log, found, place - 1, other, entry.feed.machine, log.before(entry), entry.effective_ns, pending=False
                    )
    last = len(log.controls) - 1
    for silent in running(log, last):
        since = log.end(silent)
        for other in running(log, last):
            if other != silent and log.end(other) > since:
                answers = [
                    each.effective_ns
                    for each in log.shown
                    if is_(each, "ping.answered") and (each.feed.machine, each.event.peer) == (other, silent)
                ]
                if answers and max(answers) > since + log.interval(since):
                    found.uncovered = True
                else:
                    _noticed(log, found, last, other, silent, since, log.end(other), pending=True)
    return found


def _noticed(  # noqa: PLR0917  who, whom, from when, until when
    log: Log, found: Found, place: int, other: str, silent: str, since: int, until: int, *, pending: bool
) -> None:
    state, by, lost = half(log, place, other, silent)
    due = since + log.detection(since) + log.interval(since)
    if state == "up" and by.effective_ns <= since:
        if until > due:
            lives = (each for each in range(place + 1, len(log.controls)) if is_(log.controls[each], *LIVES))
            own = next((each for each in lives if log.controls[each].feed.machine == other), None)
            if (log.end(other) if own is None else ended(log, own)) > due:
                found.at(by)
            else:
                found.uncovered = True
        elif pending:
            found.pending = True
    elif state in ("down", "parted") and lost > since:
        if lost > due:
            found.at(by)
        else:
            found.judged = True


def _host(address: str) -> str:
    """`192.0.2.7` of `192.0.2.7:22`, and of itself; `2001:db8::7` of `[2001:db8::7]:22`."""
    if address.startswith("["):
        return address[1:].split("]", maxsplit=1)[0]
    parts = address.split(":")
    return parts[0] if len(parts) == 2 and parts[0] and parts[1].isdigit() else address


def _looked_up(log: Log, place: int, observer: str, direction: str, name: str) -> Entry | None:
    """An observer's last look-up of a name before the control at `place`."""
    found = None
    for entry in log.controls[:place]:
        if is_(entry, "name.resolved", "name.failed") and entry.feed.machine == observer:
            found = entry if (entry.event.direction, entry.event.name) == (direction, name) else found
    return found


def _addressing(log: Log, place: int, machine: str) -> str | None:
    found = [e.event.addressing for e in log.controls[:place] if is_(e, "machine.joined") and e.event.machine == machine]
    return found[-1] if found else None


def a15(log: Log) -> Found:
    found = Found()
    for place, entry in enumerate(log.controls):
        if not is_(entry, "link.established") or entry.event.side != "dialled" or entry.event.address is None:
            continue
        peer = entry.event.peer
        if _addressing(log, place, peer) == "address":
            continue
        borne = set()
        for each in log.controls[:place]:
            if is_(each, "machine.joined") and each.event.machine == peer and each.event.hostname is not None:
                borne.add(each.event.hostname)
            elif is_(each, "hostname.changed") and each.feed.machine == peer:
                borne.add(each.event.new)
        asked = [each for name in borne if (each := _looked_up(log, place, entry.feed.machine, "forward", name)) is not None]
        given = {
            _host(answer)
            for each in asked
            if is_(each, "name.resolved") and each.event.outcome == "answered"
            for answer in each.event.answers
        }
        if not asked:
            found.uncovered = True
        elif _host(entry.event.address) in given:
            found.judged = True
        else:
            found.at(entry)
    return found


def a16(log: Log) -> Found:
    found = Found()
    joins = [entry for entry in log.controls if is_(entry, "machine.joined")]
    for entry in joins:
        if entry.event.addressing == joins[0].event.addressing:
            found.judged = True
        else:
            found.at(entry)
    for place, entry in enumerate(log.controls):
        if not is_(entry, "link.established") or entry.event.side != "accepted" or entry.event.address is None:
            continue
        if _addressing(log, place, entry.event.peer) != "address":
            continue
        asked = _looked_up(log, place, entry.feed.machine, "reverse", _host(entry.event.address))
        if asked is None:
            found.uncovered = True
        elif asked.event.outcome == "timeout":
            found.at(entry)
        else:
            found.judged = True
    return found


def b14(log: Log) -> Found:
    """Without its look at what the fold says at the end, for which `model.py` is the oracle."""
    found = Found()

    def inside(place: int) -> bool:
        return any(joins_of(log, place, machine) for machine in ever(log, place))

    def over(place: int) -> Entry | None:
        """The leave of the last machine before the control at `place`, unless one has joined since."""
        last = None
        for each, entry in enumerate(log.controls[:place]):
            if is_(entry, "machine.joined"):
                last = None
            elif is_(entry, "machine.left"):
                was = bool(joins_of(log, each - 1, entry.event.machine)) and not joins_of(log, each, entry.event.machine)
                last = entry if was and not inside(each) else last
        return last

    for place, entry in enumerate(log.controls):
        if is_(entry, "machine.joined", "link.established"):
            last = over(place)
            if last is not None and entry.effective_ns - last.effective_ns > 2 * log.interval(last.effective_ns):
                found.at(entry)
        elif is_(entry, "machine.left"):
            found.judged |= over(place + 1) is entry
        elif is_(entry, "cluster.dissolved"):
            if inside(place):
                found.at(entry)
            else:
                found.judged = True
    return found


def b8(log: Log) -> Found:
    """Without its look at what the fold says of who communicates."""
    found = Found()
    for machine in sorted({entry.event.peer for entry in log.controls if is_(entry, *LINKS)}):
        since: tuple[int, str] | None = None

        def close(until: int, *, last: bool = False) -> None:
            nonlocal since
            if since is None:
                return
            if until - since[0] > log.detection(since[0]) + log.interval(since[0]):
                found.wrong.append(since)
            elif last:
                found.pending = True
            else:
                found.judged = True
            since = None

        for place, entry in enumerate(log.controls):
            if is_(entry, *LINKS) and entry.event.peer == machine:
                if half(log, place - 1, entry.feed.machine, machine)[0] == said(entry):
                    continue
                up = running(log, place)
                sides = [half(log, place, observer, machine) for observer in up if observer != machine]
                down = [by.position for state, by, _lost in sides if state == "down" and by is not None]
                if machine in up and len(down) > 1 and all(state != "up" for state, _by, _lost in sides):
                    since = since or (entry.effective_ns, min(down))
                else:
                    close(entry.effective_ns)
            elif is_(entry, *LIVES):
                close(ended(log, place))
            elif gone(entry) == machine:
                close(entry.effective_ns)
        close(max(each[-1].effective_ns for each in log.feeds.values()), last=True)
    return found
