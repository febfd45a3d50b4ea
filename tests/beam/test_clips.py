"""Clips to codes and back, in pipelines, against the plain codec."""

import random

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from dac_tokenize.beam import (
    DecodeAudio,
    EncodeAudio,
)
from dac_tokenize.beam import clips as clips_module
from dac_tokenize.errors import UsageError
from dac_tokenize.waveform import WaveformOptions
from tests.beam.running import IN_MEMORY, PROCESSES, RATE, SIZES, run
from tests.codec.models import (
    reference_decode,
    reference_encode,
)


def listed(record):
    assert record["audio_codes"].dtype == np.uint16
    return {**record, "audio_codes": record["audio_codes"].tolist()}


def expected_record(model, clip, key, **carried):
    codes = reference_encode(model, clip)
    return {
        "key": key,
        "audio_codes": codes.tolist(),
        "num_frames": codes.shape[1],
        "num_samples": clip.size,
        "duration_seconds": clip.size / RATE,
        "channel": None,
        **carried,
    }


@pytest.mark.parametrize(
    ("flags", "seed", "batch"), [(IN_MEMORY, 0, 64), (IN_MEMORY, 1, 3), (PROCESSES, 2, 1)]
)
def test_each_clip_has_its_own_codes(
    references, clips, model, codec, monkeypatch, flags, seed, batch
):
    """Codes are plain `DacModel`'s whatever the order and the bundles."""
    monkeypatch.setattr(clips_module, "_CLIPS_PER_BATCH", batch)
    good = [reference for reference in references if reference.key != "bad"]
    records = [
        expected_record(
            model, clip, ref.key, **ref.metadata, source_uri=ref.uri, offset_seconds=0.0
        )
        for clip, ref in zip(clips, good, strict=True)
    ]
    bad = references[3]
    message = []

    def is_the_bad_one(failed):
        (found,) = failed
        message.append(found.pop("message"))
        assert found == {"key": "bad", "uri": bad.uri, "stage": "decode", "error": "AudioError"}
        assert "bad.wav" in message[0] or "sound" in message[0]

    def build(root):
        shuffled = random.Random(seed).sample(references, len(references))
        encoded = root | beam.Create(shuffled) | EncodeAudio(codec)
        assert_that(encoded.records | beam.Map(listed), equal_to(records), "records")
        assert_that(encoded.failed, is_the_bad_one, "failed")

    counters, _ = run(build, *flags)
    assert (counters["clips"], counters["clips_failed"]) == (8, 1)
    assert counters["audio_ms"] == sum(SIZES)


def test_dicts_carry_what_they_hold(clips, model, codec):
    long = clips[2]
    elements = [
        {"key": "a", "audio": long, "sampling_rate": RATE, "text": "words"},
        {"key": "b", "audio": {"array": clips[0], "sampling_rate": RATE}},
        {"key": "nan", "audio": long * np.nan, "sampling_rate": RATE},
    ]
    records = [expected_record(model, long, "a", text="words")]
    records.append(expected_record(model, clips[0], "b"))

    def failed(found):
        assert [(f["key"], f["uri"], f["stage"], f["error"]) for f in found] == [
            ("nan", "", "waveform", "WaveformError")
        ]

    def build(root):
        encoded = root | beam.Create(elements) | EncodeAudio(codec)
        assert_that(encoded.records | beam.Map(listed), equal_to(records), "records")
        assert_that(encoded.failed, failed, "failed")

    run(build)


def test_channels_are_split(clips, model, codec):
    stereo = np.stack([clips[0], clips[0][::-1]])
    element = {"key": "s", "audio": {"array": stereo, "sampling_rate": RATE}}
    records = [
        expected_record(model, np.ascontiguousarray(stereo[c]), f"s#{c}", channel=c)
        for c in range(2)
    ]

    def build(root):
        encoded = root | beam.Create([element]) | EncodeAudio(codec, WaveformOptions("split"))
        assert_that(encoded.records | beam.Map(listed), equal_to(records))

    run(build)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"audio": [0.0]}, r"dicts with key and audio; got a dict with audio"),
        ({"key": "a"}, r"got a dict with key"),
        ({}, r"got a dict with nothing in it"),
        ("a.wav", r"got a str"),
        ({"key": 5, "audio": [0.0]}, r"keys that are text; got 5"),
    ],
)
def test_elements_that_are_no_clips(codec, element, message):
    with pytest.raises(UsageError, match=message):
        run(lambda root: root | beam.Create([element]) | EncodeAudio(codec))


def test_there_and_back(clips, model, codec):
    elements = [
        {"key": str(i), "audio": {"array": clip, "sampling_rate": RATE}}
        for i, clip in enumerate(clips)
    ]
    sounds = []
    for clip in clips:
        sound = reference_decode(model, reference_encode(model, clip)).ravel()[: clip.size]
        sounds.append(np.pad(sound, (0, clip.size - sound.size)))

    def check(found):
        by_key = {record["key"]: record for record in found}
        assert by_key.keys() == {str(i) for i in range(len(clips))}
        for i, sound in enumerate(sounds):
            record = by_key[str(i)]
            np.testing.assert_allclose(record["waveform"], sound, atol=1e-5)
            assert record["waveform"].dtype == np.float32
            assert record["sampling_rate"] == RATE
            assert "audio_codes" not in record

    def build(root):
        encoded = root | beam.Create(elements) | EncodeAudio(codec)
        assert_that(encoded.records | DecodeAudio(codec), check)

    run(build)


def test_records_without_codes(codec):
    with pytest.raises(UsageError, match=r"DecodeAudio takes dicts with audio_codes; got a dict"):
        run(lambda root: root | beam.Create([{"key": "a"}]) | DecodeAudio(codec))
