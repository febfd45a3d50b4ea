"""Flink as a standalone cluster on loopback: a JobManager, TaskManagers, a worker pool for each."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import urllib.request
from importlib.metadata import version

import pytest

from tests.engines import services

TASK_MANAGERS = 2
FOLDER = services.CACHE / f"flink-for-beam-{version('apache-beam')}"
SLOW_WORKER = services.REPOSITORY / "tests" / "engines" / "slow_worker"
START_SECONDS = 90.0

# What Flink's own configuration gives every JVM, for its reflection on Java 17.
_OPENED = (
    *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "java.text"),
    *("java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
    *("java.util.concurrent.locks", "sun.nio.ch"),
)
# Little memory, and machine code quickly rather than well: a JVM lives for a minute here.
_JVM = (
    "-Xmx256m",
    "-XX:MaxDirectMemorySize=160m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    *("--add-exports=java.base/sun.net.util=ALL-UNNAMED",),
    *("--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",),
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
)
_JOB_MANAGER = (
    "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
    *("--executionMode", "cluster"),
)
_TASK_MANAGER = ("org.apache.flink.runtime.taskexecutor.TaskManagerRunner",)

_CONFIG = """\
jobmanager.rpc.address: localhost
jobmanager.bind-host: localhost
rest.address: localhost
rest.bind-address: localhost
taskmanager.host: localhost
taskmanager.bind-host: localhost
taskmanager.numberOfTaskSlots: 1
taskmanager.cpu.cores: 1
taskmanager.memory.framework.heap.size: 64m
taskmanager.memory.framework.off-heap.size: 64m
taskmanager.memory.task.heap.size: 192m
taskmanager.memory.task.off-heap.size: 64m
taskmanager.memory.network.min: 32m
taskmanager.memory.network.max: 32m
taskmanager.memory.managed.size: 64m
taskmanager.memory.jvm-metaspace.size: 160m
taskmanager.memory.jvm-overhead.min: 64m
taskmanager.memory.jvm-overhead.max: 64m
cluster.registration.error-delay: 500
heartbeat.interval: 1000
heartbeat.timeout: 10000
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 10
restart-strategy.fixed-delay.delay: 1 s
"""

_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.name = out
appender.out.type = CONSOLE
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""


class Cluster:
    """A cluster that runs until its `stack` is closed.

    Attributes:
        versions: those of `flink` and of Beam's `job_server`.
        task_managers: their processes.
        pools: the processes of their worker pools, in the same order.
    """

    def __init__(self, folder, stack) -> None:
        if not FOLDER.exists() or shutil.which("java") is None:
            services.missing("Flink, or Java 17 for it,")
        self.versions = json.loads((FOLDER / "versions.json").read_text())
        self._folder = folder
        self._stack = stack
        self._slow = folder / "slow"
        self._ports = {name: services.free_port() for name in ("rest", "rpc", "pool")}
        own = (
            f"rest.port: {self._ports['rest']}\njobmanager.rpc.port: {self._ports['rpc']}\n"
            f"io.tmp.dirs: {folder}\n"
        )
        (folder / "config.yaml").write_text(_CONFIG + own)
        (folder / "log4j.properties").write_text(_LOGGING)
        self._java("job-manager", _JOB_MANAGER)
        self.task_managers = [self._task_manager(index) for index in range(TASK_MANAGERS)]
        self.pools = [self._pool(index) for index in range(TASK_MANAGERS)]
        self.wait_for_task_managers()

    def options(self) -> list[str]:
        """Return Beam's options for a job that uses all of the cluster."""
        return [
            "--runner=FlinkRunner",
            f"--flink_version={'.'.join(self.versions['flink'].split('.')[:2])}",
            f"--flink_master=localhost:{self._ports['rest']}",
            f"--flink_job_server_jar={FOLDER / 'job-server.jar'}",
            "--job_server_jvm_properties=-XX:TieredStopAtLevel=1",
            "--environment_type=EXTERNAL",
            f"--environment_config=worker-pool:{self._ports['pool']}",
            f"--parallelism={TASK_MANAGERS}",
        ]

    def kill_task_manager(self, index: int) -> None:
        """Kill a TaskManager with SIGKILL, and start another in its place."""
        _kill(self.task_managers[index])
        self.task_managers[index] = self._task_manager(index)

    def kill_pool(self, index: int) -> None:
        """Kill a worker pool and its workers with SIGKILL, and start another in its place."""
        _kill(self.pools[index])
        self.pools[index] = self._pool(index)

    @contextlib.contextmanager
    def slow(self, seconds: float):
        """Have workers wait so long after every clip."""
        self._slow.write_text(str(seconds))
        try:
            yield
        finally:
            self._slow.unlink()

    @contextlib.contextmanager
    def logs_shown_on_failure(self):
        """Print the ends of all logs when something is raised within the block."""
        try:
            yield
        except BaseException:
            for log in sorted(self._folder.glob("*.log")):
                print(f"---- {log}\n{log.read_text(errors='replace')[-4000:]}")
            raise

    def ask(self, path: str):
        """Return what the JobManager's REST interface says."""
        url = f"http://localhost:{self._ports['rest']}/{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def last_job(self) -> tuple[str, int]:
        """Return state and number of failures of the job that was started last."""
        jobs = self.ask("jobs/overview")["jobs"]
        job = max(jobs, key=lambda job: job["start-time"])
        history = self.ask(f"jobs/{job['jid']}/exceptions?maxExceptions=20")["exceptionHistory"]
        return job["state"], len(history["entries"])

    def wait_for_task_managers(self) -> None:
        """Wait until all TaskManagers have registered."""
        deadline = time.monotonic() + START_SECONDS
        with self.logs_shown_on_failure():
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    if self.ask("overview")["taskmanagers"] == TASK_MANAGERS:
                        return
                if any(one.poll() is not None for one in self.task_managers):
                    break
                time.sleep(0.1)
            pytest.fail(f"Flink has no {TASK_MANAGERS} TaskManagers within {START_SECONDS:g} s")

    def _task_manager(self, index: int):
        # Each finds its own pool by the name that the job gives for all of them.
        hosts = self._folder / f"hosts-{index}"
        names = f"127.0.0.1 localhost {socket.gethostname()}"
        hosts.write_text(f"{names}\n{_address(index)} worker-pool\n")
        return self._java(f"task-manager-{index}", _TASK_MANAGER, f"-Djdk.net.hosts.file={hosts}")

    def _java(self, name: str, main, *properties: str):
        logging = f"-Dlog4j.configurationFile={self._folder / 'log4j.properties'}"
        classes = ("-cp", f"{FOLDER / 'lib'}/*", main[0])
        configuration = ("--configDir", self._folder)
        command = ["java", *_JVM, *properties, logging, *classes, *configuration, *main[1:]]
        return self._process(name, command)

    def _pool(self, index: int):
        where = (_address(index), f"--service_port={self._ports['pool']}")
        path = os.pathsep.join(map(str, (SLOW_WORKER, services.REPOSITORY)))
        command = [sys.executable, "-m", "tests.engines.pool", *where]
        return self._process(f"pool-{index}", command, PYTHONPATH=path, SLOW_FILE=str(self._slow))

    def _process(self, name: str, command, **environment: str):
        started = sum(1 for _ in self._folder.glob(f"{name}*.log"))
        log = self._folder / f"{name}.{started}.log"
        return self._stack.enter_context(services.process(command, log, **environment))


@pytest.fixture(scope="session")
def flink_cluster(request, tmp_path_factory):
    """One `Cluster` for all folders of tests, ended with the session."""
    if _CLUSTER not in request.config.stash:
        stack = contextlib.ExitStack()
        request.config.add_cleanup(stack.close)
        cluster = Cluster(tmp_path_factory.mktemp("flink"), stack)
        request.config.stash[_CLUSTER] = cluster
    return request.config.stash[_CLUSTER]


_CLUSTER = pytest.StashKey[Cluster]()


def _address(index: int) -> str:
    return f"127.0.0.{index + 2}"


def _kill(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
