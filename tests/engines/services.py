"""Engines as processes of their own: started, waited for, ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("DAC_TOKENIZE_CACHE", Path.home() / ".cache" / "dac_tokenize"))
"""Where scripts/engines puts what is no Python package."""

FAKE_GCS_VERSION = "1.56.1"  # as in scripts/engines

START_SECONDS = 60.0
REPOSITORY = Path(__file__).parents[2]


def missing(what: str) -> None:
    """Skip where a tool is missing; fail where DAC_TOKENIZE_REQUIRE_ENGINES=1 says it must not."""
    text = f"{what} is missing: run scripts/engines, which puts it into {CACHE}"
    if os.environ.get("DAC_TOKENIZE_REQUIRE_ENGINES") == "1":
        pytest.fail(text)
    pytest.skip(text)


def built(name: str, version: str) -> Path:
    """Return a binary that scripts/engines has built."""
    path = CACHE / f"{name}-{version}" / name
    if not path.exists():
        missing(f"{name} {version}")
    return path


def prism() -> Path:
    """Return the Prism binary of the installed Beam's version."""
    return built("prism", version("apache-beam"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen, log: Path) -> None:
    """Wait until something listens; fail with the end of the log where it never does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"no service at port {port}:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def process(command, log, **environment):
    """Run a command in a process group of its own, which is ended with the `with` block."""
    with open(log, "wb") as output:
        running = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=worker_environment() | environment,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def worker_environment() -> dict[str, str]:
    """Return an environment in which `python` is this one: worker pools start it by that name."""
    here = os.path.dirname(sys.executable)
    return os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def worker_pool(folder):
    """A pool that starts SDK workers when an engine asks for them; gives its process and port."""
    port = free_port()
    log = folder / f"pool-{port}.log"
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
    with process([*command, f"--service_port={port}"], log) as running:
        wait_for_port(port, running, log)
        yield running, port


@contextlib.contextmanager
def job_service(folder):
    """Beam's portable job service; gives its port."""
    port = free_port()
    log = folder / "job-service.log"
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    options = [f"--port={port}", f"--staging_dir={folder}/staging"]
    with process([*command, *options], log) as running:
        wait_for_port(port, running, log)
        yield port


@contextlib.contextmanager
def gcs_server(folder, external_url=None):
    """A server that speaks Google Cloud Storage's protocol, its objects in memory; gives its URL.

    Args:
        folder: for its log.
        external_url: where clients reach it, if not at its own port.
    """
    binary = built("fake-gcs-server", FAKE_GCS_VERSION)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / f"gcs-{port}.log"
    options = ["-scheme=http", "-host=127.0.0.1", f"-port={port}", "-backend=memory"]
    external = f"-external-url={external_url or url}"
    with process([binary, *options, external, f"-public-host=127.0.0.1:{port}"], log) as running:
        wait_for_port(port, running, log)
        yield url
