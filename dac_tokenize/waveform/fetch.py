"""References to readable files: local, remote in ranges, remote as a whole, or inside archives."""

import io
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from urllib.parse import unquote_to_bytes

from dac_tokenize.errors import SourceError
from dac_tokenize.locators import Cell, Fault, RawPath, Span, load_locator
from dac_tokenize.references import Reference
from dac_tokenize.retries import with_retries
from dac_tokenize.waveform.cells import CellReader
from dac_tokenize.waveform.stores import (
    FileSystems,
    as_uri,
    is_http,
    is_url,
    source_errors,
)

WHOLE_OBJECT_BYTES = 8 * 2**20  # sounds up to this size are fetched in one request
SPOOL_MEMORY_BYTES = 32 * 2**20  # larger ones that must be whole go to a temporary file
RANGE_BLOCK_BYTES = 4 * 2**20  # one request's size when a sound is read in ranges
RANGED_MAGICS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"caff", b"riff", b".snd")


@dataclass(slots=True)
class SourceFile:
    """An opened sound.

    Attributes:
        file: readable, seekable binary file.
        size_bytes: its size.
        name: the uri, for messages.
        is_local: whether `file` has a file descriptor of its own that begins with the sound.
    """

    file: BinaryIO
    size_bytes: int
    name: str
    is_local: bool = False

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


class SpanFile(io.RawIOBase):
    """A span of a file as a file of its own; reads again where an error may pass.

    Args:
        file: seekable file; closed with this one.
        start: its first byte that belongs to the span.
        size_bytes: length of the span.
        name: the uri, for messages.
    """

    def __init__(self, file: Any, start: int, size_bytes: int, name: str) -> None:
        self._file, self._start, self._size, self._name = file, start, size_bytes, name
        self._position = 0

    def seekable(self) -> bool:
        """Says yes."""
        return True

    def readable(self) -> bool:
        """Says yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; only a read touches the file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Gives the position."""
        return self._position

    def read(self, num_bytes: int = -1) -> bytes:
        """Reads up to so many bytes; all that is left for -1.

        Raises:
            SourceError: the file ends too early, or cannot be read.
        """
        left = max(0, self._size - self._position)
        wanted = left if num_bytes < 0 else min(num_bytes, left)
        with source_errors(self._name):
            data = self._retried(wanted)
        if len(data) < wanted:
            raise SourceError(
                f"{self._name} has changed while it was read: it ends at byte "
                f"{self._start + self._position + len(data)}, "
                f"{self._start + self._size} were expected"
            )
        self._position += wanted
        return data

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer; gives how many bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _retried(self, num_bytes: int) -> bytes:
        position = self._start + self._position
        return with_retries(lambda: self._read_at(position, num_bytes), self._name)

    def _read_at(self, position: int, num_bytes: int) -> bytes:
        self._file.seek(position)
        data = b""
        while len(data) < num_bytes and (more := self._file.read(num_bytes - len(data))):
            data += more
        return data

    def close(self) -> None:
        """Closes the file under it."""
        self._file.close()
        super().close()


class SourceOpener:
    """Opens references; threads may share it."""

    def __init__(self) -> None:
        self.filesystems = FileSystems()
        self._cells = CellReader(self.filesystems)

    def __call__(self, reference: Reference) -> SourceFile:
        """Opens the sound of a reference for decoding.

        Local files are opened in place. Small remote sounds, and those of formats that need
        every byte anyway (MP3), are fetched whole, into memory or, past 32 MiB, into a temporary
        file; long WAV, FLAC, Ogg, AIFF ... are read in ranges as decoding asks for them.

        Returns:
            The opened sound; closing it is the caller's.

        Raises:
            SourceError: it is missing, a folder, not permitted, unreachable, or of another size.
            ClipError: the listing already found it bad.
        """
        uri = as_uri(reference.uri)
        where = None if reference.locator is None else load_locator(reference.locator)
        with source_errors(uri):
            match where:
                case None:
                    return self._open(uri, reference.size_bytes)
                case RawPath(path=path):
                    raw = os.fsdecode(unquote_to_bytes(path))
                    return self._open(raw, reference.size_bytes)
                case Span():
                    return self._open_span(uri, where, reference.size_bytes or 0)
                case Cell():
                    return self._open_cell(uri, where)
                case Fault():
                    raise where.exception()

    def _open(self, uri: str, expected_bytes: int | None) -> SourceFile:
        source = self._open_remote(uri) if is_url(uri) else open_local(uri)
        _check_size(source, expected_bytes)
        return source

    def _open_span(self, uri: str, span: Span, size_bytes: int) -> SourceFile:
        if is_url(uri):
            filesystem, path, info = self._look(uri)
            archive = SourceFile(_open_ranged(filesystem, path, uri), info.get("size") or 0, uri)
        else:
            archive = open_local(uri)
        _check_size(archive, span.object_bytes)
        if span.start + size_bytes > archive.size_bytes:
            archive.close()
            raise SourceError(
                f"{uri} is cut short: {span.name} takes its bytes {span.start} to "
                f"{span.start + size_bytes}, but it has {archive.size_bytes}"
            )
        return _whole_if_better(archive.file, span.start, size_bytes, uri)

    def _open_cell(self, uri: str, cell: Cell) -> SourceFile:
        data, path = self._cells.read(uri, cell)
        if data is None:
            return self._open(path, None)
        return SourceFile(io.BytesIO(data), len(data), uri)

    def _open_remote(self, uri: str) -> SourceFile:
        filesystem, path, info = self._look(uri)
        size = info.get("size")
        if size is not None and size <= WHOLE_OBJECT_BYTES:
            data = with_retries(lambda: filesystem.cat_file(path), uri)
            return SourceFile(io.BytesIO(data), len(data), uri)
        if size is None or (is_http(uri) and not info.get("partial")):  # it gives no ranges
            return _spool(lambda: filesystem.open(path, "rb", block_size=0), uri)
        return _whole_if_better(_open_ranged(filesystem, path, uri), 0, size, uri)

    def _look(self, uri: str) -> tuple[Any, str, dict[str, Any]]:
        filesystem, path = self.filesystems.resolve(uri)
        info = with_retries(lambda: filesystem.info(path), uri)
        if info.get("type") == "directory":
            raise IsADirectoryError(uri)
        return filesystem, path, info


def open_local(path: str) -> SourceFile:
    """Opens a local file.

    Raises:
        OSError: it cannot be opened.
        SourceError: it is no regular file.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(path)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is a pipe, a socket or a device; expected a file")
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - the reader closes it
    return SourceFile(cast(BinaryIO, file), os.fstat(file.fileno()).st_size, path, is_local=True)


def _open_ranged(filesystem: Any, path: str, uri: str) -> Any:
    options = {"block_size": RANGE_BLOCK_BYTES, "cache_type": "readahead"}
    return with_retries(lambda: filesystem.open(path, "rb", **options), uri)


def _whole_if_better(file: Any, start: int, size_bytes: int, name: str) -> SourceFile:
    """Reads a span at once when it is small or its format needs all of it anyway."""
    span = SpanFile(file, start, size_bytes, name)
    if size_bytes <= WHOLE_OBJECT_BYTES:
        with span:
            return SourceFile(io.BytesIO(span.read()), size_bytes, name)
    is_ranged = span.read(4) in RANGED_MAGICS
    span.seek(0)
    if is_ranged:
        return SourceFile(cast(BinaryIO, span), size_bytes, name)
    return _spool(lambda: span, name)


def _spool(open_file: Callable[[], Any], name: str) -> SourceFile:
    """Copies a file to memory or, when it is long, to the disk; from its start after an error."""
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES)  # noqa: SIM115 - as above

    def copy() -> None:
        spool.seek(0)
        with open_file() as file:
            while chunk := file.read(RANGE_BLOCK_BYTES):
                spool.write(chunk)

    with_retries(copy, name)
    size = spool.tell()
    spool.truncate()
    spool.seek(0)
    return SourceFile(cast(BinaryIO, spool), size, name)


def _check_size(source: SourceFile, expected_bytes: int | None) -> None:
    if expected_bytes is not None and source.size_bytes != expected_bytes:
        source.close()
        raise SourceError(
            f"{source.name} has changed: {source.size_bytes} bytes, but {expected_bytes} when it "
            "was listed"
        )
