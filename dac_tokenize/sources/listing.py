"""All inputs of a run as one stream of references."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from dac_tokenize.errors import PlanError
from dac_tokenize.references import Reference
from dac_tokenize.sources.files import FileLister
from dac_tokenize.waveform.stores import as_uri


class Listing(Iterator[Reference]):
    """References of several inputs, listed while they are read.

    Attributes:
        skipped: files left out so far, by suffix (".txt", "(no suffix)", "(hidden)"); complete
            once the listing is read to its end.
    """

    def __init__(self, inputs: Sequence[str | os.PathLike[str]]) -> None:
        if not inputs:
            raise PlanError("no input given; expected at least one file, folder or pattern")
        self.skipped: Counter[str] = Counter()
        self._references = self._list([as_uri(one) for one in inputs])

    def __next__(self) -> Reference:
        return next(self._references)

    def _list(self, uris: Sequence[str]) -> Iterator[Reference]:
        for uri in uris:
            yield from FileLister(self.skipped).list(uri)


def list_references(inputs: Sequence[str | os.PathLike[str]]) -> Listing:
    """Lists what a user names: files, folders and globs, on the disk or by any fsspec URL.

    A folder gives the audio files below it, by suffix, without hidden ones; their keys are their
    paths from that folder, suffix included. A glob's keys are relative to its longest folder
    without a wildcard. A file named by itself is taken whatever its suffix; its key is its name.

    Args:
        inputs: paths or URLs.

    Returns:
        An iterator of references, inputs in the order given and each sorted by key; its
        `skipped` tells what was left out.

    Raises:
        PlanError: (while it is read) an input is missing, cannot be listed, or holds no audio.

    >>> from dac_tokenize.sources import shipped_sounds
    >>> next(list_references([shipped_sounds()])).key.endswith((".flac", ".ogg"))
    True
    """
    return Listing(inputs)
