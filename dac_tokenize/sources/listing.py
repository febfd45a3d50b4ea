"""All inputs of a run as one stream of references."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import quote_from_bytes

from dac_tokenize.errors import DacTokenizeError, PlanError, StoreError
from dac_tokenize.locators import RawPath, dump_locator
from dac_tokenize.references import Reference
from dac_tokenize.sources.files import FileLister, expand_braces
from dac_tokenize.sources.records import Found, as_text, faulty
from dac_tokenize.sources.suffixes import (
    KALDI_NAMES,
    PARQUET_SUFFIXES,
    TAR_SUFFIXES,
    is_container,
    plain_suffix_of,
)
from dac_tokenize.waveform.stores import as_uri, raise_if_away


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

    def _list(self, inputs: Sequence[str]) -> Iterator[Reference]:
        lister = FileLister(self.skipped)
        for one in inputs:
            uris = [one] if os.path.exists(one) else expand_braces(one)
            for uri in uris:
                for found in lister.list(uri):
                    yield from self._open(found, is_alone=found.uri == one)

    def _open(self, found: Found, is_alone: bool) -> Iterator[Reference]:
        """Lists what a file holds or names; a file of sound is itself."""
        if not is_container(found.path):
            yield _plain_reference(found)
            return
        num_listed = 0
        try:
            for reference in self._read_container(found):
                num_listed += 1
                yield reference
            if not num_listed:
                raise PlanError(f"{found.uri} holds no sound")
        except StoreError:
            raise
        except DacTokenizeError as error:
            if is_alone and not num_listed:
                raise
            yield faulty(f"{found.key}/(whole)", found.uri, str(error))

    def _read_container(self, found: Found) -> Iterator[Reference]:
        suffix = plain_suffix_of(found.path)
        try:
            if found.path.rsplit("/", 1)[-1] in KALDI_NAMES:
                from dac_tokenize.sources.kaldi import list_kaldi

                yield from list_kaldi(found)
            elif suffix in TAR_SUFFIXES:
                from dac_tokenize.sources.tar import list_tar

                yield from list_tar(found, self.skipped)
            elif suffix in PARQUET_SUFFIXES:
                from dac_tokenize.sources.parquet import list_parquet

                yield from list_parquet(found)
            else:
                from dac_tokenize.sources.manifest import list_manifest

                yield from list_manifest(found)
        except DacTokenizeError:
            raise
        except PermissionError as error:
            raise PlanError(f"no permission to read {found.uri}") from error
        except Exception as error:
            raise_if_away(found.uri, error)
            raise PlanError(
                f"{found.uri} cannot be read: {type(error).__name__}: {error}"
            ) from error


def _plain_reference(found: Found) -> Reference:
    uri = as_text(found.uri)
    locator = None
    if uri != found.uri:
        locator = dump_locator(RawPath(quote_from_bytes(os.fsencode(found.uri))))
    return Reference(key=as_text(found.key), uri=uri, size_bytes=found.size_bytes, locator=locator)


def list_references(inputs: Sequence[str | os.PathLike[str]]) -> Listing:
    """Lists what a user names, on the disk or by any fsspec URL.

    - A folder: the audio files below it, by suffix, without hidden ones; their keys are their
      paths from that folder, suffix included.
    - A file: itself, whatever its suffix; its key is its name.
    - A pattern (`*`, `?`, `[...]`, `**`): audio files, and files of the kinds below; keys are paths
      from the longest folder without a wildcard.
    - `.jsonl`, `.json`, `.csv`, `.tsv`, also with `.gz`: the rows of a manifest, those of NeMo,
      Common Voice and lhotse among them. The key is the column `key`, else the path as it is
      written and, where there is an offset, `#offset+duration`.
    - `.tar`: the audio members of a WebDataset shard; keys are the tar's and the member's name.
    - `.parquet`: rows with embedded audio, or of a manifest; the key is the column `key`, else
      that of the file and the row's number.
    - `wav.scp` and `segments`: Kaldi's recordings and segments, by their names.

    `{000..099}` and `{a,b}` are expanded first. An input that is bad in a part gives a reference
    for that part which fails with the reason when it is opened, so that it is counted.

    Args:
        inputs: paths or URLs.

    Returns:
        An iterator of references, inputs in the order given; files in them sorted by key, what
        a file holds in its own order. Its `skipped` tells what was left out.

    Raises:
        PlanError: (while it is read) an input is missing, cannot be listed, or holds no audio.

    >>> from dac_tokenize.sources import shipped_sounds
    >>> next(list_references([shipped_sounds()])).key
    'music/band.ogg'
    """
    return Listing(inputs)
