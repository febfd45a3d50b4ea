"""Every form in which an audio column comes."""

from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import soxr
import torch

from dac_tokenize.errors import AudioError, SourceError, UsageError, WaveformError
from dac_tokenize.waveform import WaveformOptions, audio_to_waveform
from tests.waveform.sounds import encode, tones

RATE = 16_000
STEREO = tones(3000, 2)
WAV = encode(STEREO, RATE, "WAV", "FLOAT")
MIXED = ((STEREO[:, 0] + STEREO[:, 1]) / np.float32(2))[None]


class Decoder:
    """As torchcodec's `AudioDecoder`: all that is used of it."""

    def get_all_samples(self):
        return SimpleNamespace(data=torch.from_numpy(STEREO.T.copy()), sample_rate=RATE)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV)
    return tmp_path / "a.wav"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: {"bytes": WAV, "path": None},
        lambda path: {"bytes": WAV, "path": "gone.wav"},
        lambda path: {"bytes": bytearray(WAV), "path": None},
        lambda path: {"bytes": None, "path": str(path)},
        lambda path: {"path": path},
        lambda path: {"array": STEREO.T, "sampling_rate": RATE, "path": "gone.wav"},
        lambda path: {"array": STEREO.T.tolist(), "sampling_rate": float(RATE)},
        lambda path: {"array": torch.from_numpy(STEREO.T.copy()), "sampling_rate": RATE},
        lambda path: str(path),
        lambda path: Path(path),
        lambda path: f"file://{path}",
        lambda path: WAV,
        lambda path: memoryview(WAV),
        lambda path: Decoder(),
    ],
)
def test_forms(make, path):
    found = audio_to_waveform(make(path), RATE)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, MIXED)
    split = audio_to_waveform(make(path), RATE, options=WaveformOptions(channels="split"))
    assert np.array_equal(split, STEREO.T)
    resampled = audio_to_waveform(make(path), 24_000)
    assert np.array_equal(resampled[0], soxr.resample(MIXED[0], RATE, 24_000))


@pytest.mark.parametrize("make", [np.asarray, list, tuple, torch.from_numpy])
def test_bare_arrays_need_their_rate(make):
    mono = STEREO[:, 0].copy()
    found = audio_to_waveform(make(mono), RATE, source_sampling_rate=RATE)
    assert np.array_equal(found, mono[None])
    with pytest.raises(UsageError, match="give source_sampling_rate"):
        audio_to_waveform(make(mono), RATE)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16", "int32"])
def test_types_of_numbers(dtype):
    mono = STEREO[:, 0]
    scale = {"int16": 2**15, "int32": 2**31}.get(dtype, 1)
    array = (mono.astype(np.float64) * scale).astype(dtype)
    found = audio_to_waveform(array, RATE, source_sampling_rate=RATE)
    assert np.abs(found[0] - mono).max() < 1e-3


def test_what_datasets_gives(path):
    """The column undecoded, as rows and as a stream."""
    column = datasets.Audio(decode=False)
    dataset = datasets.Dataset.from_dict({"audio": [str(path)]}).cast_column("audio", column)
    for rows in (dataset, dataset.to_iterable_dataset()):
        assert np.array_equal(audio_to_waveform(next(iter(rows))["audio"], RATE), MIXED)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, AudioError, "found NoneType; expected a dict with bytes"),
        (7, AudioError, "found int"),
        ({}, AudioError, r"a dict with \[\], in which neither"),
        ({"bytes": None, "path": None}, AudioError, "neither bytes nor path nor array"),
        ({"array": [0.1], "sampling_rate": None}, AudioError, "neither bytes nor path nor array"),
        ({"bytes": b"", "path": "x"}, AudioError, "empty"),
        ({"bytes": b"text"}, AudioError, "not sound"),
        ({"path": "/gone.wav"}, SourceError, "there is no file /gone.wav"),
        ({"array": [], "sampling_rate": RATE}, AudioError, "without samples"),
        (
            {"array": [0.1, float("nan")], "sampling_rate": RATE},
            WaveformError,
            "sample 1 .* is nan",
        ),
        (
            {"array": np.zeros((2, 2, 2)), "sampling_rate": RATE},
            AudioError,
            "one or two dimensions",
        ),
        (
            {"array": np.zeros((3000, 2)), "sampling_rate": RATE},
            AudioError,
            r"\(num_channels, num_s",
        ),
        ({"array": ["a"], "sampling_rate": RATE}, AudioError, "expected floats, int16 or int32"),
        ({"array": [1, 2], "sampling_rate": RATE}, AudioError, "found an array of int64"),
        (
            {"array": [0.1], "sampling_rate": 4 * 10**9},
            AudioError,
            "sampling rate of 4000000000 Hz",
        ),
        ({"array": [0.1], "sampling_rate": 0}, AudioError, "sampling rate of 0 Hz"),
        ({"array": [[0.1], [0.1, 0.2]], "sampling_rate": RATE}, AudioError, "rows of one length"),
    ],
)
def test_bad_values(value, error, message):
    with pytest.raises(error, match=message):
        audio_to_waveform(value, RATE)


def test_a_limit_on_length():
    options = WaveformOptions(max_clip_seconds=0.1)
    for value in ({"array": STEREO.T, "sampling_rate": RATE}, {"bytes": WAV}):
        with pytest.raises(AudioError, match=r"max_clip_seconds allows 0.1 s"):
            audio_to_waveform(value, RATE, options=options)
