"""`decode_batch`: a column of DAC codes back to audio."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dac_tokenize.codec.inputs import checked_codes
from dac_tokenize.errors import UsageError
from dac_tokenize.hf.columns import TypedColumn, codes_value, read_column, row_error
from dac_tokenize.hf.mapped import MapFunction
from dac_tokenize.process import codec_options, tokenizer_for

if TYPE_CHECKING:
    import os

    from dac_tokenize.tokenizer import DacTokenizer

AudioForm = Literal["wav", "flac", "array"]

_ENCODED_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ARRAY_TYPE = pa.struct([("array", pa.list_(pa.float32())), ("sampling_rate", pa.int64())])
_AUDIO_TYPES = {"wav": _ENCODED_TYPE, "flac": _ENCODED_TYPE, "array": _ARRAY_TYPE}
_WAVE_FORMAT_IEEE_FLOAT = 3


@MapFunction
def decode_batch(
    batch: Mapping[str, Any],
    rank: int | None = None,
    *,
    codes_column: str = "audio_codes",
    num_samples_column: str = "num_samples",
    audio_column: str = "audio",
    audio_form: AudioForm = "wav",
    model: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    device: str = "auto",
    precision: str = "float32",
) -> dict[str, list[Any]]:
    """Decodes a batch of a dataset, for `Dataset.map` and `IterableDataset.map`.

    Processes, devices and cached results are as for `encode_batch`. The new column becomes one
    that `datasets` plays by `dataset.cast_column("audio", Audio())`; neither writing nor casting
    it needs torchcodec.

    Args:
        batch: the columns of the batch.
        rank: number of the process, from `with_rank=True`.
        codes_column: name of the column of codes: integers of shape (num_codebooks, num_frames),
            as lists, arrays or tensors. Fewer codebooks than the codec has are decoded as they
            are; null gives null.
        num_samples_column: name of the column of true lengths, to which sound is cut or padded
            with zeros. Where there is no such column, or null in it, sound is as long as the
            decoder makes it.
        audio_column: name of the new column.
        audio_form: what it holds. "wav": the bytes of a float32 WAV file, which loses nothing;
            "flac": of a 24-bit FLAC file, about half as large; both as a dict of bytes and path
            (None), the form in which `datasets` itself stores audio. "array": a dict of array
            (float32) and sampling_rate, for use without an `Audio` column, to which `datasets`
            would cast it through torchcodec and 16 bits.
        model: the codec that made the codes; None for the one that ships in this package.
        revision: branch, tag or commit on the Hub.
        device: "auto" (a CUDA GPU if there is one), or any torch device.
        precision: "float32", "tf32", "float16" or "bfloat16".

    Returns:
        The new column, one value a row.

    Raises:
        ClipError: a row's codes have a wrong shape, type or range; the message names the row.
        CodecError: the codec does not load.
        UsageError: an option is wrong, or the batch has no such column.

    >>> columns = decode_batch({"audio_codes": [[[0] * 50] * 12], "num_samples": [15_900]},
    ...                        audio_form="array")
    >>> columns["audio"][0]["array"].shape, columns["audio"][0]["sampling_rate"]
    ((15900,), 16000)
    """
    if audio_form not in _AUDIO_TYPES:
        raise UsageError(f"audio_form is {audio_form!r}; expected one of {', '.join(_AUDIO_TYPES)}")
    options = codec_options(model, revision, None, device, precision)
    values = read_column(batch, codes_column)
    kind = _AUDIO_TYPES[audio_form]
    if all(value is None for value in values):
        return {audio_column: TypedColumn([None] * len(values), kind)}
    tokenizer = tokenizer_for(options, rank)
    lengths = _lengths(batch, num_samples_column, len(values))
    rows = [index for index, value in enumerate(values) if value is not None]
    decoded = tokenizer.decode(
        [_row_codes(values[index], index, tokenizer) for index in rows],
        [lengths[index] for index in rows],
    )
    audio: list[Any] = [None] * len(values)
    for index, samples in zip(rows, decoded, strict=True):
        audio[index] = _audio_value(samples, tokenizer.sampling_rate, audio_form)
    return {audio_column: TypedColumn(audio, kind)}


def _lengths(batch: Mapping[str, Any], column: str, num_rows: int) -> list[int | None]:
    """Returns the true lengths in samples; None where they are not known."""
    if column not in batch:
        return [None] * num_rows
    return [None if _is_null(value) else int(value) for value in read_column(batch, column)]


def _is_null(value: Any) -> bool:
    """Tells a null, which numpy's and torch's formats turn into NaN where others are numbers."""
    return value is None or bool(value != value)


def _row_codes(value: Any, index: int, tokenizer: DacTokenizer) -> npt.NDArray[np.integer[Any]]:
    """Returns a row's codes, checked here, where its number is known."""
    advice = "decode with the codec that made the codes, or drop the row"
    try:
        codes = codes_value(value)
        checked_codes(index, codes, tokenizer.num_codebooks, tokenizer.codebook_size)
    except UsageError as error:
        raise row_error(index, None, error, advice) from error
    return codes


def _audio_value(
    samples: npt.NDArray[np.float32], sampling_rate: int, form: AudioForm
) -> dict[str, Any]:
    if form == "array":
        return {"array": samples, "sampling_rate": sampling_rate}
    encode = _wav_bytes if form == "wav" else _flac_bytes
    return {"bytes": encode(samples, sampling_rate), "path": None}


def _wav_bytes(samples: npt.NDArray[np.float32], sampling_rate: int) -> bytes:
    """Returns a mono float32 WAV file.

    Written here because libsndfile puts the time of day into such a file's PEAK chunk, and equal
    sound should be equal bytes.
    """
    data = samples.astype("<f4").tobytes()
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sII4sI",
        *(b"RIFF", 4 + 24 + 12 + 8 + len(data), b"WAVE"),
        *(b"fmt ", 16, _WAVE_FORMAT_IEEE_FLOAT, 1, sampling_rate, 4 * sampling_rate, 4, 32),
        *(b"fact", 4, len(samples)),
        *(b"data", len(data)),
    )
    return header + data


def _flac_bytes(samples: npt.NDArray[np.float32], sampling_rate: int) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sampling_rate, format="FLAC", subtype="PCM_24")
    return buffer.getvalue()
