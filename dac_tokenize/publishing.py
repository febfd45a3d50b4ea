"""Files published whole, in any store.

A file is never seen half written. It is first written beside its final place (local stores) or in
the local folder for temporary files (all others), and only then given its name: by
``os.replace`` after an ``fsync``, or by one ``put_file`` of the finished file, which object stores
carry out whole or not at all.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dac_tokenize.files import exists, local_path, touch_store
from dac_tokenize.temporaries import temporary_path


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
