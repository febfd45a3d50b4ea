"""Stores: uris, fsspec file systems, and what their errors mean."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from dac_tokenize.errors import ClipError, SourceError, StoreError
from dac_tokenize.retries import (
    ATTEMPTS,
    describe,
    http_status,
    is_away,
    is_shared_store,
    is_transient,
    root_error,
)

STALL_SECONDS = 60.0  # an http server that sends nothing for so long has failed


def is_url(uri: str) -> bool:
    """Tells whether a uri names its file system, as in s3://bucket/key."""
    return "://" in uri or "::" in uri


def is_http(uri: str) -> bool:
    """Tells the URLs of web servers."""
    return uri.startswith(("http://", "https://"))


def as_uri(path: str | os.PathLike[str]) -> str:
    """Makes local paths absolute, and leaves URLs of other stores as they are.

    >>> as_uri("/data/../a.wav"), as_uri("file:///data/a.wav"), as_uri("s3://bucket/a.wav")
    ('/a.wav', '/data/a.wav', 's3://bucket/a.wav')
    """
    uri = os.fspath(path)
    for scheme in ("file://", "local://"):
        if uri.startswith(scheme) and "::" not in uri:
            uri = uri.removeprefix(scheme)
    return uri if is_url(uri) else os.path.abspath(os.path.expanduser(uri))


class FileSystems:
    """File systems by URL, one instance of each for all threads of a process.

    fsspec itself keeps one instance for each thread, so that a pool of threads would open
    as many connections; here all share one. Not to be carried over a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instances: dict[tuple[type, str], Any] = {}

    def resolve(self, uri: str) -> tuple[Any, str]:
        """Finds the file system of a uri, and the path inside it.

        Raises:
            SourceError: there is no such file system, or its library is not installed.
        """
        import fsspec

        try:
            filesystem, path = fsspec.core.url_to_fs(uri, **_http_options(uri))
        except (ImportError, ValueError) as error:
            raise SourceError(f"cannot open {uri}: {error}") from error
        kind = (type(filesystem), repr(sorted(filesystem.storage_options.items(), key=repr)))
        with self._lock:
            return self._instances.setdefault(kind, filesystem), path


def _http_options(uri: str) -> dict[str, Any]:
    """Lets an http read fail when nothing comes, however long the whole of it takes."""
    if not is_http(uri):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=STALL_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


@contextlib.contextmanager
def source_errors(uri: str) -> Iterator[None]:
    """Turns whatever a file system raises into a `SourceError` that says what happened.

    Raises:
        SourceError: the sound cannot be read.
        StoreError: the store as a whole does not answer, which says nothing about the sound.
    """
    try:
        yield
    except (ClipError, StoreError):
        raise
    except Exception as error:
        raise_if_away(uri, error)
        raise SourceError(_what_happened(uri, root_error(error))) from error


def raise_if_away(uri: str, error: Exception) -> None:
    """Raises a `StoreError` for errors that are not about one sound but about a shared store."""
    if is_shared_store(uri) and is_away(error):
        raise StoreError(
            f"the store of {uri} does not answer: {describe(error)}; run again when it does"
        ) from error


def _what_happened(uri: str, error: BaseException) -> str:
    status = http_status(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return f"there is no file {uri}"
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"no permission to read {uri}"
    if isinstance(error, IsADirectoryError):
        return f"{uri} is a folder; expected a file"
    is_repeated = is_transient(error) and not is_shared_store(uri)
    tries = f" {ATTEMPTS} times" if is_repeated else ""
    return f"reading {uri} failed{tries}: {describe(error)}"
