"""Sound inside of Parquet files, a row group at a time."""

import os
import threading
from collections import OrderedDict
from typing import Any

from dac_tokenize.errors import AudioError, SourceError
from dac_tokenize.locators import Cell
from dac_tokenize.retries import is_transient, with_retries
from dac_tokenize.waveform.stores import FileSystems, as_uri, is_url

KEPT_ROW_GROUPS = 2


class CellReader:
    """Reads cells; keeps the row groups read last, since clips are read in their order."""

    def __init__(self, filesystems: FileSystems) -> None:
        self._filesystems = filesystems
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, int], Any] = OrderedDict()

    def read(self, uri: str, cell: Cell) -> tuple[bytes | None, str]:
        """Reads the sound of one row.

        Returns:
            The bytes; or None, and the path or URL that stands in their place.

        Raises:
            AudioError: the row holds neither.
            SourceError: the file is not what it was when it was listed.
        """
        with self._lock:
            values = self._row_group(uri, cell)
        if cell.row >= len(values):
            raise SourceError(
                f"{uri} has changed: row group {cell.row_group} has {len(values)} rows, row "
                f"{cell.row} was listed"
            )
        value = values[cell.row].as_py()
        if not isinstance(value, dict):
            value = {"bytes": value}
        if value.get("bytes") is not None:
            return value["bytes"], ""
        if value.get("path"):
            return None, beside(uri, value["path"])
        raise AudioError(
            f"row {cell.row} of row group {cell.row_group}: the column {cell.column} is null; "
            "expected the bytes of a sound"
        )

    def _row_group(self, uri: str, cell: Cell) -> Any:
        key = (uri, cell.column, cell.row_group)
        if key not in self._kept:
            while len(self._kept) >= KEPT_ROW_GROUPS:
                self._kept.popitem(last=False)
            self._kept[key] = with_retries(lambda: self._load(uri, cell), uri)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _load(self, uri: str, cell: Cell) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        filesystem, path = self._filesystems.resolve(uri)
        with filesystem.open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            if cell.object_bytes is not None and file.tell() != cell.object_bytes:
                raise SourceError(
                    f"{uri} has changed: {file.tell()} bytes, but {cell.object_bytes} when it was "
                    "listed"
                )
            try:
                table = pq.ParquetFile(file).read_row_group(cell.row_group, columns=[cell.column])
            except (pa.ArrowInvalid, OSError) as error:
                if getattr(error, "errno", None) is not None or is_transient(error):
                    raise  # the store's, not the format's
                raise SourceError(f"{uri} is damaged: {error}") from error
            return table.column(cell.column)


def beside(uri: str, path: str) -> str:
    """Completes a path that stands in a file: relative ones start at the file's folder.

    >>> beside("s3://bucket/table.parquet", "clips/a.wav")
    's3://bucket/clips/a.wav'
    """
    if is_url(path) or os.path.isabs(path):
        return as_uri(path)
    inner, chain, outer = uri.partition("::")
    joined = f"{inner.rsplit('/', 1)[0]}/{path}{chain}{outer}"
    return joined if is_url(uri) else as_uri(joined)
