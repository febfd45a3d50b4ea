"""A corpus back to sound files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import soundfile

from dac_tokenize import files, publishing, temporaries
from dac_tokenize.corpus.reading import corpus_info, iter_rows
from dac_tokenize.errors import CodecError, CorpusError

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

SOUND_FORMATS = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG"}
"""File suffix to libsndfile's name of the format."""

# libsndfile 1.2.2 crashes when a minute of Vorbis is written in one call.
_WRITE_SAMPLES = 4096

# A component may have 255 bytes and a path 4,096 on most systems; temporary names need a part.
_MAX_NAME_BYTES = 120
_MAX_PATH_BYTES = 1000
_HASH_DIGITS = 32

# What Windows takes for a device whatever follows the dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """One row as a sound file.

    Attributes:
        key: key of the row.
        path: path or URL of the file.
        num_samples: its length at the codec's rate.
    """

    key: str
    path: str
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
            f"the codec {name!r} has weights {tokenizer.weights_checksum[:12]}, but {corpus} was "
            f"made with {codec.weights_checksum[:12]}; give the codec that made it as --model"
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

    A file appears when it is whole, in the place of one that was there.

    Args:
        corpus: path or URL of the corpus.
        folder: path or URL of where the files go, below it as their keys say (see `sound_path`).
        tokenizer: the corpus's codec, from `tokenizer_of`.
        sound_format: a key of `SOUND_FORMATS`.
        keys: rows wanted; None for all.

    Yields:
        Each file when it is written, in the corpus's order.

    Raises:
        CorpusError: the corpus cannot be read, a key is not in it, or a file cannot be written.

    >>> for file in decode_corpus("out", "sound", tokenizer_of("out")):  # doctest: +SKIP
    ...     print(file.path, file.num_samples)
    """
    temporaries.sweep(str(folder))
    missing = set(keys or ())
    for row in iter_rows(corpus, columns=["key", "audio_codes", "num_samples"], keys=keys):
        missing.discard(row["key"])
        url = files.join(str(folder), sound_path(row["key"], sound_format))
        try:
            with publishing.published(url) as path:
                _write(path, tokenizer, row, sound_format)
        except (OSError, soundfile.LibsndfileError) as error:
            raise CorpusError(f"{url} cannot be written: {error}") from error
        yield DecodedFile(row["key"], url, row["num_samples"])
    if missing:
        more = f" (and of {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise CorpusError(f"{corpus} has no row with the key {min(missing)!r}{more}")


def sound_path(key: str, sound_format: str) -> str:
    """Return the path of the file for a key, relative; different keys have different paths.

    The format's suffix is added to the whole key, so that `a.wav` and `a.mp3` stay two files. What
    could leave the folder, or trouble a file system, is written as %XX; what is too long is cut and
    told from others by a hash.

    >>> sound_path("speech/a.mp3", "wav")
    'speech/a.mp3.wav'
    >>> sound_path("../../etc/passwd", "wav")
    '%2E%2E/%2E%2E/etc/passwd.wav'
    """
    *folders, name = key.split("/")
    # A folder never ends like a file, so that `a` and `a.wav/b` do not want one place.
    parts = [_folder_name(folder, f".{sound_format}") for folder in folders]
    path = "/".join([*parts, f"{_safe_name(name)}.{sound_format}"])
    if len(path) > _MAX_PATH_BYTES:
        return f"{_cut(_safe_name(key), key)}.{sound_format}"
    return path


def _folder_name(part: str, suffix: str) -> str:
    name = _safe_name(part)
    if name.endswith((".", " ")):
        return f"{name[:-1]}%{ord(name[-1]):02X}"
    if name.lower().endswith(suffix):
        return f"{name[: -len(suffix)]}%2E{name[1 - len(suffix) :]}"
    return name


def _safe_name(part: str) -> str:
    """Return one component of a path, percent-encoded where it could do harm."""
    name = quote(part, safe=" ()[]{},;=+@#!'&$", errors="surrogatepass")
    if name.startswith((".", "~")) or _DEVICE.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return _cut(name, part) if len(name) > _MAX_NAME_BYTES else name or "%"


def _cut(name: str, part: str) -> str:
    """Return the beginning of a name and a hash of the whole; no short name holds `%~`."""
    digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[:_MAX_NAME_BYTES]}%~{digest[:_HASH_DIGITS]}"


def _write(path: Path, tokenizer: DacTokenizer, row: dict[str, Any], sound_format: str) -> None:
    rate, kind = tokenizer.sampling_rate, SOUND_FORMATS[sound_format]
    with soundfile.SoundFile(path, "w", rate, 1, format=kind) as file:
        for block in tokenizer.decode_blocks(row["audio_codes"], row["num_samples"]):
            for first in range(0, len(block), _WRITE_SAMPLES):
                file.write(block[first : first + _WRITE_SAMPLES])
    # libsndfile does not say when the last bytes found no room.
    written = soundfile.info(str(path)).frames
    if written != row["num_samples"]:
        raise OSError(f"{written} of {row['num_samples']} samples arrived; is the disk full?")
