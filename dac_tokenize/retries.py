"""Stores that fail: which errors may pass, how long to go on trying, and what is said in the end.

Libraries of stores raise errors of their own, of many classes. In this package a store that does
not answer is a `StoreError`, and no other room need know a library. It is no `OSError`: a shard on
a store that is away is neither missing nor damaged.
"""

import contextlib
import errno
import functools
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import tenacity

from dac_tokenize.errors import ClipError, StoreError
from dac_tokenize.events import log_event

ATTEMPTS = 5
"""A local file, or a sound on a web server, is tried so often."""

PATIENCE_SECONDS = 120.0
"""A store that all of a run depends on is given so long to come back."""

WAIT = tenacity.wait_random_exponential(multiplier=0.4, max=8.0)

_TRANSIENT_STATUS = frozenset((408, 425, 429))
_AWAY_STATUS = frozenset((429, 502, 503, 504))
_TRANSIENT_ERRNO = frozenset(
    (errno.EIO, errno.EREMOTEIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT)
)
_AWAY_ERRNO = frozenset(
    (errno.EBUSY, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
)
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_NETWORK_LIBRARIES = ("aiohttp", "aiobotocore", "botocore", "requests", "urllib3", "httpx", "gcsfs")
# Of these libraries, but no fault of a network.
_PERMANENT_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError")

_logger = logging.getLogger(__name__)
T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Tell errors that may pass, of the network and of servers, from those that stay."""
    error = root_error(error)
    if isinstance(error, (*_PERMANENT, ClipError)):
        return False
    if (status := http_status(error)) is not None:
        return status in _TRANSIENT_STATUS or status >= 500
    if isinstance(error, TimeoutError | ConnectionError | EOFError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO | _AWAY_ERRNO:
        return True
    return _is_of_network(error)


def is_away(error: BaseException) -> bool:
    """Tell errors of a store that does not answer at all from those about one of its files."""
    error = root_error(error)
    if isinstance(error, StoreError):
        return True
    if isinstance(error, (*_PERMANENT, ClipError)):
        return False
    if (status := http_status(error)) is not None:
        return status in _AWAY_STATUS
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _AWAY_ERRNO
    return _is_of_network(error)


def http_status(error: BaseException) -> int | None:
    """Return the status of HTTP that an error of aiohttp or gcsfs is about."""
    named = (getattr(error, name, None) for name in ("status", "code"))
    return next((status for status in named if isinstance(status, int)), None)


def _is_of_network(error: BaseException) -> bool:
    kind = type(error)
    return kind.__module__.split(".")[0] in _NETWORK_LIBRARIES and (
        kind.__name__ not in _PERMANENT_NAMES
    )


def root_error(error: BaseException) -> BaseException:
    """Return the error behind a "not found", which fsspec says of whatever http server fails."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        from_http = type(cause).__module__.startswith("aiohttp")
        if from_http or isinstance(cause, TimeoutError | ConnectionError):
            return cause
    return error


def is_shared_store(url: str) -> bool:
    """Tell stores that a whole run depends on, such as buckets, from files and web servers.

    >>> is_shared_store("s3://bucket/a.wav"), is_shared_store("https://example.org/a.wav")
    (True, False)
    """
    return ("://" in url or "::" in url) and not any(kind in url for kind in _NOT_SHARED)


_NOT_SHARED = ("http://", "https://", "file://", "local://", "memory://")


def with_retries(function: Callable[[], T], url: str) -> T:
    """Call a function, and again, with growing pauses, while its errors may pass.

    Args:
        function: what to call; calling it twice must do no harm.
        url: what it touches: a shared store is tried for `PATIENCE_SECONDS`, however often that
            is, anything else `ATTEMPTS` times.

    Returns:
        What the function returns.
    """
    is_patient = is_shared_store(url)
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(PATIENCE_SECONDS)
        if is_patient
        else tenacity.stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=tenacity.retry_if_exception(is_transient),
        before_sleep=functools.partial(_say, url),
        reraise=True,
    ):
        with attempt:
            return function()
    raise AssertionError("unreachable")


def _say(url: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    if error is not None:
        fields = {"url": url, "attempt": state.attempt_number, "reason": describe(error)}
        log_event(_logger, logging.INFO, "retry", **fields)


@contextlib.contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn what the library of a store raises when the store does not answer into a `StoreError`.

    Raises:
        StoreError: the store does not answer, or a library's own error says that it cannot.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        of_library = type(error).__module__.split(".")[0] in _NETWORK_LIBRARIES
        if not of_library and not is_away(error):
            raise
        raise StoreError(
            f"the store of {url} does not answer: {describe(error)}; run again when it does"
        ) from error


def describe(error: BaseException) -> str:
    """Return class and text of an error in one line.

    >>> describe(TimeoutError())
    'TimeoutError'
    """
    error = root_error(error)
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
