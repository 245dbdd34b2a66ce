"""Who: names, feeds and positions in the one form in which they compare."""

import hashlib

import pytest

from ledger.errors import Refused
from ledger.identity import Feed, Position, feed_id, host_name, incarnation_id, machine_name, parse_position


@pytest.mark.parametrize(
    ("given", "name"), [("alpha", "alpha"), (" Alpha\n", "alpha"), ("m01", "m01"), ("x" * 63, "x" * 63), ("a-b_c", "a-b_c")]
)
def test_a_machine_has_one_spelling(given, name):
    """White space around a machine's name and its case do not matter."""
    assert machine_name(given) == name


@pytest.mark.parametrize("given", ["", " ", "x" * 64, "-a", "a-", "a.b", "ä", "a b", "a\nb", "alpha#1", "a\x00", "\u202ealpha"])
def test_what_is_no_machine_name_is_refused(given):
    """A machine is one label of letters, digits, '-' and '_', and nothing else."""
    with pytest.raises(Refused, match="is no machine name"):
        machine_name(given)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Alpha.Lab.Example.", "alpha.lab.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
        ("_x.y", "_x.y"),
    ],
)
def test_a_host_name_has_one_spelling(given, name):
    """Host names compare in lower case, without the last dot, in ASCII (IDNA)."""
    assert host_name(given) == name


@pytest.mark.parametrize("given", ["", ".", "a..b", "x" * 64, ".".join(["x" * 60] * 5), "a b", "alpha.\u202eexample", "ä" * 70])
def test_what_is_no_host_name_is_refused(given):
    """Empty and overlong labels and names, white space and direction marks are no host names."""
    with pytest.raises(Refused, match="is no host name"):
        host_name(given)


def test_a_feed_is_named_by_what_it_is():
    """A feed's id is SHA-256 over incarnation, machine, epoch and key: each of them makes another feed."""
    said = hashlib.sha256(b'["meshledger feed","I","alpha",1,"k"]').hexdigest()
    assert feed_id("I", "alpha", 1, "k") == said == Feed.of("I", "alpha", 1, "k").id
    others = {
        feed_id("J", "alpha", 1, "k"),
        feed_id("I", "beta", 1, "k"),
        feed_id("I", "alpha", 2, "k"),
        feed_id("I", "alpha", 1, None),
    }
    assert len(others | {said}) == 5


def test_an_incarnation_commits_to_all_that_founds_it():
    """The incarnation id changes with the name, the transport, the addressing, the founder's key and the salt."""
    given = ["lab", "ssh", "name", "key", "salt"]
    ids = {incarnation_id(*given)}
    for place in range(5):
        ids.add(incarnation_id(*[*given[:place], "other", *given[place + 1 :]]))
    assert len(ids) == 6


def test_feeds_are_listed_by_machine_then_epoch():
    """The order of feeds is machine, epoch, id."""
    feeds = [Feed.of("I", "bravo"), Feed.of("I", "alpha", 2), Feed.of("I", "alpha", 10), Feed.of("I", "alpha")]
    assert [feed.name for feed in sorted(feeds)] == ["alpha", "alpha.2", "alpha.10", "bravo"]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("alpha#12021", Position("alpha", 1, "", 12021)),
        ("alpha.2#17", Position("alpha", 2, "", 17)),
        ("alpha~3f2a#12021", Position("alpha", 1, "3f2a", 12021)),
        ("m_1.12~00ff#0", Position("m_1", 12, "00ff", 0)),
    ],
)
def test_a_position_is_read_as_it_is_written(text, position):
    """Positions print as they parse."""
    assert parse_position(text) == position
    assert str(position) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alpha",
        "alpha#",
        "#1",
        "alpha#-1",
        "alpha.0#1",
        "alpha.01#1",
        "alpha~3f#1",
        "Alpha#1",
        "alpha#1x",
        "alpha#1\n2",
        "alpha#" + "9" * 19,
    ],
)
def test_what_is_no_position_is_none(text):
    """Anything else spells no position."""
    assert parse_position(text) is None


def test_a_position_means_the_feeds_that_it_names():
    """A position without digits can mean any feed of that name; digits choose one."""
    one, other = Feed.of("I", "alpha"), Feed.of("J", "alpha")
    bare, chosen = parse_position(one.at(7)), Position("alpha", 1, one.id[:8], 7)
    assert bare.names(one)
    assert bare.names(other)
    assert chosen.names(one)
    assert not chosen.names(other)
    assert not Position("alpha", 2, "", 7).names(one)


def test_no_two_feeds_share_the_text_that_is_hashed():
    """What separates the parts cannot be moved into one of them."""
    assert feed_id("a\nb", "c", 1, None) != feed_id("a", "b\nc", 1, None)
