"""The choice between ways to do a step, with made-up times."""

import threading

import pytest

from dac_tokenize.codec.ways import FastestWay, WorkingWay, compile_side_by_side, likeliest_way


class RefusedError(Exception):
    """This device cannot."""


def never(*, compile_only: bool = False) -> None:
    raise RefusedError


def ways_taking(*milliseconds):
    """Ways with the time that each takes; None for one that the device refuses."""
    took = {}
    ways = []
    for time in milliseconds:
        way = never if time is None else lambda *, compile_only=False: None
        took[id(way)] = time
        ways.append(way)
    return ways, took, lambda way: took[id(way)]


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
    ways, took, seconds = ways_taking(*milliseconds)
    choose = FastestWay(seconds, (RefusedError,))
    assert choose("step", ways) == taken
    took.clear()
    assert choose("step", ways) == taken  # kept from then on, and timed no more


def test_a_single_way_is_not_timed() -> None:
    runs = []
    assert FastestWay(never)("step", [lambda: runs.append(0)]) == 0
    assert runs == [0]


def test_the_way_taken_runs_last() -> None:
    """The next step is timed on what it leaves."""
    runs = []
    ways = [lambda n=n: runs.append(n) for n in range(3)]
    choose = FastestWay(lambda way: [2.0, 1.0, 3.0][ways.index(way)])
    for _ in range(2):
        assert choose("step", ways) == 1
        assert runs.pop() == 1


def test_the_likeliest_way_does_not_run() -> None:
    assert likeliest_way("step", [never, never]) == 0


def test_the_first_way_that_works_runs_once() -> None:
    runs = []
    ways = [never, lambda: runs.append(1), lambda: runs.append(2)]
    choose = WorkingWay((RefusedError,))
    assert choose("step", ways) == 1
    assert runs == [1]
    with pytest.raises(RefusedError):
        choose("step", [never, never])


def test_ways_compile_side_by_side() -> None:
    """Two wait for each other, and in turn would wait for ever; what comes first has no company."""
    both = threading.Barrier(2)
    compiled = []

    def first(*, compile_only: bool = False) -> None:
        compiled.append("first")

    prepared = threading.local()

    def way(*, compile_only: bool = False) -> None:
        assert prepared.done
        both.wait(timeout=60)
        compiled.append(compile_only)

    compile_side_by_side([first, way, way], 2, lambda: setattr(prepared, "done", True))
    assert compiled == ["first", True, True]
    for ways in ([never], [first, never]):
        with pytest.raises(RefusedError):
            compile_side_by_side(ways, 2)
    compile_side_by_side([], 2)


def test_what_fails_in_company_is_compiled_alone() -> None:
    calling = threading.current_thread()
    threads = []

    def way(*, compile_only: bool = False) -> None:
        threads.append(threading.current_thread())
        if threads[-1] is not calling:
            raise SystemError("AST constructor recursion depth mismatch")

    compile_side_by_side([way, way, way], 2)
    assert [thread is calling for thread in threads] == [True, False, False, True, True]


def test_no_way_left_says_why() -> None:
    with pytest.raises(RefusedError):
        FastestWay(lambda way: 1.0, (RefusedError,))("step", [never, never])
