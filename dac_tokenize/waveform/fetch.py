"""Objects in stores to readable files: local, remote in ranges, or remote as a whole."""

import contextlib
import io
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from dac_tokenize.errors import SourceError

WHOLE_OBJECT_BYTES = 8 * 2**20  # objects up to this size are fetched in one request
SPOOL_MEMORY_BYTES = 32 * 2**20  # larger ones that must be whole go to a temporary file
RANGE_BLOCK_BYTES = 4 * 2**20  # one request's size when an object is read in ranges
RANGED_MAGICS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"caff", b"riff", b".snd")


def is_url(uri: str) -> bool:
    """Tells whether a uri names its file system, as in s3://bucket/key."""
    return "://" in uri or "::" in uri


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
            filesystem, path = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise SourceError(f"cannot open {uri}: {error}") from error
        kind = (type(filesystem), repr(sorted(filesystem.storage_options.items(), key=repr)))
        with self._lock:
            return self._instances.setdefault(kind, filesystem), path


@dataclass(slots=True)
class SourceFile:
    """An opened object.

    Attributes:
        file: readable, seekable binary file.
        size_bytes: its size.
        name: the uri, for messages.
        is_local: whether `file` has a file descriptor of its own.
    """

    file: BinaryIO
    size_bytes: int
    name: str
    is_local: bool = False

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


@contextlib.contextmanager
def source_errors(uri: str) -> Iterator[None]:
    """Turns whatever a file system raises into a `SourceError` that says what happened."""
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"there is no file {uri}") from error
    except PermissionError as error:
        raise SourceError(f"no permission to read {uri}") from error
    except IsADirectoryError as error:
        raise SourceError(f"{uri} is a folder; expected a file") from error
    except Exception as error:
        raise SourceError(f"reading {uri} failed: {type(error).__name__}: {error}") from error


def open_source(
    uri: str, filesystems: FileSystems, expected_bytes: int | None = None
) -> SourceFile:
    """Opens an object for decoding.

    Local files are opened in place. Small remote objects, and those of formats that need
    every byte anyway (MP3), are fetched whole, into memory or, past 32 MiB, into a temporary
    file; long WAV, FLAC, Ogg, AIFF ... are read in ranges as decoding asks for them.

    Args:
        uri: path or fsspec URL.
        filesystems: where file systems are kept.
        expected_bytes: the size when the object was listed; None where unknown.

    Returns:
        The opened object; closing it is the caller's.

    Raises:
        SourceError: it is missing, a folder, not permitted, unreachable, or of another size.
    """
    with source_errors(uri):
        source = _open_remote(uri, filesystems) if is_url(uri) else _open_local(uri)
    if expected_bytes is not None and source.size_bytes != expected_bytes:
        source.close()
        raise SourceError(
            f"{uri} has changed: {source.size_bytes} bytes, but {expected_bytes} when it was listed"
        )
    return source


def _open_local(path: str) -> SourceFile:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(path)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is a pipe, a socket or a device; expected a file")
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - the reader closes it
    return SourceFile(cast(BinaryIO, file), os.fstat(file.fileno()).st_size, path, is_local=True)


def _open_remote(uri: str, filesystems: FileSystems) -> SourceFile:
    filesystem, path = filesystems.resolve(uri)
    info = filesystem.info(path)
    if info.get("type") == "directory":
        raise IsADirectoryError(uri)
    size = info.get("size")
    if size is not None and size <= WHOLE_OBJECT_BYTES:
        data = filesystem.cat_file(path)
        return SourceFile(io.BytesIO(data), len(data), uri)
    file = filesystem.open(path, "rb", block_size=RANGE_BLOCK_BYTES, cache_type="readahead")
    if size is not None and file.seekable() and file.read(4) in RANGED_MAGICS:
        file.seek(0)
        return SourceFile(file, size, uri)
    with file:
        return _spool(file, filesystem, path, uri)


def _spool(file: BinaryIO, filesystem: Any, path: str, uri: str) -> SourceFile:
    """Copies what is left of a remote file to memory or, when it is long, to the disk."""
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES)  # noqa: SIM115 - as above
    if file.seekable():
        file.seek(0)
    while chunk := file.read(RANGE_BLOCK_BYTES):
        spool.write(chunk)
    size = spool.tell()
    spool.seek(0)
    return SourceFile(cast(BinaryIO, spool), size, uri)
