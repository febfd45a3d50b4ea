"""What is asked of a JobManager; a real one is asked in `tests/faults/test_flink.py`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dac_tokenize.cli.flink import cancel_job, new_job_name

RUNNING, ENDED = -1, 1_700_000_000_000


class JobManager(ThreadingHTTPServer):
    """Tells of some jobs, and notes what is asked."""

    def __init__(self, answer: bytes, status: int = 202) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.status = answer, status
        self.patched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/jobs/overview"
        self._say(200, self.server.answer)

    def do_PATCH(self) -> None:
        self.server.patched.append(self.path)
        self._say(self.server.status, b"{}")

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def job_manager():
    servers = []

    def start(*jobs, status=202, answer=None):
        named = [{"jid": jid, "name": name, "end-time": end} for jid, name, end in jobs]
        body = json.dumps({"jobs": named}).encode() if answer is None else answer
        servers.append(JobManager(body, status))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_running_job_of_a_name_is_cancelled(job_manager) -> None:
    server = job_manager(("a", "ours", ENDED), ("b", "other", RUNNING), ("c", "ours", RUNNING))
    assert cancel_job(server.url, "ours")
    assert server.patched == ["/jobs/c?mode=cancel"]


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        [("a", "ours", ENDED), ("b", "other", RUNNING)],
        [("a", "ours", RUNNING), ("b", "ours", RUNNING)],  # which of them is not known
    ],
)
def test_no_other_job_is_touched(job_manager, jobs) -> None:
    server = job_manager(*jobs)
    assert not cancel_job(server.url, "ours")
    assert server.patched == []


@pytest.mark.parametrize("answer", [b"no JSON", b"[]", b"{}", b'{"jobs": [{}]}', b'{"jobs": 3}'])
def test_answers_that_make_no_sense(job_manager, answer) -> None:
    assert not cancel_job(job_manager(answer=answer).url, "ours")


def test_refused_and_unreachable(job_manager) -> None:
    server = job_manager(("a", "ours", RUNNING), status=500)
    assert not cancel_job(server.url, "ours")
    assert not cancel_job("http://127.0.0.1:9", "ours")


def test_names_are_new() -> None:
    assert new_job_name() != new_job_name()
    assert new_job_name().startswith("dac-tokenize-")
