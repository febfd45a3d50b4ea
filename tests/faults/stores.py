"""Buckets on loopback that fail: real servers behind a door that faults come from."""

import threading
import time

import fsspec
from werkzeug.exceptions import NotFound
from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.serving import make_server

BUCKET = "corpus"


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Store:
    """A server with faults: each n-th write fails (`failing`), listings are old (`stale`)."""

    scheme = ""

    def __init__(self, application) -> None:
        self._application = application
        self._port = 0
        self._writes = 0
        self._listings: dict[str, tuple] = {}
        self.failing = 0
        self.stale = False
        self.failed_writes = 0
        self.stale_listings = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """Return what the store's library finds the server by."""
        raise NotImplementedError

    def use(self, monkeypatch) -> None:
        """Let this process find it."""
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)
        # Instances of earlier tests know servers that are gone.
        fsspec.get_filesystem_class(self.scheme).clear_instance_cache()

    def is_write(self, environ) -> bool:
        """Tell requests that write an object."""
        raise NotImplementedError

    def is_listing(self, environ) -> bool:
        """Tell requests for a listing."""
        raise NotImplementedError

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def open(self):
        """Return a file system on it that remembers nothing."""
        return fsspec.filesystem(self.scheme, skip_instance_cache=True, use_listings_cache=False)

    def tree(self, name) -> dict[str, bytes]:
        """Return every object below a prefix, with its bytes."""
        there, prefix = self.open(), f"{BUCKET}/{name}"
        return {
            path.removeprefix(prefix + "/"): there.cat_file(path) for path in there.find(prefix)
        }

    def num_shards(self, name) -> int:
        return len(self.open().find(f"{BUCKET}/{name}/data"))

    def __call__(self, environ, start_response):
        """Be the WSGI application."""
        if self.failing and self.is_write(environ):
            self._writes += 1
            if self._writes % self.failing == 0:
                self.failed_writes += 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response("503 Slow Down", [("Content-Length", "0")])
                return [b""]
        if not self.is_listing(environ):
            return self._application(environ, start_response)
        return self._listing(environ, start_response)

    def _listing(self, environ, start_response):
        """Answer as when the same was first asked for, while listings are stale."""
        asked = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        if asked not in self._listings or not self.stale:
            answer: list = []
            body = b"".join(self._application(environ, lambda *head, **_: answer.extend(head[:2])))
            self._listings[asked] = (*answer, body)
        else:
            self.stale_listings += 1
        status, headers, body = self._listings[asked]
        start_response(status, headers)
        return [body]


class S3Store(Store):
    """A bucket of moto's server."""

    scheme = "s3"

    def environment(self):
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def is_write(self, environ):
        return environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].count("/") > 1

    def is_listing(self, environ):
        return "list-type=2" in environ.get("QUERY_STRING", "")


class GcsStore(Store):
    """A bucket of Google Cloud Storage's protocol, by a server of its own process."""

    scheme = "gs"

    def __init__(self, server_url) -> None:
        target = {"target": server_url, "host": None}
        targets = {"/storage/": target, "/upload/": target, "/download/": target}
        super().__init__(ProxyMiddleware(NotFound(), targets))

    def environment(self):
        return {"STORAGE_EMULATOR_HOST": self.url, "NO_GCE_CHECK": "true"}

    def is_write(self, environ):
        return environ["PATH_INFO"].startswith("/upload/")

    def is_listing(self, environ):
        return environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith("/o")
