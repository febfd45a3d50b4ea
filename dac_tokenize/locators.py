"""Locators: where inside an object a clip's sound lies, as one JSON text.

{"kind": "span", "start": 1536, "object_bytes": 90112, "name": "a.wav"}   a member of a tar
{"kind": "cell", "column": "audio", "row_group": 3, "row": 17}            a row of a Parquet file
{"kind": "path", "path": "/data/caf%E9.wav"}                              a name that is no UTF-8
{"kind": "fault", "error": "AudioError", "reason": "..."}                 known to be bad
"""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from dac_tokenize import errors


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of an object; how many is the reference's `size_bytes`.

    Attributes:
        start: first byte of the sound.
        object_bytes: size of the whole object when it was listed; None where unknown.
        name: the sound's own file name.
    """

    start: int
    object_bytes: int | None
    name: str
    kind: ClassVar[str] = "span"


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of a Parquet file that holds sound.

    Attributes:
        column: a struct with `bytes` and `path`, or a column of bytes.
        row_group: the row group.
        row: the row in that row group.
        object_bytes: size of the whole file when it was listed; None where unknown.
    """

    column: str
    row_group: int
    row: int
    object_bytes: int | None
    kind: ClassVar[str] = "cell"


@dataclass(frozen=True, slots=True)
class RawPath:
    """A local path whose bytes are no UTF-8, percent-quoted."""

    path: str
    kind: ClassVar[str] = "path"


@dataclass(frozen=True, slots=True)
class Fault:
    """An input found bad when it was listed; opening it raises the error.

    Attributes:
        error: name of a class in `dac_tokenize.errors`.
        reason: the message.
    """

    error: str
    reason: str
    kind: ClassVar[str] = "fault"

    def exception(self) -> errors.ClipError:
        """Gives the error to raise."""
        kind = getattr(errors, self.error, errors.SourceError)
        return (
            kind(self.reason)
            if issubclass(kind, errors.ClipError)
            else errors.ClipError(self.reason)
        )


Locator = Span | Cell | RawPath | Fault
_KINDS: dict[str, type[Locator]] = {kind.kind: kind for kind in (Span, Cell, RawPath, Fault)}


def dump_locator(locator: Locator) -> str:
    """Writes a locator.

    >>> dump_locator(Span(start=512, object_bytes=10240, name="a.wav"))
    '{"kind": "span", "start": 512, "object_bytes": 10240, "name": "a.wav"}'
    """
    return json.dumps({"kind": locator.kind, **asdict(locator)})


def load_locator(text: str) -> Locator:
    """Reads a locator.

    Raises:
        SourceError: it was written by a version that knows other kinds.

    >>> load_locator('{"kind": "path", "path": "/a%E9.wav"}').path
    '/a%E9.wav'
    """
    fields = json.loads(text)
    try:
        return _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.SourceError(f"cannot read the locator {text!r}") from error
