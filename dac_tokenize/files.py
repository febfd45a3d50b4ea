"""Files in any store that fsspec knows: read, publish whole, sweep what dead runs left.

A file is never seen half written. It is first written beside its final place (local stores) or in
the local folder for temporary files (all others), and only then given its name: by
``os.replace`` after an ``fsync``, or by one ``put_file`` of the finished file, which object stores
carry out whole or not at all.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dac_tokenize.errors import StoreError
from dac_tokenize.retries import store_errors, with_retries

STALE_SECONDS = 24 * 3600.0
"""Temporary files of unknown owners are swept when they are older than this."""

_TEMPORARY = re.compile(r"\.tmp-(?P<owner>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}$")
_CHUNK_BYTES = 1 << 20

T = TypeVar("T")


def open_store(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path or URL, and the path within it.

    Raises:
        StoreError: there is no such kind of store, or its library is not installed.
    """
    try:
        store, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(f"cannot open {url}: {error}") from error
    return store, path


def join(url: str, *parts: str) -> str:
    """Append path components to a path or URL.

    >>> join("s3://bucket/corpus/", "data", "a.parquet")
    's3://bucket/corpus/data/a.parquet'
    """
    head = url if url.endswith("://") else url.rstrip("/") + "/"
    return head + "/".join(parts)


def local_path(url: str) -> Path | None:
    """Return the local path behind a path or URL, or None where the store is not local."""
    store, path = open_store(url)
    return Path(path) if isinstance(store, LocalFileSystem) else None


def touch_store(url: str, function: Callable[[Any, str], T]) -> T:
    """Call a function with the store of a URL and the path in it, again while it may yet succeed.

    Every use of a store goes through here, or through `open_file`.

    Args:
        url: path or URL.
        function: what to do with file system and path; doing it twice must do no harm.

    Returns:
        What the function returns.

    Raises:
        StoreError: the store does not answer, and has not for `retries.PATIENCE_SECONDS`.
        OSError: what the store says about the file.
    """
    store, path = open_store(url)
    with store_errors(url):
        return with_retries(lambda: function(store, path), url)


def exists(url: str) -> bool:
    """Tell whether a file or folder is there, past any cached listing."""

    def look(store: Any, path: str) -> bool:
        store.invalidate_cache(path)
        return bool(store.exists(path))

    return touch_store(url, look)


def list_names(url: str) -> list[str]:
    """Return the sorted names in a folder; none where there is no folder."""

    def look(store: Any, path: str) -> list[str]:
        store.invalidate_cache(path)
        entries = store.ls(path, detail=False)
        return sorted({str(e).rstrip("/").rsplit("/", 1)[-1] for e in entries if e != path})

    try:
        return touch_store(url, look)
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_bytes(url: str) -> bytes | None:
    """Return all bytes of a file, or None where there is none."""

    def read(store: Any, path: str) -> bytes:
        store.invalidate_cache(path)
        data: bytes = store.cat_file(path)
        return data

    try:
        return touch_store(url, read)
    except FileNotFoundError:
        return None


def size_bytes(url: str) -> int:
    """Return the size of a file in bytes."""

    def look(store: Any, path: str) -> int:
        store.invalidate_cache(path)
        return int(store.info(path)["size"])

    return touch_store(url, look)


@contextlib.contextmanager
def open_file(url: str) -> Iterator[Any]:
    """Open a file in any store for reading, as a seekable file that reads on after faults.

    Raises:
        StoreError: the store does not answer.
        OSError: the file is missing or cannot be read.
    """

    def open_anew(store: Any, path: str) -> Any:
        store.invalidate_cache(path)
        return store.open(path, "rb")

    with touch_store(url, open_anew) as file:
        yield file if local_path(url) is not None else _PatientFile(file, url)


class _PatientFile(io.RawIOBase):
    """A file of a store whose reads are tried again while they may yet succeed."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, num_bytes: int = -1) -> bytes:
        position = self._file.tell()

        def read() -> bytes:
            self._file.seek(position)
            data: bytes = self._file.read(num_bytes)
            return data

        with store_errors(self._url):
            return with_retries(read, self._url)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def checksum(url: str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_file(url) as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return JSON that is the same, byte for byte, for equal values.

    >>> canonical_json({"b": 1, "a": (1, 2)})
    b'{"a":[1,2],"b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return text.encode("ascii")


def readable_json(value: Any) -> bytes:
    """Return JSON for people: indented, sorted, one line feed at its end."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return {type(value).__name__: str(value)}


@contextlib.contextmanager
def published(url: str) -> Iterator[Path]:
    """Give a local path to write; publish it whole at the end, drop it on any exception.

    Args:
        url: final place of the file, in any store; what lies there is replaced.

    Yields:
        Local path of a temporary file, not yet made, for the caller to write and close.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.

    >>> with published("memory://example/hello.txt") as path:
    ...     _ = path.write_bytes(b"hello")
    >>> read_bytes("memory://example/hello.txt")
    b'hello'
    """
    temporary = temporary_path(url)
    try:
        yield temporary
        publish_file(temporary, url)
    finally:
        temporary.unlink(missing_ok=True)


def publish_bytes(data: bytes, url: str) -> None:
    """Write a small file whole; see `published`."""
    with published(url) as path:
        path.write_bytes(data)


def publish_new(data: bytes, url: str) -> bool:
    """Write a small file whole where there is none yet, so that of several writers one wins.

    Returns:
        Whether this call wrote it.

    Raises:
        OSError: the disk or the store refused it.
    """
    temporary = temporary_path(url)
    try:
        temporary.write_bytes(data)
        final = local_path(url)
        if final is None:
            return _put_new(temporary, url)
        _sync(temporary)
        try:
            os.link(temporary, final)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return not final.exists() and _replaced(temporary, url)
        _sync(final.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _put_new(temporary: Path, url: str) -> bool:
    if exists(url):
        return False

    def put(store: Any, path: str) -> None:
        store.makedirs(store._parent(path), exist_ok=True)
        store.put_file(str(temporary), path, mode="create")
        store.invalidate_cache(path)

    try:
        touch_store(url, put)
    except FileExistsError:
        return False
    except (OSError, NotImplementedError, TypeError):  # most likely: no such condition there
        return not exists(url) and _replaced(temporary, url)
    return True


def _replaced(temporary: Path, url: str) -> bool:
    publish_file(temporary, url)
    return True


def remove(url: str) -> None:
    """Remove a file; no harm where there is none."""

    def remove(store: Any, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            store.rm_file(path)
        store.invalidate_cache(path)

    touch_store(url, remove)


def temporary_path(url: str) -> Path:
    """Return a new local path, named for this process, where the file for `url` may be written.

    It lies in the folder of `url`, which is made if missing, where that is local.
    """
    final = local_path(url)
    name = url.rstrip("/").rsplit("/", 1)[-1] if final is None else final.name
    folder = Path(tempfile.gettempdir()) if final is None else final.parent
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "dac_tokenize-" if final is None else ""
    return folder / f".{prefix}{name}.tmp-{_owner()}-{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def temporary_folder(url: str) -> Iterator[Path]:
    """Make a local folder for temporary files near `url`, removed at the end."""
    folder = temporary_path(url)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_file(temporary: Path, url: str) -> None:
    """Give a finished file from `temporary_path` its final place.

    Raises:
        StoreError: the store does not answer.
        OSError: the disk or the store refused it.
    """
    final = local_path(url)
    if final is None:

        def put(store: Any, path: str) -> None:
            store.makedirs(store._parent(path), exist_ok=True)
            store.put_file(str(temporary), path)
            store.invalidate_cache(path)

        touch_store(url, put)
        return
    _sync(temporary)
    os.replace(temporary, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _owner() -> str:
    """Return a short name of this machine and its space of process numbers."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def sweep(*urls: str) -> list[str]:
    """Remove temporary files that runs which died left in local folders.

    A file goes when the process that made it is dead, or, made on another machine, when it is
    older than `STALE_SECONDS`. Those of living processes stay.

    Args:
        urls: folders to look in, beside the local folder for temporary files.

    Returns:
        The paths removed.
    """
    folders = {Path(tempfile.gettempdir())}
    folders.update(path for path in map(local_path, urls) if path is not None)
    removed = []
    for folder in sorted(folders):
        for name in list_names(str(folder)):
            if (match := _TEMPORARY.search(name)) and _is_abandoned(folder / name, match):
                _remove(folder / name)
                removed.append(str(folder / name))
    return removed


def sweep_own(*urls: str) -> None:
    """Remove this process's own temporary files, which `sweep` leaves alone.

    Args:
        urls: folders to look in, beside the local folder for temporary files.
    """
    folders = {Path(tempfile.gettempdir())}
    folders.update(path for path in map(local_path, urls) if path is not None)
    for folder in folders:
        for path in folder.glob(f".*.tmp-{_owner()}-{os.getpid()}-*"):
            _remove(path)


def is_living_temporary(folder: str, name: str) -> bool:
    """Tell whether a name in a folder is a temporary file that `sweep` would leave alone."""
    match = _TEMPORARY.search(name)
    path = local_path(join(folder, name))
    return match is not None and path is not None and not _is_abandoned(path, match)


def _is_abandoned(path: Path, match: re.Match[str]) -> bool:
    if match["owner"] == _owner():
        return not _is_alive(int(match["pid"]))
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # One that has ended keeps its number until its parent asks for it, which a worker pool never
    # does. Without /proc it counts as alive.
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
