"""A process to fork runs from, an input in many small shards, and figures for the summary."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from dac_tokenize.corpus.verifying import verify_corpus
from tests.corpus.test_tokenizing import tree
from tests.engines import services
from tests.engines.conftest import codec_folder, sounds  # noqa: F401
from tests.faults.stores import BUCKET

RUN_SECONDS = 120.0


@dataclass
class Run:
    """One run of the command line as a process."""

    pid: int
    started: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)
    status: int | None = None
    seconds: float = 0.0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        assert self.ended.wait(RUN_SECONDS), f"the run {self.pid} does not end"
        assert self.status is not None
        return self.status


class Runs:
    """Starts runs by forking."""

    def __init__(self, server) -> None:
        self._server = server
        self._started: queue.Queue[int] = queue.Queue()
        self._runs: dict[int, Run] = {}
        assert server.stdout.readline() == "ready\n"
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, arguments) -> Run:
        self._server.stdin.write(json.dumps([str(one) for one in arguments]) + "\n")
        self._server.stdin.flush()
        return self._started.get(timeout=RUN_SECONDS)

    def _listen(self) -> None:
        for line in self._server.stdout:
            word, pid, *status = line.split()
            if word == "started":
                run = self._runs[int(pid)] = Run(int(pid))
                self._started.put(run)
            else:
                run = self._runs.pop(int(pid))
                run.status, run.seconds = int(status[0]), time.monotonic() - run.started
                run.ended.set()


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """What the runs print."""
    return tmp_path_factory.mktemp("faults") / "runs.log"


@pytest.fixture(scope="session")
def temporaries(tmp_path_factory):
    """The folder for temporary files of all runs, empty when nothing goes on."""
    return tmp_path_factory.mktemp("faults-tmp")


@pytest.fixture(scope="session")
def runs(log, temporaries):
    """Start runs with `runs.start(arguments)`."""
    environment = services.worker_environment()
    environment |= {"RUNS_LOG": str(log), "TMPDIR": str(temporaries)}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=services.REPOSITORY,
        env=environment,
    )
    yield Runs(server)
    server.stdin.close()
    assert server.wait(30) == 0


@pytest.fixture(scope="session")
def arguments(sounds, codec_folder):  # noqa: F811
    """Arguments that encode into a folder, in some thirty shards."""

    def arguments(output, *more):
        return [
            "encode",
            str(sounds),
            f"--model={codec_folder}",
            "--device=cpu",
            "--shard-seconds=4",
            "--num-threads=2",
            "--allow-failures",
            f"--output={output}",
            *more,
        ]

    return arguments


@pytest.fixture(scope="session")
def whole(runs, arguments, tmp_path_factory):
    """Of an undisturbed run: every file, its seconds, and after how many each shard came."""
    output = tmp_path_factory.mktemp("faults") / "whole"
    assert runs.start(arguments(output)).wait() == 0
    files = tree(output)
    start = time.time()
    again = runs.start(arguments(output.with_name("again")))
    assert again.wait() == 0
    shards = output.with_name("again").glob("data/*.parquet")
    came = sorted(path.stat().st_mtime - start for path in shards)
    assert tree(output.with_name("again")) == files
    assert sum(name.startswith("data/") for name in files) >= 20
    return files, again.seconds, came


@pytest.fixture
def check(whole, temporaries):
    """Hold a corpus to the undisturbed one: every byte, and no file more."""

    def check(output):
        assert tree(output) == whole[0]
        found = verify_corpus(str(output))
        assert (found.findings, found.rows) == ((), 30)
        # What Beam and multiprocessing leave there when they are killed, an empty folder and that
        # of a socket, is not ours to remove; runs that are forked here end as if killed.
        names = [path.name for path in temporaries.iterdir()]
        theirs = ("beam-pipeline-temp", "pymp-")
        assert [name for name in names if not name.startswith(theirs)] == []

    return check


@pytest.fixture
def encode(store, runs, arguments):
    """Start a run into the bucket, where workers find it by its environment."""

    def encode(name, **environment):
        environment |= store.environment()
        words = [f"{name}={value}" for name, value in environment.items()]
        return runs.start([*words, *arguments(f"{store.scheme}://{BUCKET}/{name}")])

    return encode
