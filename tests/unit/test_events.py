"""What can happen: a closed union of frozen events with tags and fields that are a storage format for ever."""

import msgspec
import pytest
from corpus import EVENTS

from ledger.events import KINDS, Event, NoteAdded, PingAnswered, PingFailed

KINDS_EVER = """
    clock.stepped cluster.created cluster.dissolved feed.opened feed.received head.witnessed hostname.changed join.refused
    key.changed link.established link.failed link.lost machine.disconnected machine.joined machine.left machine.reconnected
    name.failed name.resolved node.started node.stalled node.stopped note.added ping.answered ping.failed ping.heard
    settings.changed version.changed
"""


def test_no_kind_is_ever_dropped():
    """Every tag that was ever stored still means an event."""
    assert set(KINDS_EVER.split()) <= KINDS.keys()


def test_a_tag_names_its_own_event():
    """The table of kinds and the tags on the events agree, and no two events share a tag."""
    assert all(event.kind == kind and issubclass(event, Event) for kind, event in KINDS.items())
    assert len(set(KINDS.values())) == len(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_event_is_a_frozen_value(kind):
    """Events cannot be changed, compare by content and can stand in sets."""
    fields = next(line for line in EVENTS if line["kind"] == kind)["stored"]
    one, other = (msgspec.json.decode(fields, type=KINDS[kind]) for _ in range(2))
    name = one.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(one, name, None)
    assert one == other
    assert hash(one) == hash(other)


def test_no_event_can_hold_what_it_does_not_name():
    """An unknown field is an error, not something to be dropped in silence."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"text":"x","colour":"red"}', type=NoteAdded)


def test_pings_name_their_fields_in_the_order_in_which_open_rows_keep_them():
    """The order of the fields of pings is part of the format of open rows."""
    assert PingAnswered.__struct_fields__ == (
        "peer", "number", "rtt_us", "link", "sent_us", "received_us", "replied_us", "returned_us", "peer_boot", "feed", "held",
    )  # fmt: skip
    assert PingFailed.__struct_fields__ == ("peer", "number", "reason", "link", "feed", "held")


@pytest.mark.parametrize("line", EVENTS, ids=[f"{line['kind']}-{place}" for place, line in enumerate(EVENTS)])
def test_a_stored_line_break_ends_no_name(line):
    """A name followed by a line break is no name, though Python's `$` would let it pass."""
    for name, value in msgspec.json.decode(line["stored"]).items():
        described = next(f for f in msgspec.inspect.type_info(KINDS[line["kind"]]).fields if f.encode_name == name)
        types = getattr(described.type, "types", (described.type,))
        if isinstance(value, str) and any(getattr(each, "pattern", None) for each in types):
            spoiled = msgspec.json.encode({**msgspec.json.decode(line["stored"]), name: value + "\n"})
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(spoiled, type=KINDS[line["kind"]])
