"""A reference: where one clip's sound lies, small enough to travel between workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one clip's sound lies, and what came with it.

    Attributes:
        key: unique and stable name of the clip in its corpus.
        uri: path or fsspec URL of the object that holds the sound.
        offset_seconds: where the clip starts in that object, 0 or more.
        duration_seconds: how long the clip is; None for all that follows the offset.
        size_bytes: size of the sound when it was listed; None where the store did not say.
            A different size later means that the object changed, and fails the clip.
        metadata: values carried unchanged into the corpus, one column each.
        locator: where in the object the sound lies, as JSON (`dac_tokenize.locators`); None
            where the object is the sound.

    >>> Reference(key="a/b.wav", uri="/data/a/b.wav").offset_seconds
    0.0
    """

    key: str
    uri: str
    offset_seconds: float = 0.0
    duration_seconds: float | None = None
    size_bytes: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    locator: str | None = None
