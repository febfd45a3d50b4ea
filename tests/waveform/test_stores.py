"""Stores: real servers of buckets and of http on loopback, and errors that pass or stay."""

import contextlib
import errno
import functools
import http.server
import socket
import threading
import time

import fsspec
import numpy as np
import pytest
import tenacity
from gcsfs.retry import HttpError

from dac_tokenize import retries
from dac_tokenize.errors import ClipError, PlanError, SourceError, StoreError
from dac_tokenize.prefetch import prefetch_waveforms
from dac_tokenize.references import Reference
from dac_tokenize.sources import list_references
from dac_tokenize.waveform import WaveformOpener, fetch, stores
from tests.engines import services
from tests.waveform.sounds import decode, encode, tones

RATE = 16_000
FORMATS = ["WAV", "FLAC", "OGG", "MP3"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(retries, "WAIT", tenacity.wait_none())


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Sounds fetched whole, and sounds that count as large: read in ranges, or spooled."""
    if request.param == "large":
        monkeypatch.setattr(fetch, "WHOLE_OBJECT_BYTES", 1000)
        monkeypatch.setattr(fetch, "RANGE_BLOCK_BYTES", 5000)
        monkeypatch.setattr(fetch, "SPOOL_MEMORY_BYTES", 2000)
    return request.param


def sounds() -> dict[str, bytes]:
    return {f"{f.lower()}/{n}.{f.lower()}": encode(tones(30_000, seed=n), RATE, f)
            for f in FORMATS for n in range(3)}  # fmt: skip


@contextlib.contextmanager
def s3(_):
    """A real S3 server, by the environment in which s3fs finds it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    server.stop()


@contextlib.contextmanager
def gs(folder):
    """A server of Google Cloud Storage's protocol, by the environment in which gcsfs finds it."""
    with services.gcs_server(folder) as url:
        yield {"STORAGE_EMULATOR_HOST": url, "NO_GCE_CHECK": "true"}


@pytest.fixture(scope="module", params=[s3, gs], ids=["s3", "gs"])
def bucket(request, tmp_path_factory):
    """A folder of a bucket in a real server."""
    server, scheme = request.param, request.param.__name__
    with server(tmp_path_factory.mktemp(scheme)) as found_by, pytest.MonkeyPatch.context() as patch:
        for name, value in found_by.items():
            patch.setenv(name, value)
        # Instances of earlier tests know servers that are gone.
        fsspec.get_filesystem_class(scheme).clear_instance_cache()
        filesystem = fsspec.filesystem(scheme, skip_instance_cache=True)
        filesystem.mkdir("recordings")
        for name, data in sounds().items():
            filesystem.pipe(f"recordings/in/{name}", data)
        filesystem.pipe("recordings/in/notes.txt", b"no sound")
        yield f"{scheme}://recordings/in"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files; behaves as badly as its server's `faults` say."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        server = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        fault = server.faults.pop(0) if server.faults and with_body else None
        data = server.files.get(self.path)
        if data is None or isinstance(fault, int):
            self.send_response(404 if data is None else fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, stop, ranged = 0, len(data), self.headers.get("Range")
        if ranged and server.ranges:
            first, last = ranged.removeprefix("bytes=").split("-")
            start, stop = int(first), min(int(last) + 1 if last else stop, stop)
        self.send_response(206 if ranged and server.ranges else 200)
        if server.ranges:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if with_body:
            body = data[start:stop]
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
            if fault == "cut":
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
            if fault == "stall":
                time.sleep(3)

    def log_message(self, *args):
        pass


@pytest.fixture(params=["ranges", "no-ranges"])
def web(request):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = {f"/{name}": data for name, data in sounds().items()}
    server.faults, server.requests, server.ranges = [], [], request.param == "ranges"
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def check_all(references, num_threads=3):
    """Reads everything in a pool of threads, and compares it with what was stored."""
    expected, count = sounds(), 0
    opener = WaveformOpener(RATE)
    for reference, waveform in prefetch_waveforms(references, opener, num_threads):
        assert not isinstance(waveform, ClipError), waveform
        samples = np.concatenate(list(waveform.blocks), axis=1)
        name = next(name for name in expected if reference.uri.endswith(name))
        assert np.array_equal(samples, decode(expected[name])[0].T)
        count += 1
    return count


def test_bucket(bucket, size):
    listing = list_references([bucket])
    references = list(listing)
    assert [r.key for r in references] == sorted(sounds())
    assert [r.size_bytes for r in references] == [len(sounds()[r.key]) for r in references]
    assert listing.skipped == {".txt": 1}
    assert check_all(references) == 12
    assert check_all(list_references([f"{bucket}/*/1.*"])) == 4


def test_segments_of_a_large_file_do_not_fetch_it_all(bucket, monkeypatch):
    samples = np.tile(tones(1_000_000), (12, 1))
    filesystem, folder = fsspec.core.url_to_fs(bucket)
    filesystem.pipe(f"{folder}/long/a.wav", encode(samples, RATE))  # 24 MB
    fetched = []
    plain = fetch.SpanFile._read_at
    monkeypatch.setattr(
        fetch.SpanFile,
        "_read_at",
        lambda self, *where: fetched.append(where) or plain(self, *where),
    )
    segment = WaveformOpener(RATE).read(Reference("a", f"{bucket}/long/a.wav", 600.0, 1.0))
    assert np.abs(segment[0] - samples[9_600_000:9_616_000, 0]).max() < 2**-15
    assert sum(num_bytes for _, num_bytes in fetched) < 100_000


def test_bucket_errors(bucket):
    scheme = bucket.partition(":")[0]
    opener = WaveformOpener(RATE)
    with pytest.raises(SourceError, match=f"there is no file {bucket}/gone.wav"):
        opener(Reference("gone.wav", f"{bucket}/gone.wav"))
    with pytest.raises(
        PlanError, match=f"there is no file or folder {scheme}://recordings/nothing"
    ):
        list(list_references([f"{scheme}://recordings/nothing"]))
    with pytest.raises(PlanError, match=f"there is no file or folder {scheme}://other-bucket"):
        list(list_references([f"{scheme}://other-bucket/x"]))


def test_http(web, size):
    urls = [f"{web.url}/{name}" for name in sounds()]
    references = list(list_references(urls))
    assert [r.uri for r in references] == urls
    assert [r.key for r in references] == [name.split("/")[1] for name in sounds()]
    assert check_all(references) == 12


@pytest.mark.parametrize("fault", [500, 503, 429, "cut"])
@pytest.mark.parametrize("count", [1, 3])
def test_http_errors_that_pass(web, size, fault, count):
    web.faults = [fault] * count
    assert check_all(list_references([f"{web.url}/flac/1.flac"]), num_threads=1) == 1


@pytest.mark.parametrize(("fault", "message"), [(500, "failed 5 times"), ("cut", "failed 5 times")])
def test_http_errors_that_stay(web, fault, message):
    (reference,) = list_references([f"{web.url}/flac/1.flac"])
    web.faults = [fault] * 100
    with pytest.raises(SourceError, match=message):
        WaveformOpener(RATE).read(reference)
    assert len(web.faults) == 95


@pytest.mark.parametrize("status", [401, 403])
def test_http_forbidden_is_not_tried_again(web, status):
    (reference,) = list_references([f"{web.url}/flac/1.flac"])
    web.faults = [status] * 100
    with pytest.raises(SourceError, match="no permission to read"):
        WaveformOpener(RATE).read(reference)
    assert len(web.faults) == 99


def test_http_missing(web):
    with pytest.raises(SourceError, match="there is no file"):
        WaveformOpener(RATE).read(Reference("a", f"{web.url}/gone.wav"))


def test_http_a_server_that_stalls(web, monkeypatch):
    monkeypatch.setattr(stores, "STALL_SECONDS", 0.2)
    web.files["/stall.wav"] = web.files["/wav/1.wav"]
    (reference,) = list_references([f"{web.url}/wav/1.wav"])
    monkeypatch.setattr(Handler, "answer", lambda self, with_body: time.sleep(1.5))
    start = time.monotonic()
    with pytest.raises(SourceError, match=r"failed 5 times: .*[Tt]imeout"):
        WaveformOpener(RATE).read(reference)
    assert time.monotonic() - start < 10


def test_http_a_host_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SourceError, match="failed 5 times"):
        WaveformOpener(RATE).read(Reference("a", f"http://127.0.0.1:{port}/a.wav"))


def test_an_object_that_shrinks_while_it_is_read(monkeypatch):
    monkeypatch.setattr(fetch, "WHOLE_OBJECT_BYTES", 1000)
    monkeypatch.setattr(fetch, "RANGE_BLOCK_BYTES", 5000)
    memory = fsspec.filesystem("memory")
    data = encode(tones(400_000), RATE, "WAV")
    memory.pipe("memory://shrinks/a.wav", data)
    waveform = WaveformOpener(RATE)(Reference("a", "memory://shrinks/a.wav", size_bytes=len(data)))
    next(waveform.blocks)
    memory.store["/shrinks/a.wav"].truncate(600_000)
    with pytest.raises(SourceError, match="has changed while it was read: it ends at byte 600000"):
        list(waveform.blocks)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (BrokenPipeError(), True),
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.ESTALE, "stale handle"), True),
        (OSError(errno.ENOSPC, "disk full"), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (ValueError(), False),
        (SourceError(), False),
        (HttpError({"code": 429, "message": "slow down"}), True),
        (HttpError({"code": 503, "message": "backend error"}), True),
        (HttpError({"code": 400, "message": "required"}), False),
        (HttpError({"code": 401, "message": "Anonymous caller"}), False),
    ],
)
def test_which_errors_pass(error, passes):
    assert retries.is_transient(error) == passes


def test_retries_stop_with_the_last_error():
    calls = []

    def fail():
        calls.append(1)
        raise TimeoutError(len(calls))

    with pytest.raises(TimeoutError, match="5"):
        retries.with_retries(fail, "a.wav")
    assert len(calls) == 5


def test_a_shared_store_is_given_time_and_not_attempts(monkeypatch):
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(retries, "WAIT", tenacity.wait_fixed(0.01))
    calls = []

    def fail():
        calls.append(time.monotonic())
        raise ConnectionRefusedError

    expected = r"the store of s3://b/a\.wav does not answer: ConnectionRefusedError; run again"
    with pytest.raises(StoreError, match=expected), stores.source_errors("s3://b/a.wav"):
        retries.with_retries(fail, "s3://b/a.wav")
    assert len(calls) > 5
    assert 0.15 < calls[-1] - calls[0] < 2


def test_one_sound_of_a_shared_store_may_be_bad():
    for error in (FileNotFoundError(), PermissionError(), OSError(errno.EREMOTEIO, "internal")):
        with pytest.raises(SourceError), stores.source_errors("s3://b/a.wav"):
            raise error


def test_threads_share_a_file_system():
    filesystems, seen = stores.FileSystems(), []
    threads = [
        threading.Thread(target=lambda: seen.append(filesystems.resolve("memory://a")[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in seen}) == 1
