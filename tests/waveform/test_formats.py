"""Every format, rate and number of channels, streamed and at once, against soundfile and soxr."""

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.errors import AudioError, ClipError, WaveformError
from dac_tokenize.references import Reference
from dac_tokenize.sources import shipped_sounds
from dac_tokenize.waveform import (
    WaveformOpener,
    WaveformOptions,
    audio_to_waveform,
    open_waveform,
    read_waveform,
    reader,
)
from tests.waveform.sounds import FORMATS, NOTICES_CUTS, ONLY_MONO, encode, tones
from tests.waveform.sounds import decode as plain_decode

FORMAT_IDS = ["-".join(pair) for pair in FORMATS]


def streamed(reference: Reference, rate: int, options: WaveformOptions | None = None) -> np.ndarray:
    waveform = open_waveform(reference, rate, options or WaveformOptions())
    blocks = list(waveform.blocks)
    for block in blocks:
        assert block.dtype == np.float32
        assert block.flags.c_contiguous
        assert block.shape[0] == waveform.num_channels
        assert 0 < block.shape[1] <= 30 * rate
    return np.concatenate(blocks, axis=1)


@pytest.fixture
def save(tmp_path):
    def save(data: bytes, name: str = "clip") -> Reference:
        path = tmp_path / name
        path.write_bytes(data)
        return Reference(key=name, uri=str(path), size_bytes=len(data))

    return save


@pytest.mark.parametrize(("format", "subtype"), FORMATS, ids=FORMAT_IDS)
def test_every_format_gives_what_soundfile_gives(format, subtype, save):
    channels = 1 if subtype in ONLY_MONO or format == "SVX" else 2
    data = encode(tones(20_000, channels), 16_000, format, subtype)
    expected, rate = plain_decode(data)
    assert abs(len(expected) - 20_000) < 1200
    reference = save(data)
    split = WaveformOptions(channels="split")
    assert np.array_equal(read_waveform(reference, rate, split), expected.T)
    assert np.array_equal(streamed(reference, rate, split), expected.T)
    assert np.array_equal(
        audio_to_waveform({"bytes": data, "path": None}, rate), expected.mean(1)[None]
    )


@pytest.mark.parametrize(
    ("format", "subtype"), NOTICES_CUTS, ids=["-".join(p) for p in NOTICES_CUTS]
)
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.999])
def test_data_cut_short_is_noticed(format, subtype, kept, save):
    channels = 1 if subtype in ONLY_MONO or format == "SVX" else 2
    data = encode(tones(20_000, channels), 16_000, format, subtype)
    reference = save(data[: int(len(data) * kept)])
    with pytest.raises(AudioError) as streaming:
        streamed(reference, 16_000)
    with pytest.raises(AudioError) as at_once:
        read_waveform(reference, 16_000)
    assert str(streaming.value) == str(at_once.value)


def test_a_cut_tells_samples_found_and_promised(save):
    data = encode(tones(1000), 16_000)
    with pytest.raises(AudioError, match=r"promises 1000 frames .*, the file holds 500 "):
        streamed(save(data[:-1000]), 16_000)


@pytest.mark.parametrize("format", ["WAV", "AIFF", "FLAC", "OGG", "MP3", "W64", "CAF", "AU"])
def test_garbage_after_the_sound_is_not_sound(format, save):
    data = encode(tones(20_000), 16_000, format)
    garbage = np.random.default_rng(3).bytes(5000)
    assert np.array_equal(streamed(save(data + garbage), 16_000), plain_decode(data)[0].T)


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 384_000])
@pytest.mark.parametrize("wanted", [16_000, 44_100])
def test_rates(rate, wanted, save):
    samples = tones(int(rate * 1.7), rate=rate)
    reference = save(encode(samples, rate, subtype="FLOAT"))
    expected = samples[:, 0] if rate == wanted else soxr.resample(samples[:, 0], rate, wanted)
    assert np.array_equal(streamed(reference, wanted)[0], expected)
    assert np.array_equal(read_waveform(reference, wanted)[0], expected)


@pytest.mark.parametrize("num_channels", range(1, 9))
def test_channels(num_channels, save):
    samples = tones(5000, num_channels)
    reference = save(encode(samples, 16_000, "WAVEX", "FLOAT"))
    total = np.zeros(5000, np.float32)
    for channel in samples.T:
        total += channel
    expected = {"mix": total[None] / np.float32(num_channels), "first": samples[:, :1].T}
    expected["split"] = samples.T
    for policy, array in expected.items():
        options = WaveformOptions(channels=policy)
        assert np.array_equal(streamed(reference, 16_000, options), array)
        resampled = streamed(reference, 24_000, options)
        assert np.array_equal(resampled, soxr.resample(array.T, 16_000, 24_000).T)


@settings(max_examples=40, deadline=None)
@given(
    block_frames=st.integers(1, 7000),
    num_frames=st.integers(3, 9000),
    num_channels=st.integers(1, 3),
    rate=st.sampled_from([8000, 16_000, 44_100]),
    policy=st.sampled_from(["mix", "first", "split"]),
)
def test_no_block_size_changes_a_sample(
    block_frames, num_frames, num_channels, rate, policy, tmp_path_factory
):
    path = tmp_path_factory.mktemp("blocks") / "a.wav"
    path.write_bytes(encode(tones(num_frames, num_channels), rate))
    reference, options = Reference("a", str(path)), WaveformOptions(channels=policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "BLOCK_SAMPLES", block_frames * num_channels)
        pieces = streamed(reference, 16_000, options)
    assert np.array_equal(pieces, read_waveform(reference, 16_000, options))


@settings(max_examples=150, deadline=None)
@given(
    offset=st.floats(0, 1.3),
    duration=st.none() | st.floats(0.0001, 1.3),
    format=st.sampled_from(["WAV", "FLAC", "OGG", "MP3", "GSM"]),
)
def test_a_segment_is_a_slice_of_the_whole(offset, duration, format, segment_files):
    reference, whole = segment_files[format]
    segment = Reference(reference.key, reference.uri, offset, duration)
    start = int(np.floor(offset * 16_000 + 0.5))
    frames = None if duration is None else int(np.floor(duration * 16_000 + 0.5))
    stop = len(whole) if frames is None else start + frames
    if start >= len(whole) or frames == 0 or stop > len(whole) + 1600:
        with pytest.raises(AudioError, match=r"past the end of the recording|holds no frame"):
            streamed(segment, 16_000)
    else:
        assert np.array_equal(streamed(segment, 16_000)[0], whole[start:stop, 0])
        assert np.array_equal(read_waveform(segment, 16_000)[0], whole[start:stop, 0])


@pytest.fixture(scope="module")
def segment_files(tmp_path_factory):
    files = {}
    for name in ("WAV", "FLAC", "OGG", "MP3", "GSM"):
        format, subtype = ("WAV", "GSM610") if name == "GSM" else (name, None)
        data = encode(tones(16_000), 16_000, format, subtype)
        path = tmp_path_factory.mktemp("segments") / name
        path.write_bytes(data)
        files[name] = Reference(name, str(path)), plain_decode(data)[0]
    return files


@pytest.mark.parametrize("format", ["MP3", "OGG", "OPUS", "FLAC", "WAV"])
def test_blocks_of_every_format(format, save, monkeypatch):
    """MP3 is rounded otherwise after a seek, and soundfile by itself seeks after every block."""
    container, subtype = ("OGG", "OPUS") if format == "OPUS" else (format, None)
    data = encode(tones(60_000, 2), 16_000, container, subtype)
    monkeypatch.setattr(reader, "BLOCK_SAMPLES", 2 * 5000)
    expected = plain_decode(data)[0].T
    found = streamed(save(data), 16_000, WaveformOptions(channels="split"))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("format", ["OGG", "OPUS", "MP3", "FLAC"])
def test_segments_in_any_order_are_slices(format, save):
    """libsndfile gives other samples of Ogg after a seek of a decoder that has read before."""
    container, subtype = ("OGG", "OPUS") if format == "OPUS" else (format, None)
    data = encode(music(8 * 48_000), 48_000, container, subtype)
    whole, reference = plain_decode(data)[0].mean(axis=1)[None], save(data)
    opener, rng = WaveformOpener(48_000), np.random.default_rng(0)
    for offset in rng.uniform(0, 7, 25).round(3):
        segment = opener.read(Reference("a", reference.uri, float(offset), 0.5))
        start = round(offset * 48_000)
        assert np.array_equal(segment, whole[:, start : start + 24_000])
    opener.close()


def music(num_frames: int) -> np.ndarray:
    """Two channels of the shipped music, which coders find harder than tones."""
    name = f"{shipped_sounds()}/music/band.ogg"
    return soundfile.read(name, dtype="float32")[0].repeat(2, axis=0)[:num_frames]


def test_segments_of_one_recording_are_opened_once(save, monkeypatch):
    reference = save(encode(tones(16_000), 16_000, "OGG"))
    opened = []
    from dac_tokenize.waveform import fetch

    plain = fetch.open_local
    monkeypatch.setattr(fetch, "open_local", lambda *a: opened.append(a) or plain(*a))
    opener = WaveformOpener(16_000)
    whole = opener.read(reference)
    opened.clear()
    pieces = [
        np.concatenate(list(opener(Reference(str(i), reference.uri, i / 10, 0.1)).blocks), 1)
        for i in range(10)
    ]
    assert np.array_equal(np.concatenate(pieces, 1), whole)
    assert len(opened) == 1
    opener.close()


def test_a_bad_segment_leaves_the_others_of_its_recording(save):
    data = bytearray(encode(tones(160_000), 16_000, "FLAC"))
    whole = plain_decode(bytes(data))[0].T
    data[len(data) // 2 : len(data) // 2 + 500] = bytes(500)
    reference = save(bytes(data))
    opener = WaveformOpener(16_000)
    for offset, is_good in ((0.0, True), (4.5, False), (1.0, True), (9.0, True), (4.5, False)):
        segment = Reference("a", reference.uri, offset, 1.0)
        if not is_good:
            with pytest.raises(AudioError, match="damaged"):
                opener.read(segment)
            continue
        start = round(offset * 16_000)
        assert np.array_equal(opener.read(segment), whole[:, start : start + 16_000])
        blocks = list(opener(segment).blocks)
        assert np.array_equal(np.concatenate(blocks, 1), whole[:, start : start + 16_000])


def test_interleaved_segments_do_not_disturb_each_other(save):
    reference = save(encode(tones(400_000), 16_000, "FLAC"))
    opener = WaveformOpener(16_000)
    whole = opener.read(reference)
    first = opener(Reference("a", reference.uri, 0, 25.0))
    second = opener(Reference("b", reference.uri, 0, 25.0))
    blocks = list(zip(first.blocks, second.blocks, strict=True))
    assert len(blocks) > 1
    for side in range(2):
        assert np.array_equal(np.concatenate([pair[side] for pair in blocks], 1), whole)


def test_a_limit_on_length(save):
    reference = save(encode(tones(16_000), 16_000, "FLAC"))
    assert streamed(reference, 16_000, WaveformOptions(max_clip_seconds=1.0)).shape == (1, 16_000)
    with pytest.raises(AudioError, match=r"lasts 1 s or more; max_clip_seconds allows 0.5 s"):
        streamed(reference, 16_000, WaveformOptions(max_clip_seconds=0.5))
    segment = Reference("a", reference.uri, 0.2, 0.4)
    assert streamed(segment, 16_000, WaveformOptions(max_clip_seconds=0.5)).shape == (1, 6400)


def test_too_short_to_resample(save):
    with pytest.raises(WaveformError, match="from 384000 to 16000 Hz no sample is left"):
        streamed(save(encode(tones(1), 384_000)), 16_000)


def test_every_error_is_a_clip_error():
    assert issubclass(AudioError, ClipError)
    assert issubclass(WaveformError, ClipError)
