"""Drivers that add to a corpus: several at once, and killed."""

import random
import shutil
import time

import pytest

from dac_tokenize.corpus.verifying import verify_corpus
from tests.corpus.test_tokenizing import tree

KILLS = 5


@pytest.fixture(scope="module")
def grown(runs, arguments, sounds, tmp_path_factory):
    """A corpus of a few of the sounds, and every file of it once the others are added."""
    folder = tmp_path_factory.mktemp("append")
    few, rest = folder / "few", folder / "rest"
    shutil.copytree(sounds, few)
    for number, path in enumerate(sorted(path for path in few.rglob("*") if path.is_file())):
        if number % 3:
            there = rest / path.relative_to(few)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, there)
    assert runs.start(["encode", str(few), *arguments(folder / "old")[2:]]).wait() == 0
    shutil.copytree(rest, few, dirs_exist_ok=True)
    shutil.copytree(folder / "old", folder / "whole")
    run = runs.start(["encode", str(few), *arguments(folder / "whole", "--append")[2:]])
    assert run.wait() == 0
    return few, folder / "old", tree(folder / "whole"), run.seconds


def test_two_drivers_append_at_once(runs, arguments, grown, report, tmp_path):
    few, old, whole, _ = grown
    shutil.copytree(old, tmp_path / "out")
    both = [
        runs.start(["encode", str(few), *arguments(tmp_path / "out", "--append")[2:]])
        for _ in range(2)
    ]
    assert [run.wait() for run in both] == [0, 0]
    assert tree(tmp_path / "out") == whole
    report("two drivers added the same to one corpus: both ended with 0, corpus identical")


def test_of_two_drivers_with_different_inputs_none_is_lost(
    runs, arguments, grown, report, tmp_path
):
    few, old, _, _ = grown
    shutil.copytree(old, tmp_path / "out")
    one_more = shutil.copyfile(next(few.rglob("*.wav")), tmp_path / "one more.wav")

    def start(*inputs):
        names = [str(one) for one in inputs]
        return runs.start(["encode", *names, *arguments(tmp_path / "out", "--append")[2:]])

    status = [run.wait() for run in (start(few), start(one_more))]
    assert status in ([0, 0], [0, 1], [1, 0])
    assert [start(one).wait() for one in (few, one_more)] == [0, 0]
    found = verify_corpus(str(tmp_path / "out"))
    assert (found.findings, found.rows) == ((), 31)
    report(f"two drivers added different things at once: ended with {status}, nothing lost")


def test_killed_while_it_appends(runs, arguments, grown, report, tmp_path):
    few, old, whole, seconds = grown
    moments = random.Random(6)
    for trial in range(KILLS):
        output = tmp_path / str(trial)
        shutil.copytree(old, output)
        command = ["encode", str(few), *arguments(output, "--append")[2:]]
        run = runs.start(command)
        time.sleep(seconds * (trial + moments.random()) / KILLS)
        if run.status is None:
            run.kill()
        run.wait()
        assert runs.start(command).wait() == 0
        assert tree(output) == whole
    report(f"driver killed at {KILLS} moments of an append: {KILLS} of {KILLS} corpora identical")
