"""MP3 of unknown length, which libsndfile by itself reads in part or promises too much of."""

import io

import numpy as np
import pytest
import soundfile

from dac_tokenize.errors import AudioError
from dac_tokenize.references import Reference
from dac_tokenize.waveform import audio_to_waveform, open_waveform, read_waveform
from dac_tokenize.waveform.mpeg import unpromised_mp3_end
from tests.waveform.sounds import encode, tones

RATE = 44_100
NUM_FRAMES = 5 * RATE
ID3V1 = b"TAG" + b"title".ljust(125)
ID3V2 = b"ID3\x04\x00\x00" + bytes([0, 0, 0x10, 0]) + bytes(2048)
APE = b"APETAGEX" + bytes(24) + b"x" * 300


def mp3(mode: str) -> bytes:
    """MP3 of changing content; the header with the number of frames is cut off."""
    file = io.BytesIO()
    samples = tones(NUM_FRAMES, 2, rate=RATE)
    samples[: NUM_FRAMES // 2] *= 0.001  # so that the first frames have another bitrate
    with soundfile.SoundFile(
        file, "w", RATE, 2, format="MP3", bitrate_mode=mode, compression_level=0.5
    ) as sound:
        for start in range(0, len(samples), 4096):
            sound.write(samples[start : start + 4096])
    data = file.getvalue()
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    return data if tag < 0 else data[data.index(data[:2], tag) :]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize(
    ("before", "after"), [(b"", b""), (ID3V2, b""), (b"", ID3V1), (ID3V2, APE), (b"", APE + ID3V1)]
)
def test_all_of_it_is_read(mode, before, after, tmp_path):
    data = before + mp3(mode) + after
    assert unpromised_mp3_end(io.BytesIO(data), len(data)) is not None
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    reference = Reference("a.mp3", str(path))
    whole = read_waveform(reference, RATE)
    assert 0 <= whole.shape[1] - NUM_FRAMES <= 3 * 1152
    streamed = np.concatenate(list(open_waveform(reference, RATE).blocks), axis=1)
    assert np.array_equal(streamed, whole)
    assert np.array_equal(audio_to_waveform({"bytes": data}, RATE), whole)
    segment = read_waveform(Reference("a.mp3", str(path), 4.0, 0.5), RATE)
    assert np.array_equal(segment, whole[:, 4 * RATE : 4 * RATE + RATE // 2])


def test_libsndfile_by_itself_reads_a_part():
    """The reason for all this: should it fail one day, `mpeg.py` can go."""
    data = mp3("VARIABLE")
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        assert sound.frames != audio_to_waveform({"bytes": data}, RATE).shape[1]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("num_bytes", [1, 61, 301])
def test_a_last_frame_cut_short_is_noticed(mode, num_bytes):
    data = mp3(mode)
    with pytest.raises(AudioError, match="damaged or cut short"):
        audio_to_waveform({"bytes": data[:-num_bytes]}, RATE)


@pytest.mark.parametrize(("offset", "duration"), [(7.0, None), (7.0, 1.0), (4.0, 3.0)])
def test_segments_past_the_end(offset, duration, tmp_path):
    (tmp_path / "a.mp3").write_bytes(mp3("VARIABLE"))
    with pytest.raises(AudioError, match=r"past the end of the recording, which lasts 5\.0"):
        read_waveform(Reference("a", str(tmp_path / "a.mp3"), offset, duration), RATE)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF"])
def test_other_formats_are_not_mp3(format):
    data = encode(tones(3000), RATE, format)
    assert unpromised_mp3_end(io.BytesIO(data), len(data)) is None


def test_flac_behind_an_id3_tag():
    data = encode(tones(3000), RATE, "FLAC")
    assert np.array_equal(
        audio_to_waveform({"bytes": ID3V2 + data}, RATE), audio_to_waveform({"bytes": data}, RATE)
    )
