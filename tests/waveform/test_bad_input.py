"""Every kind of bad input: a named error that says what was found and what was expected."""

import os
import struct
import subprocess
import sys
import textwrap

import fsspec
import numpy as np
import pytest

from dac_tokenize.errors import AudioError, SourceError, UsageError, WaveformError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOptions, open_waveform, read_waveform
from tests.waveform.sounds import encode, tones

RATE = 16_000


def wav_header(rate=RATE, channels=1, data_bytes=2000, bits=16) -> bytes:
    """A WAV header that may say anything, without sound."""
    align = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 1, channels, rate, min(rate * align, 2**32 - 1), align, bits)
    riff = min(36 + data_bytes, 2**32 - 1)
    return (
        b"RIFF"
        + struct.pack("<I", riff)
        + b"WAVEfmt \x10\0\0\0"
        + fmt
        + b"data"
        + struct.pack("<I", data_bytes)
    )


def flac_promising(num_frames: int) -> bytes:
    """A FLAC file of 1000 frames whose header promises more."""
    data = bytearray(encode(tones(1000), RATE, "FLAC"))
    high, low = divmod(num_frames, 2**32)
    data[21] = (data[21] & 0xF0) | high
    data[22:26] = struct.pack(">I", low)
    return bytes(data)


WAV = encode(tones(1000), RATE)
WITH_NAN = tones(1000, 2)
WITH_NAN[700, 1] = np.nan
WITH_INFINITY = tones(1000, 2)
WITH_INFINITY[0, 0] = -np.inf

BAD_FILES = {
    "zero-bytes": (b"", AudioError, r"empty \(0 bytes\)"),
    "text": (
        b"Hello, this is no sound.\n" * 9,
        AudioError,
        r"225 bytes that start with b'Hello, this",
    ),
    "random": (np.random.default_rng(0).bytes(5000), AudioError, "not sound"),
    "zeros": (bytes(5000), AudioError, "not sound"),
    "header-cut": (WAV[:30], AudioError, "not sound"),
    "header-cut-flac": (encode(tones(1000), RATE, "FLAC")[:20], AudioError, "not sound"),
    "data-cut": (WAV[:1000], AudioError, "promises 1000 frames .* file holds 478"),
    "data-cut-flac": (encode(tones(9000), RATE, "FLAC")[:-50], AudioError, "lost sync|cut short"),
    "data-cut-mp3": (encode(tones(9000), RATE, "MP3")[:-500], AudioError, "promises 9000 frames"),
    "data-cut-ogg": (encode(tones(9000), RATE, "OGG")[:-5], AudioError, "last Ogg page"),
    "no-frames": (encode(tones(0), RATE), WaveformError, "no samples"),
    "no-frames-aiff": (encode(tones(0), RATE, "AIFF"), WaveformError, "no samples"),
    "nan": (
        encode(WITH_NAN, RATE, subtype="FLOAT"),
        WaveformError,
        r"sample 700 of channel 1 \(at 0.043750 s\) is nan",
    ),
    "infinite": (
        encode(WITH_INFINITY, RATE, subtype="DOUBLE"),
        WaveformError,
        r"sample 0 of channel 0 \(at 0.000000 s\) is -inf",
    ),
    "beyond-float32": (
        encode(np.full((9, 1), 1e300), RATE, subtype="DOUBLE"),
        WaveformError,
        "sample 0 of channel 0 .* is inf",
    ),
    "rate-1": (
        wav_header(rate=1) + bytes(2000),
        AudioError,
        "sampling rate of 1 Hz; expected 1000",
    ),
    "rate-4-GHz": (wav_header(rate=4 * 10**9) + bytes(2000), AudioError, "sampling rate|not sound"),
    "rate-0": (wav_header(rate=0) + bytes(2000), AudioError, "sampling rate|not sound"),
    "channels-255": (
        wav_header(channels=255, data_bytes=5100) + bytes(5100),
        AudioError,
        "255 channels; expected at most 64",
    ),
    "channels-0": (wav_header(channels=0) + bytes(2000), AudioError, "not sound"),
    "frames-2-to-31": (
        wav_header(data_bytes=2**32 - 2) + bytes(2000),
        AudioError,
        "promises 2147483647 frames .* file holds 1000",
    ),
    "frames-2-to-31-flac": (flac_promising(2**31), AudioError, "promises 2147483648|lost sync"),
    "frames-2-to-35-flac": (
        flac_promising(2**35 + 5),
        AudioError,
        "promises 34359738373|lost sync",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("store", ["local", "memory"])
def test_bad_file(kind, store, tmp_path):
    data, error, message = BAD_FILES[kind]
    if store == "local":
        uri = str(tmp_path / "clip.wav")
        (tmp_path / "clip.wav").write_bytes(data)
    else:
        uri = f"memory://bad/{kind}.wav"
        fsspec.filesystem("memory").pipe(uri, data)
    reference = Reference("clip.wav", uri, size_bytes=len(data))
    for read in (read_waveform, lambda *args: list(open_waveform(*args).blocks)):
        with pytest.raises(error, match=message):
            read(reference, RATE)


def test_a_missing_file(tmp_path):
    with pytest.raises(SourceError, match=r"there is no file .*/gone.wav"):
        open_waveform(Reference("gone.wav", str(tmp_path / "gone.wav")), RATE)
    with pytest.raises(SourceError, match=r"there is no file memory://gone.wav"):
        open_waveform(Reference("gone.wav", "memory://gone.wav"), RATE)


def test_a_folder(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(SourceError, match="is a folder; expected a file"):
        open_waveform(Reference("folder.wav", str(tmp_path / "folder.wav")), RATE)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(SourceError, match="is a pipe"):
        open_waveform(Reference("pipe.wav", str(tmp_path / "pipe.wav")), RATE)


def test_a_store_that_does_not_exist():
    with pytest.raises(SourceError, match=r"cannot open nosuch://a.wav"):
        open_waveform(Reference("a.wav", "nosuch://a.wav"), RATE)


def test_a_file_that_changed_since_it_was_listed(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(WAV)
    with pytest.raises(SourceError, match="has changed: 2044 bytes, but 2000 when it was listed"):
        open_waveform(Reference("a.wav", str(path), size_bytes=2000), RATE)


def test_no_permission(tmp_path, monkeypatch):
    """The tests may run as root, whom file modes do not stop: so the system call is replaced."""
    path = tmp_path / "secret.wav"
    path.write_bytes(WAV)

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", forbidden)
    with pytest.raises(SourceError, match=r"no permission to read .*/secret.wav"):
        open_waveform(Reference("secret.wav", str(path)), RATE)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can drop rights")
def test_no_permission_as_another_user(tmp_path):
    path = tmp_path / "secret.wav"
    path.write_bytes(WAV)
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    script = """
        import os, sys
        from dac_tokenize.waveform import open_waveform
        from dac_tokenize.references import Reference
        os.setuid(65534)
        open_waveform(Reference("a", sys.argv[1]), 16000)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert f"SourceError: no permission to read {path}" in done.stderr


def test_a_segment_with_impossible_times(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encode(tones(16_000), RATE))
    for times, message in (
        ((-1.0, None), "offset is -1.0 s; expected 0 or more"),
        ((float("nan"), None), "offset is nan s"),
        ((0.0, -2.0), "duration is -2.0 s; expected more than 0"),
        ((0.0, 0.0), "duration is 0.0 s"),
        ((0.0, float("inf")), "duration is inf s"),
        ((0.0, 1e-6), "holds no frame"),
        ((1.0, None), "starts at 1 s, past the end of the recording, which lasts 1 s"),
        ((0.5, 0.7), "ends at 1.2 s, past the end of the recording, which lasts 1 s"),
        ((1e300, 1.0), "past the end"),
    ):
        with pytest.raises(AudioError, match=message):
            list(open_waveform(Reference("a", str(path), *times), RATE).blocks)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": "middle"},
        {"max_clip_seconds": 0},
        {"max_clip_seconds": float("nan")},
        {"loudness": 3.0},
        {"loudness": -80.0},
    ],
)
def test_impossible_options(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        WaveformOptions(**options)
