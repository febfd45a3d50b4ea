"""An output in S3 (a real server on loopback) that fails, and lies about its listings."""

import threading
import time

import fsspec
import pytest
from werkzeug.serving import make_server

from dac_tokenize import files
from dac_tokenize.corpus import iter_rows
from dac_tokenize.corpus.verifying import verify_corpus
from tests.corpus.test_tokenizing import tree as local_tree

moto = pytest.importorskip("moto.moto_server.werkzeug_app")

BUCKET = "corpus"


class Store:
    """An S3 server with faults: `failing` and `stale`."""

    def __init__(self) -> None:
        self._moto = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._port = 0
        self._writes = 0
        self.shards: set[str] = set()
        self._listings: dict[str, tuple] = {}
        self.failing = False
        self.stale = False
        self.failed_writes = 0
        self.stale_listings = 0
        self.start()

    def environment(self) -> dict[str, str]:
        """Return what s3fs finds the server by."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
        }

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __call__(self, environ, start_response):
        """Be the WSGI application."""
        if environ["REQUEST_METHOD"] == "PUT" and "/data/" in environ["PATH_INFO"]:
            self.shards.add(environ["PATH_INFO"])
        writes = environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].count("/") > 1
        if writes and self.failing:
            self._writes += 1
            if self._writes % 3 == 0:
                self.failed_writes += 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response("503 Slow Down", [("Content-Length", "0")])
                return [b""]
        if "list-type=2" not in environ.get("QUERY_STRING", ""):
            return self._moto(environ, start_response)
        return self._listing(environ, start_response)

    def _listing(self, environ, start_response):
        """Answer as when the same was first asked for, while listings are stale."""
        asked = environ["QUERY_STRING"]
        if asked not in self._listings or not self.stale:
            answer: list = []
            body = b"".join(self._moto(environ, lambda *head, **_: answer.extend(head[:2])))
            self._listings[asked] = (*answer, body)
        else:
            self.stale_listings += 1
        status, headers, body = self._listings[asked]
        start_response(status, headers)
        return [body]


@pytest.fixture
def store(monkeypatch):
    store = Store()
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    # Instances of earlier tests know servers that are gone.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3", skip_instance_cache=True).makedirs(BUCKET, exist_ok=True)
    yield store
    store.stop()


@pytest.fixture
def encode(store, runs, arguments):
    """Start a run into the bucket, where workers find it by its environment."""

    def encode(name, **environment):
        environment |= store.environment()
        words = [f"{name}={value}" for name, value in environment.items()]
        return runs.start([*words, *arguments(f"s3://{BUCKET}/{name}")])

    return encode


def tree(name):
    """Every object below a prefix, with its bytes."""
    there = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    prefix = f"{BUCKET}/{name}"
    return {path.removeprefix(prefix + "/"): there.cat_file(path) for path in there.find(prefix)}


def test_one_write_in_three_fails(store, encode, whole, report):
    store.failing = True
    run = encode("failing")
    assert run.wait() == 0
    store.failing = False
    assert tree("failing") == whole[0]
    assert store.failed_writes >= 10
    report(f"S3 that failed {store.failed_writes} writes, every third: corpus identical")


def test_stale_listings(store, encode, whole, report):
    """Listings stay as they were when first asked for: of an empty folder, then of half of it."""
    store.stale = True
    assert (tree("stale"), files.list_names(f"s3://{BUCKET}/stale/data")) == ({}, [])
    assert encode("stale").wait() == 0
    assert encode("stale").wait() == 0
    output = f"s3://{BUCKET}/stale"
    assert len(list(iter_rows(output, columns=["key"]))) == 30
    assert verify_corpus(output).findings == ()
    assert store.stale_listings > 0
    store.stale = False
    assert tree("stale") == whole[0]
    report(f"S3 with {store.stale_listings} stale listings: corpus identical, all rows read")


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_store_that_dies_and_comes_back(store, encode, whole, report):
    run = encode("back")
    wait_for(lambda: len(store.shards) > 8)
    store.stop()
    time.sleep(2)
    assert run.status is None
    store.start()
    assert run.wait() == 0
    assert tree("back") == whole[0]
    report("S3 that was away for 2 s: the same run went on, corpus identical")


def test_store_that_dies_and_stays_away(store, encode, whole, log, report):
    run = encode("gone", PATIENCE_SECONDS="1")
    wait_for(lambda: len(store.shards) > 8)
    before = log.stat().st_size
    store.stop()
    assert run.wait() == 1
    text = log.read_text()[before:]
    said = [line for line in text.splitlines() if "x real time" not in line]
    assert len(said) == 1, text
    assert f"the store of s3://{BUCKET}/gone/" in said[0]
    assert "does not answer: EndpointConnectionError: " in said[0]
    assert said[0].endswith("; run again when it does")
    store.start()
    there = sum(name.startswith("data/") for name in tree("gone"))
    assert encode("gone").wait() == 0
    assert tree("gone") == whole[0]
    report(f"S3 that died after {there} shards: one sentence, status 1; one more run: identical")


@pytest.fixture
def encode_from(store, runs, arguments, sounds, tmp_path):
    """Start a run whose sounds lie in the bucket, into a folder on the disk."""
    fsspec.filesystem("s3", skip_instance_cache=True).put(
        str(sounds), f"{BUCKET}/sounds", recursive=True
    )

    def encode_from(name, **environment):
        environment |= store.environment()
        words = [f"{name}={value}" for name, value in environment.items()]
        command = arguments(tmp_path / name)
        command[1] = f"s3://{BUCKET}/sounds"
        return runs.start([*words, *command])

    return encode_from


def test_inputs_whose_store_dies(store, encode_from, tmp_path, log, report):
    """No clip counts as failed because its store was away."""
    assert encode_from("whole").wait() == 0
    whole = local_tree(tmp_path / "whole")
    for name, patience, status in (("back", "60", 0), ("gone", "1", 1)):
        run = encode_from(name, PATIENCE_SECONDS=patience)
        data = tmp_path / name / "data"
        wait_for(lambda data=data: data.exists() and len(list(data.iterdir())) > 6)
        before = log.stat().st_size
        store.stop()
        time.sleep(1)
        if name == "back":
            store.start()
        assert run.wait() == status
    text = log.read_text()[before:]
    (said,) = [line for line in text.splitlines() if "x real time" not in line]
    assert said.startswith("dac-tokenize: data/train-"), text
    assert f"the store of s3://{BUCKET}/sounds/clip" in said
    assert said.endswith("; run again when it does")
    store.start()
    there = len(list((tmp_path / "gone" / "data").iterdir()))
    assert encode_from("gone").wait() == 0
    for name in ("back", "gone"):
        assert local_tree(tmp_path / name) == whole
    report(
        "S3 of the inputs that was away for 1 s: the same run went on; that stayed away: one "
        f"sentence after {there} shards, status 1; one more run: both identical, no clip failed"
    )
