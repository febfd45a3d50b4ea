"""Stores: uris, fsspec file systems, and what their errors mean."""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import tenacity

from dac_tokenize.errors import ClipError, SourceError

ATTEMPTS = 5
WAIT = tenacity.wait_random_exponential(multiplier=0.4, max=8.0)
STALL_SECONDS = 60.0  # an http server that sends nothing for so long has failed

TRANSIENT_STATUS = frozenset((408, 425, 429))
TRANSIENT_ERRNO = frozenset((errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT))
UNREACHABLE_ERRNO = frozenset((errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN))
PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
NETWORK_LIBRARIES = ("aiohttp", "aiobotocore", "botocore", "requests", "urllib3", "httpx", "gcsfs")

T = TypeVar("T")


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


def is_transient(error: BaseException) -> bool:
    """Tells errors that may pass, of the network and of servers, from those that stay."""
    error = _root(error)
    if isinstance(error, (*PERMANENT, ClipError)):
        return False
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in TRANSIENT_STATUS or status >= 500
    if isinstance(error, TimeoutError | ConnectionError | EOFError):
        return True
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNO | UNREACHABLE_ERRNO:
        return True
    return type(error).__module__.split(".")[0] in NETWORK_LIBRARIES


def _root(error: BaseException) -> BaseException:
    """Gives the error behind a "not found", which fsspec says of whatever http server fails."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        from_http = type(cause).__module__.startswith("aiohttp")
        if from_http or isinstance(cause, TimeoutError | ConnectionError):
            return cause
    return error


def with_retries(function: Callable[[], T]) -> T:
    """Calls a function, and again, with growing pauses, while its errors are transient."""
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=tenacity.retry_if_exception(is_transient),
        reraise=True,
    ):
        with attempt:
            return function()
    raise AssertionError("unreachable")


@contextlib.contextmanager
def source_errors(uri: str) -> Iterator[None]:
    """Turns whatever a file system raises into a `SourceError` that says what happened."""
    try:
        yield
    except ClipError:
        raise
    except Exception as error:
        raise SourceError(_what_happened(uri, _root(error))) from error


def _what_happened(uri: str, error: BaseException) -> str:
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return f"there is no file {uri}"
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"no permission to read {uri}"
    if isinstance(error, IsADirectoryError):
        return f"{uri} is a folder; expected a file"
    tries = f" {ATTEMPTS} times" if is_transient(error) else ""
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"reading {uri} failed{tries}: {what}"
