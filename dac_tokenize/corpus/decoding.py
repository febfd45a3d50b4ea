"""A corpus back to sound files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import soundfile

from dac_tokenize.corpus.reading import corpus_info, iter_rows
from dac_tokenize.errors import CodecError, CorpusError

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

SOUND_FORMATS = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG"}
"""File suffix to libsndfile's name of the format."""

# libsndfile 1.2.2 crashes when a minute of Vorbis is written in one call.
_WRITE_SAMPLES = 4096
_MAX_NAME_BYTES = 120


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """One row as a sound file.

    Attributes:
        key: key of the row.
        path: where it was written.
        num_samples: its length at the codec's rate.
    """

    key: str
    path: Path
    num_samples: int


def tokenizer_of(
    corpus: str, model: str | None = None, revision: str | None = None, device: str = "auto"
) -> DacTokenizer:
    """Load the codec that a corpus was made with.

    Args:
        corpus: path or URL of the corpus.
        model: where the codec is now; None for where it was when the corpus was made.
        revision: as for `DacTokenizer.from_pretrained`.
        device: as for `DacTokenizer.from_pretrained`.

    Raises:
        CodecError: it does not load, or its weights are not those that made the corpus.
        CorpusError: there is no corpus.
    """
    from dac_tokenize.tokenizer import DacTokenizer

    codec = corpus_info(corpus).codec
    name, at = (codec.model_id, codec.revision) if model is None else (model, revision)
    tokenizer = DacTokenizer.from_pretrained(
        name, revision=at, num_codebooks=codec.num_codebooks, device=device
    )
    if tokenizer.weights_checksum != codec.weights_checksum:
        raise CodecError(
            f"{name!r} has weights {tokenizer.weights_checksum[:12]}, but {corpus} was made with "
            f"{codec.weights_checksum[:12]}; give the codec that made it as --model"
        )
    return tokenizer


def decode_corpus(
    corpus: str,
    folder: str | Path,
    tokenizer: DacTokenizer,
    *,
    sound_format: str = "wav",
    keys: Collection[str] | None = None,
) -> Iterator[DecodedFile]:
    """Decode rows of a corpus, one file each, in bounded memory.

    Args:
        corpus: path or URL of the corpus.
        folder: where the files go, below it as their keys say (see `sound_path`).
        tokenizer: the corpus's codec, from `tokenizer_of`.
        sound_format: a key of `SOUND_FORMATS`.
        keys: rows wanted; None for all.

    Yields:
        Each file when it is written.

    Raises:
        CorpusError: the corpus cannot be read, a key is not in it, or a file cannot be written.
    """
    missing = set(keys or ())
    for row in iter_rows(corpus, columns=["key", "audio_codes", "num_samples"], keys=keys):
        missing.discard(row["key"])
        path = Path(folder) / sound_path(row["key"], sound_format)
        try:
            _write(path, tokenizer, row, sound_format)
        except OSError as error:
            raise CorpusError(f"{path} cannot be written: {error}") from error
        yield DecodedFile(row["key"], path, row["num_samples"])
    if missing:
        raise CorpusError(f"{corpus} has no row with the key {min(missing)!r}")


def sound_path(key: str, sound_format: str) -> Path:
    """Return the relative path of the file for a key; different keys have different paths.

    The format's suffix is added to the whole key, so that `a.wav` and `a.mp3` stay two files. What
    could leave the folder, or trouble a file system, is written as %XX.

    >>> sound_path("speech/a.mp3", "wav").as_posix()
    'speech/a.mp3.wav'
    >>> sound_path("../../etc/passwd", "wav").as_posix()
    '%2E./%2E./etc/passwd.wav'
    """
    parts = [_safe_name(part) for part in key.split("/")]
    return Path(*parts[:-1], f"{parts[-1]}.{sound_format}")


def _safe_name(part: str) -> str:
    """Return one component of a path, percent-encoded where it could do harm."""
    name = quote(part, safe=" ()[]{},;=+@#!'&$")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not name:
        name = "%"
    if len(name) <= _MAX_NAME_BYTES:
        return name
    import hashlib

    # Cut, and told from others with the same beginning by a hash.
    return f"{name[:_MAX_NAME_BYTES]}%~{hashlib.sha256(part.encode()).hexdigest()[:16]}"


def _write(path: Path, tokenizer: DacTokenizer, row: dict[str, Any], sound_format: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(
        path, "w", tokenizer.sampling_rate, 1, format=SOUND_FORMATS[sound_format]
    ) as file:
        for block in tokenizer.decode_blocks(row["audio_codes"], row["num_samples"]):
            for first in range(0, len(block), _WRITE_SAMPLES):
                file.write(block[first : first + _WRITE_SAMPLES])
