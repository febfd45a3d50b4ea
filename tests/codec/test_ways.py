"""The choice between ways to do a step, with made-up times."""

import pytest

from dac_tokenize.codec.ways import FastestWay


class RefusedError(Exception):
    """This device cannot."""


def never() -> None:
    raise RefusedError


def ways_taking(*milliseconds):
    """Ways with the time that each takes; None for one that the device refuses."""
    took = {}
    ways = []
    for time in milliseconds:
        way = never if time is None else lambda: None
        took[id(way)] = time
        ways.append(way)
    return ways, lambda way: took[id(way)]


@pytest.mark.parametrize(
    ("milliseconds", "taken"),
    [
        ((3.0, 2.0, 1.0), 2),
        ((1.0, 2.0, 1.5), 0),
        ((1.0, 0.97, 0.98), 0),  # within chance: the likeliest stays
        ((None, 5.0, 1.0), 2),
        ((1.0, None), 0),
        ((None, 4.0), 1),
    ],
)
def test_fastest_is_taken_if_it_is_clearly_so(milliseconds, taken) -> None:
    ways, seconds = ways_taking(*milliseconds)
    choose = FastestWay(seconds, (RefusedError,))
    assert choose("step", ways) == taken
    # Kept from then on, whatever the times are: the same step is done the same way.
    assert choose("step", ways[::-1]) == taken


def test_a_single_way_is_not_timed() -> None:
    assert FastestWay(never)("step", [never]) == 0


def test_no_way_left_says_why() -> None:
    with pytest.raises(RefusedError):
        FastestWay(lambda way: 1.0, (RefusedError,))("step", [never, never])
