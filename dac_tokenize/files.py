"""Files in any store that fsspec knows: look, list and read, with patience."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dac_tokenize.errors import CorpusError
from dac_tokenize.retries import store_errors, with_retries

_CHUNK_BYTES = 1 << 20

T = TypeVar("T")


def open_store(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path or URL, and the path within it.

    Raises:
        CorpusError: there is no such kind of store, or its library is not installed.
    """
    try:
        store, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise CorpusError(f"cannot open {url}: {error}") from error
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


def remove(url: str) -> None:
    """Remove a file; no harm where there is none."""

    def remove(store: Any, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            store.rm_file(path)
        store.invalidate_cache(path)

    touch_store(url, remove)
