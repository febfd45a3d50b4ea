"""Every form in which a Hugging Face audio column comes, as one array."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dac_tokenize.errors import AudioError, UsageError
from dac_tokenize.references import Reference
from dac_tokenize.waveform.channels import apply_policy
from dac_tokenize.waveform.decode import open_sound
from dac_tokenize.waveform.fetch import SourceFile
from dac_tokenize.waveform.opening import (
    DEFAULT_OPTIONS,
    at_loudness,
    check_not_empty,
    read_waveform,
    read_whole,
)
from dac_tokenize.waveform.options import Samples, WaveformOptions
from dac_tokenize.waveform.reader import MAX_CHANNELS, check_finite, check_header, check_limit
from dac_tokenize.waveform.resample import resample_array

PCM_SCALES = {"int16": 2.0**15, "int32": 2.0**31}


def audio_to_waveform(
    value: Any,
    sampling_rate: int,
    *,
    source_sampling_rate: int | None = None,
    options: WaveformOptions = DEFAULT_OPTIONS,
) -> Samples:
    """Turns one value of an audio column into a waveform.

    Args:
        value: one of
            - a dict with "bytes" and "path" (`Audio(decode=False)`); bytes win over the path;
            - a dict with "array" and "sampling_rate";
            - a path or URL as str or Path;
            - an array, tensor or list, of shape (num_samples,) or (num_channels, num_samples),
              floating point in -1 to 1, or int16 or int32;
            - a decoder with `get_all_samples()`, as torchcodec's `AudioDecoder`.
        sampling_rate: sampling rate of the result (Hz).
        source_sampling_rate: sampling rate of a bare array (Hz); unused for the other forms.
        options: channels, limits, loudness.

    Returns:
        float32 array (num_channels, num_samples).

    Raises:
        UsageError: a bare array came without `source_sampling_rate`.
        ClipError: the value holds no sound that can be encoded.

    >>> audio_to_waveform([0.0, 0.5], 16_000, source_sampling_rate=16_000)
    array([[0. , 0.5]], dtype=float32)
    """
    if isinstance(value, Mapping):
        return _from_mapping(value, sampling_rate, options)
    if isinstance(value, str | os.PathLike):
        uri = os.fspath(value)
        return read_waveform(Reference(key=uri, uri=uri), sampling_rate, options)
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_bytes(bytes(value), sampling_rate, options)
    if hasattr(value, "get_all_samples"):
        samples = value.get_all_samples()
        return _from_array(samples.data, int(samples.sample_rate), sampling_rate, options)
    if hasattr(value, "__array__") or isinstance(value, list | tuple):
        if source_sampling_rate is None:
            raise UsageError("an array does not tell its sampling rate: give source_sampling_rate")
        return _from_array(value, source_sampling_rate, sampling_rate, options)
    raise AudioError(
        f"found {type(value).__name__}; expected a dict with bytes, path or array, a path, "
        "an array or an audio decoder"
    )


def _from_mapping(value: Mapping[str, Any], rate: int, options: WaveformOptions) -> Samples:
    if value.get("array") is not None and value.get("sampling_rate") is not None:
        return _from_array(value["array"], int(value["sampling_rate"]), rate, options)
    if value.get("bytes") is not None:
        return _from_bytes(bytes(value["bytes"]), rate, options)
    if value.get("path") is not None:
        return audio_to_waveform(os.fspath(value["path"]), rate, options=options)
    raise AudioError(
        f"found a dict with {sorted(map(str, value))}, in which neither bytes nor path nor "
        "array with sampling_rate holds a value"
    )


def _from_bytes(data: bytes, rate: int, options: WaveformOptions) -> Samples:
    reader = open_sound(SourceFile(io.BytesIO(data), len(data), "the bytes given"))
    try:
        return read_whole(reader, Reference(key="", uri=""), rate, options)
    finally:
        reader.close()


def _from_array(value: Any, source_rate: int, rate: int, options: WaveformOptions) -> Samples:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    check_header(source_rate, num_channels=1)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise AudioError(f"found no array: {error}; expected rows of one length") from error
    if array.dtype.name in PCM_SCALES:
        array = array / PCM_SCALES[array.dtype.name]
    elif not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"found an array of {array.dtype}; expected floats, int16 or int32")
    if array.ndim not in (1, 2):
        raise AudioError(f"found an array of shape {array.shape}; expected one or two dimensions")
    frames = np.atleast_2d(array).astype(np.float32).T
    if frames.shape[1] > MAX_CHANNELS:
        raise AudioError(
            f"found an array of shape {array.shape}; expected (num_samples,) or "
            f"(num_channels, num_samples) with at most {MAX_CHANNELS} channels"
        )
    if frames.size == 0:
        raise AudioError("found an array without samples; expected at least one")
    check_limit(len(frames), source_rate, options.max_clip_seconds)
    check_finite(frames, 0, source_rate)
    samples = resample_array(apply_policy(frames, options.channels), source_rate, rate)
    check_not_empty(len(samples), source_rate, rate)
    return at_loudness(np.ascontiguousarray(samples.T), rate, options)
