"""What all readers share: found files, metadata fit for a corpus, inputs known to be bad."""

import base64
import datetime
import decimal
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dac_tokenize.errors import ClipError, SourceError
from dac_tokenize.locators import Fault, dump_locator
from dac_tokenize.references import Reference
from dac_tokenize.retries import with_retries
from dac_tokenize.waveform.fetch import SpanFile
from dac_tokenize.waveform.stores import is_url

# the corpus's own columns: a metadata column of such a name is carried as source_<name>
RESERVED_NAMES = frozenset(
    ("key", "audio_codes", "num_frames", "num_samples", "duration_seconds", "source_uri")
) | {"channel", "offset_seconds", "source_loudness"}
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a user named, by itself or by a pattern.

    Attributes:
        key: its path relative to what was named.
        uri: where it is, as a reference gives it.
        size_bytes: its size; None where the store does not say.
        filesystem: its fsspec file system.
        path: its path in that file system.
    """

    key: str
    uri: str
    size_bytes: int | None
    filesystem: Any
    path: str

    def open(self, **options: Any) -> Any:
        """Opens it for reading bytes; what is read of a remote file is tried again."""
        file = with_retries(lambda: self.filesystem.open(self.path, "rb", **options), self.uri)
        if self.size_bytes is None or not is_url(self.uri) or not file.seekable():
            return file
        return SpanFile(file, 0, self.size_bytes, self.uri)

    def sibling(self, name: str) -> "Found":
        """Gives another file of the same folder."""
        folder, slash, _ = self.path.rpartition("/")
        uri_folder, uri_slash, _ = self.uri.rpartition("/")
        return Found(
            name, uri_folder + uri_slash + name, None, self.filesystem, folder + slash + name
        )

    def exists(self) -> bool:
        """Tells whether it is there."""
        return bool(with_retries(lambda: self.filesystem.exists(self.path), self.uri))


def faulty(key: str, uri: str, error: ClipError | str) -> Reference:
    """Makes a reference whose opening raises an error: so a bad input is counted and recorded."""
    if isinstance(error, str):
        error = SourceError(error)
    return Reference(
        key=as_text(key),
        uri=as_text(uri),
        locator=dump_locator(Fault(type(error).__name__, as_text(str(error)))),
    )


def as_text(text: str) -> str:
    r"""Makes text that UTF-8 can hold: what it cannot becomes escapes.

    >>> as_text("caf\udce9")
    'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_metadata(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Makes columns of a corpus from values of any kind.

    >>> as_metadata({"text": "hello", "channel": 1, "weight": float("nan")})
    {'text': 'hello', 'source_channel': 1, 'weight': None}
    """
    metadata = {}
    for position, (name, value) in enumerate(values.items()):
        column = as_text(str(name)) or f"column_{position}"
        if column in RESERVED_NAMES:
            column = f"source_{column}"
        metadata[column] = as_json(value)
    return metadata


def as_json(value: Any) -> Any:
    """Makes a value that JSON and Parquet can hold: times become text, bytes base64."""
    match value:
        case None | bool():
            return value
        case str():
            return as_text(value)
        case int():
            return value if value in INT64 else float(value) if abs(value) < 1e300 else str(value)
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {as_text(str(name)): as_json(item) for name, item in value.items()}
        case list() | tuple():
            return [as_json(item) for item in value]
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case decimal.Decimal():
            return float(value)
    return as_text(str(value))
