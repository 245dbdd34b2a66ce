"""Events and identity as values: whatever is within bounds survives being written, and names have one form."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import codec
from ledger.entry import INSTANT_MAX_NS, INSTANT_MIN_NS, Opaque
from ledger.events import KINDS, MachineJoined, PingAnswered
from ledger.identity import Feed, Position, host_name, incarnation_id, machine_name, parse_position
from ledger.testing import events, hostnames, instants, machines, opaques, texts


@given(events())
def test_an_event_within_bounds_survives_being_written(event):
    """Every event of every kind encodes, and decodes strictly, bounds and all, to an equal value."""
    text = msgspec.json.encode(event)
    assert msgspec.json.decode(text, type=type(event)) == event
    assert msgspec.json.encode(msgspec.json.decode(text, type=type(event))) == text


@given(events())
def test_equal_events_have_one_stored_form(event):
    """Also where a text is another object than the default that it equals, as what was read or computed is."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, str) and len(value) > 1:
            other = msgspec.structs.replace(event, **{name: value[:1] + value[1:]})
            assert getattr(other, name) is not value
            assert codec.encode_event(other) == codec.encode_event(event)
    again = codec.decode_event(event.kind, event.version, codec.encode_event(event))
    assert codec.encode_event(again) == codec.encode_event(event)


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(st.data())
def test_every_kind_is_generated_with_all_of_its_fields(kind, data):
    """The strategy for a kind gives that kind, and every one of its fields is a field of the struct."""
    event = data.draw(events([kind]))
    assert event.kind == kind
    assert type(event) is KINDS[kind]
    assert set(msgspec.to_builtins(event)) <= set(type(event).__struct_encode_fields__)


@given(events(), st.text(min_size=1).filter(str.isidentifier))
def test_an_unknown_field_is_refused(event, name):
    """A field that the kind does not have is an error when it is read, not a loss."""
    fields = msgspec.to_builtins(event)
    if name in type(event).__struct_encode_fields__:
        return
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**fields, name: 1}, type=type(event))


@given(opaques())
def test_an_unknown_event_is_never_one_of_ours(opaque):
    """What is kept byte for byte is of a kind unheard of, or of a version newer than the struct's."""
    assert isinstance(opaque, Opaque)
    assert opaque.kind not in KINDS or opaque.version > KINDS[opaque.kind].version


@given(machines())
def test_a_machine_name_is_its_own_normal_form(name):
    """Normalizing a name in its form changes nothing, and other spellings of it come to the same."""
    assert machine_name(name) == name
    assert machine_name(f" {name.upper()} ") == name
    assert msgspec.convert({"machine": name}, type=MachineJoined).machine == name


@given(hostnames())
def test_a_host_name_is_its_own_normal_form(name):
    """Normalizing a host name in its form changes nothing; case and a trailing dot do not count."""
    assert host_name(name) == name
    assert host_name(f"{name.upper()}.") == name
    assert msgspec.convert({"machine": "alpha", "hostname": name}, type=MachineJoined).hostname == name


@pytest.mark.parametrize("name", ["alpha\n", "\nalpha", "Alpha", "alpha.", "", "-alpha", "a" * 64, "alphä", "alpha bravo"])
def test_a_name_in_another_form_is_refused_in_an_event(name):
    """Events hold names in their one form and nothing else: also a line break at the end is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"peer": name, "number": 1, "rtt_us": 1}, type=PingAnswered)


@given(machines(), st.integers(1, 10**9 - 1), st.integers(0, 10**18 - 1), st.none() | texts(1024))
def test_a_position_parses_back(machine, epoch, index, key):
    """A feed's spelling of a position parses to a position that names an entry of that feed and spells the same."""
    feed = Feed.of("import:0", machine, epoch, key)
    found = parse_position(feed.at(index))
    assert found == Position(machine, epoch, "", index)
    assert str(found) == feed.at(index)
    assert found.names(feed)


@given(machines(), st.integers(1, 10**9 - 1), st.integers(4, 64), st.integers(0, 10**18 - 1))
def test_a_position_with_digits_names_one_feed(machine, epoch, digits, index):
    """With the first digits of the feed's id, a position names that feed and not its namesake under another key."""
    feed, other = Feed.of("i", machine, epoch, "one"), Feed.of("i", machine, epoch, "two")
    text = f"{machine}.{epoch}~{feed.id[:digits]}#{index}"
    found = parse_position(text)
    assert found.names(feed)
    assert found.names(other) == (feed.id[:digits] == other.id[:digits])
    assert parse_position(str(found)) == found


@given(st.text(max_size=30))
def test_whatever_parses_as_a_position_parses_back_to_itself(text):
    """No text raises; what is taken for a position is spelled in one way and means the same when read again."""
    found = parse_position(text)
    assert found is None or parse_position(str(found)) == found


@given(st.lists(machines(), min_size=2, max_size=2), st.sampled_from(["ssh", "ccs"]), texts(40), texts(40))
def test_an_incarnation_commits_to_its_founders_key(names, transport, key, other):
    """The same founding gives the same id, another key another."""
    one = incarnation_id(names[0], transport, "name", key, "salt")
    assert one == incarnation_id(names[0], transport, "name", key, "salt")
    assert (one == incarnation_id(names[0], transport, "name", other, "salt")) == (key == other)


@given(instants())
def test_generated_instants_fit_64_bits(at_ns):
    """No strategy gives an instant that the record cannot hold."""
    assert INSTANT_MIN_NS <= at_ns <= INSTANT_MAX_NS
