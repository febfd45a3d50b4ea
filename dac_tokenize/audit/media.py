"""Sound and pictures of clips small enough to lie inside a page: MP3 and PNG as data URIs."""

from __future__ import annotations

import base64
import importlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.clips import Sound
from dac_tokenize.audit.metrics import log_mel
from dac_tokenize.errors import UsageError

Samples = npt.NDArray[np.float32]

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_LEVEL = 0.5  # about 43 kbit/s at 16 kHz, 64 at 44.1 kHz
_MAX_COLUMNS = 480
_RANGE_DB = 80.0
_DIFFERENCE_DB = 30.0
_SEQUENTIAL, _DIVERGING = "Magma", "RdBu_r"


@dataclass(frozen=True, slots=True)
class ClipMedia:
    """What a page plays and shows of one clip; all data URIs, or None where there is no source.

    Attributes:
        seconds: how long it plays.
        source: MP3 of the source.
        decoded: MP3 of the decoded sound.
        source_picture: PNG of the source's log-mel spectrogram.
        decoded_picture: PNG of the decoded sound's.
        difference: PNG of decoded minus source.
    """

    seconds: float
    source: str | None
    decoded: str
    source_picture: str | None
    decoded_picture: str
    difference: str | None


def clip_media(sound: Sound, sampling_rate: int) -> ClipMedia:
    """Return what a page plays and shows of one clip.

    Args:
        sound: source and decoded sound.
        sampling_rate: of both (Hz).
    """
    decoded = log_mel(sound.decoded, sampling_rate)
    source = None if sound.source is None else log_mel(sound.source, sampling_rate)
    top = float(decoded.max() if source is None else source.max())
    difference = None
    if source is not None:
        width = min(source.shape[1], decoded.shape[1])
        difference = decoded[:, :width] - source[:, :width]
    low = top - _RANGE_DB
    return ClipMedia(
        seconds=len(sound.decoded) / sampling_rate,
        source=None if sound.source is None else mp3(sound.source, sampling_rate),
        decoded=mp3(sound.decoded, sampling_rate),
        source_picture=None if source is None else png(source, low, top, _SEQUENTIAL),
        decoded_picture=png(decoded, low, top, _SEQUENTIAL),
        difference=None
        if difference is None
        else png(difference, -_DIFFERENCE_DB, _DIFFERENCE_DB, _DIVERGING),
    )


def mp3(samples: Samples, sampling_rate: int) -> str:
    """Return sound as a data URI; browsers of all makes play it.

    Args:
        samples: float32 in [-1, 1], shape (n,).
        sampling_rate: Hz; sound of a rate that MP3 does not know is resampled.
    """
    import soundfile
    import soxr

    rate = next((one for one in _MP3_RATES if one >= sampling_rate), _MP3_RATES[-1])
    if rate != sampling_rate:
        samples = soxr.resample(samples, sampling_rate, rate)
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        np.nan_to_num(np.clip(samples, -1, 1)),
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=_MP3_LEVEL,
        bitrate_mode="VARIABLE",
    )
    return _data_uri("audio/mpeg", buffer.getvalue())


def png(values: npt.NDArray[np.float32], low: float, high: float, colors: str) -> str:
    """Return a picture of a matrix as a data URI.

    Args:
        values: shape (rows, columns), the first row at the bottom; columns are joined where they
            are too many.
        low: value of the first colour.
        high: value of the last colour.
        colors: name of one of plotly's scales.
    """
    image: Any = required("PIL.Image", "pillow")
    columns = values.shape[1]
    if columns > _MAX_COLUMNS:
        edges = np.linspace(0, columns, _MAX_COLUMNS, endpoint=False).astype(int)
        sizes = np.diff(np.append(edges, columns))
        values = np.asarray(np.add.reduceat(values, edges, axis=1) / sizes, np.float32)
    shares = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-6), 0, 1)
    # Steps of about a decibel: finer ones cannot be seen, and pack worse.
    indices = (np.round(shares[::-1] * 63) * 255 / 63).astype(np.uint8)
    picture = image.fromarray(np.ascontiguousarray(indices))
    picture.putpalette(_palette(colors))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data_uri("image/png", buffer.getvalue())


def _palette(colors: str) -> bytes:
    scales: Any = required("plotly.colors", "plotly")
    shares = np.linspace(0, 1, 256).tolist()
    found = scales.sample_colorscale(colors, shares, colortype="tuple")
    return np.round(np.array(found) * 255).astype(np.uint8).tobytes()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def required(module: str, package: str) -> Any:
    """Import a library of the extra `audit`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"the page needs {package!r}; install it with pip install 'dac-tokenize[audit]'"
        ) from error
