"""Messages on a stream: however it is cut up, the same frames come out, and nothing that was announced too long is kept."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.node.frames import FRAME_MAX, BadFrame, Frames, framed

BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)

LENGTHS = st.integers(FRAME_MAX + 1, 2**32 - 1) | st.just(0)


def cut(data, places):
    """`data` in pieces, cut at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(BODIES, st.lists(st.integers(0, 3000), max_size=12))
def test_any_cutting_gives_the_same_frames(bodies, places):
    """What was framed comes out, in order, however the stream was cut; between frames nothing is held."""
    frames, found = Frames(), []
    for piece in cut(b"".join(map(framed, bodies)), places):
        whole, bad = frames.take(piece)
        assert bad is None
        found += whole
    assert found == bodies
    assert not frames.partial


@given(
    BODIES, st.integers(FRAME_MAX + 1, 2**32 - 1) | st.just(0), st.binary(max_size=50), st.lists(st.integers(0, 3000), max_size=6)
)
def test_a_length_that_cannot_be_breaks_the_stream(bodies, length, after, places):
    """Frames before a bad length are given; from its four bytes on nothing is, and nothing is held."""
    frames, found, broken = Frames(), [], False
    for piece in cut(b"".join(map(framed, bodies)) + length.to_bytes(4, "big") + after, places):
        whole, bad = frames.take(piece)
        assert not (broken and whole)
        found += whole
        broken = broken or bad is not None
    assert broken
    assert found == bodies
    assert not frames.partial


@given(st.binary(min_size=1, max_size=100), st.integers(0, 2000))
def test_a_half_frame_is_known_to_be_half(body, place):
    """As long as a frame has begun and is not whole, the stream says so."""
    data = framed(body)
    frames = Frames()
    begun = data[: place % len(data)]
    whole, bad = frames.take(begun)
    assert (whole, bad) == ([], None)
    assert frames.partial == bool(begun)


def test_the_longest_frame_passes_and_one_byte_more_does_not():
    """65,536 bytes are a frame; more, and none, are refused to the sender too."""
    frames = Frames()
    assert frames.take(framed(bytes(FRAME_MAX)))[0] == [bytes(FRAME_MAX)]
    for body in (b"", bytes(FRAME_MAX + 1)):
        with pytest.raises(BadFrame):
            framed(body)
