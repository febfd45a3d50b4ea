"""Pools of real processes that are killed, hang, crash and refuse."""

import os
import time

import pytest

from dac_tokenize.errors import CorpusError, WorkersLostError
from dac_tokenize.workers.pool import MOST_LOSSES, Done, Lost, Pool, Said
from tests.workers import serving
from tests.workers.serving import (
    CRASHES,
    EXITS,
    FAILS,
    KILLED,
    KILLED_ONCE,
    SLOW,
    STALLS,
    STALLS_ONCE,
)

STALL_SECONDS = 0.5


@pytest.fixture
def run(tmp_path):
    """Run tasks; gives what happened, and holds that no process is left."""

    def run(tasks, num_workers=2, serve=serving.serve, until=None, start_method="forkserver"):
        pool = Pool(serve, (str(tmp_path),), num_workers, STALL_SECONDS, start_method)
        events = pool.run(tasks)
        happened = []
        try:
            for event in events:
                happened.append(event)
                if until is not None and until(event):
                    break
        finally:
            events.close()
            assert pool._workers == []
            for mark in tmp_path.iterdir():
                for line in mark.read_text().splitlines():
                    assert not os.path.exists(f"/proc/{line.split()[1]}"), mark
        return happened

    return run


def done(happened):
    return sorted(event.task for event in happened if isinstance(event, Done))


def lost(happened):
    return [event for event in happened if isinstance(event, Lost)]


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_every_task_once(run, num_workers):
    happened = run(range(20), num_workers)
    assert done(happened) == list(range(20))
    assert lost(happened) == []
    assert [event.message for event in happened if isinstance(event, Said)].count("half of 7") == 1
    assert {e.result[1] for e in happened if isinstance(e, Done)} <= set(range(num_workers))


def test_processes_that_import_all_by_themselves(run):
    assert done(run([KILLED_ONCE, 1], num_workers=1, start_method="spawn")) == [1, KILLED_ONCE]


def test_no_tasks(run):
    assert run([]) == []


@pytest.mark.parametrize("task", [KILLED_ONCE, STALLS_ONCE])
def test_a_lost_worker_costs_its_task_in_flight_and_no_other(run, task):
    happened = run([task, *range(20)])
    assert done(happened) == [*range(20), task]
    (event,) = lost(happened)
    assert (event.task, event.losses, event.is_given_up) == (task, 1, False)
    expected = "killed by SIGKILL" if task == KILLED_ONCE else "stalled: it finished nothing for"
    assert event.reason.startswith(expected)


def test_a_task_that_kills_is_given_up_after_all_others_are_done(run):
    happened = run([KILLED, CRASHES, STALLS, EXITS, *range(10)])
    assert done(happened) == list(range(10))
    given_up = {event.task: event for event in lost(happened) if event.is_given_up}
    assert {task: event.reason for task, event in given_up.items() if task != STALLS} == {
        KILLED: "killed by SIGKILL",
        CRASHES: "ended by ValueError: no",
        EXITS: "ended by itself with status 7",
    }
    assert all(event.losses == MOST_LOSSES for event in given_up.values())
    assert len(lost(happened)) == 4 * MOST_LOSSES
    last_done = max(i for i, event in enumerate(happened) if isinstance(event, Done))
    assert last_done < min(happened.index(event) for event in given_up.values())


def test_who_gives_a_sign_of_life_is_not_stalled(run):
    happened = run([SLOW])
    assert (done(happened), lost(happened)) == ([SLOW], [])


def test_getting_ready_is_no_stall(run):
    happened = run(range(4), serve=serving.loads_slowly)
    assert (done(happened), lost(happened)) == ([0, 1, 2, 3], [])


def test_what_a_worker_raises_ends_the_run(run):
    with pytest.raises(CorpusError, match="the disk is full"):
        run([STALLS, 1, FAILS, *range(2, 1000)])


def test_a_run_may_be_left_at_any_time(run):
    happened = run([STALLS, *range(50)], until=lambda event: isinstance(event, Done))
    assert len(done(happened)) == 1


def test_workers_that_never_begin_end_the_run(run):
    start = time.monotonic()
    expected = "3 workers were lost before they had begun; the last one was ended by itself with"
    with pytest.raises(WorkersLostError, match=expected):
        run(range(1000), serve=serving.never_begins)
    assert time.monotonic() - start < 30
