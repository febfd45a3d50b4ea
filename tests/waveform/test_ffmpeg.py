"""What only FFmpeg reads: real encoders, cuts, and nothing let in by guessing."""

import contextlib
import gc
import io
import os
import sys

import numpy as np
import pytest

from dac_tokenize.errors import AudioError, SourceError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import audio_to_waveform, open_waveform, read_waveform
from dac_tokenize.waveform.fetch import SourceFile
from dac_tokenize.waveform.ffmpeg import FfmpegReader
from tests.waveform.sounds import tones

av = pytest.importorskip("av")

RATE = 48_000
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
# container, codec, and how far (frames) what is decoded may be shifted
FORMATS = [
    ("ipod", "aac", 0),
    ("mp4", "aac", 0),
    ("mp4", "alac", 0),
    ("mov", "pcm_s16le", 0),
    ("webm", "libopus", 0),
    ("matroska", "flac", 0),
    ("matroska", "pcm_f32le", 0),
    ("asf", "wmav2", 4096),
    ("adts", "aac", 2048),
    ("wv", "wavpack", 0),
    ("tta", "tta", 0),
    ("ac3", "ac3", 512),
    ("flv", "aac", 2048),
    ("avi", "mp3", 2048),
    ("ogg", "flac", 0),
]
NOTICES_CUTS = [f for f in FORMATS if f[0] not in ("adts", "ac3", "flv", "avi", "ogg")]
IDS = ["-".join(one[:2]) for one in FORMATS]


def encode(samples: np.ndarray, container: str, codec: str, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=LAYOUTS[samples.shape[1]])
        if codec not in ("alac", "flac", "wavpack", "tta") and not codec.startswith("pcm"):
            stream.bit_rate = 192_000
        for start in range(0, len(samples), 4096):
            planes = np.ascontiguousarray(samples[start : start + 4096].T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=stream.layout.name)
            frame.sample_rate, frame.pts = rate, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def best_correlation(found: np.ndarray, expected: np.ndarray, max_delay: int) -> float:
    """How alike two sounds are, one delayed against the other by at most so much."""
    length = min(len(found), len(expected)) - 2 * max_delay
    middle = expected[max_delay : max_delay + length]
    alike = np.correlate(found[: length + 2 * max_delay], middle) if max_delay else np.zeros(1)
    start = int(np.argmax(alike))
    return float(np.corrcoef(found[start : start + length], middle)[0, 1])


@pytest.mark.parametrize(("container", "codec", "max_delay"), FORMATS, ids=IDS)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_every_format(container, codec, max_delay, num_channels, tmp_path):
    samples = tones(30_000, num_channels, rate=RATE)
    path = tmp_path / "clip"
    path.write_bytes(encode(samples, container, codec))
    reference = Reference("clip", str(path))
    whole = read_waveform(reference, RATE)
    assert whole.shape[0] == 1
    assert -200 - max_delay <= whole.shape[1] - 30_000 <= 2 * 2048 + max_delay
    assert best_correlation(whole[0], samples.mean(axis=1), max_delay) > 0.98
    streamed = np.concatenate(list(open_waveform(reference, RATE).blocks), axis=1)
    assert np.array_equal(streamed, whole)
    assert np.array_equal(audio_to_waveform({"bytes": path.read_bytes()}, RATE), whole)


@pytest.mark.parametrize("codec", ["alac", "pcm_s16le"])
def test_lossless_is_lossless(codec, tmp_path):
    samples = tones(10_000, 2, rate=RATE)
    data = encode(samples, "mov", codec)
    found = audio_to_waveform({"bytes": data}, RATE)
    assert np.abs(found - samples.mean(axis=1)).max() < 2.0**-14


def test_six_channels(tmp_path):
    data = encode(tones(10_000, 6, rate=RATE), "matroska", "flac")
    assert audio_to_waveform({"bytes": data}, RATE).shape == (1, 10_000)


@pytest.mark.parametrize(("container", "codec", "max_delay"), NOTICES_CUTS)
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_data_cut_short_is_noticed(container, codec, max_delay, kept):
    data = encode(tones(96_000, rate=RATE), container, codec)
    with pytest.raises(AudioError, match=r"cut short|cannot be opened|is damaged"):
        audio_to_waveform({"bytes": data[: int(len(data) * kept)]}, RATE)


def test_segments_are_slices(tmp_path):
    path = tmp_path / "a.m4a"
    path.write_bytes(encode(tones(96_000, rate=RATE), "ipod", "aac"))
    whole = read_waveform(Reference("a", str(path)), RATE)
    for offset, duration in ((0.5, 0.25), (0.0, 1.0), (1.2, None)):
        segment = read_waveform(Reference("a", str(path), offset, duration), RATE)
        stop = None if duration is None else round((offset + duration) * RATE)
        assert np.array_equal(segment, whole[:, round(offset * RATE) : stop])


def test_text_and_noise_are_not_sound():
    """Left to guess, FFmpeg takes noise for MP3, and a playlist for leave to open other files."""
    noise = np.random.default_rng(0).bytes(100_000)
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    concat = b"ffconcat version 1.0\nfile /etc/passwd\n"
    for data in (noise, playlist, concat, b"text" * 1000):
        with pytest.raises(AudioError, match="not sound that libsndfile reads"):
            audio_to_waveform({"bytes": data}, RATE)


def test_a_video_without_sound():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no audio stream"):
        audio_to_waveform({"bytes": file.getvalue()}, RATE)


def test_without_pyav(monkeypatch):
    data = encode(tones(1000, rate=RATE), "ipod", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        AudioError, match=r"looks like MP4 or M4A.*pip install 'dac-tokenize\[av\]'"
    ):
        audio_to_waveform({"bytes": data}, RATE)


def test_errors_of_the_store_stay_its_own():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 10_000:
                raise ConnectionResetError("gone")
            return super().read(size)

    data = encode(tones(400_000, rate=RATE), "adts", "aac")
    with pytest.raises(SourceError, match=r"ConnectionResetError: gone"):  # noqa: PT012
        reader = FfmpegReader(SourceFile(Broken(data), len(data), "here"), "aac")
        while len(reader.read(10_000)):
            pass


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kept", [1.0, 0.6], ids=["whole", "cut short"])
@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("matroska", "flac")])
def test_nothing_of_a_sound_stays(container, codec, kept, no_garbage_collection):
    """FFmpeg's filters have threads, one for each core: they end with the sound."""
    data = encode(tones(96_000, rate=RATE), container, codec)
    data = data[: int(len(data) * kept)]
    before = len(os.listdir("/proc/self/task"))
    for _ in range(20):
        with contextlib.suppress(AudioError):
            audio_to_waveform({"bytes": data}, RATE)
    assert len(os.listdir("/proc/self/task")) == before


def test_nothing_of_a_sound_that_is_read_in_part_stays(no_garbage_collection):
    data = encode(tones(400_000, rate=RATE), "adts", "aac")
    before = len(os.listdir("/proc/self/task"))
    for _ in range(20):
        reader = FfmpegReader(SourceFile(io.BytesIO(data), len(data), "here"), "aac")
        assert len(reader.read(10_000)) == 10_000
        reader.close()
    assert len(os.listdir("/proc/self/task")) == before
