"""The shipped sound through the shipped codec, and back."""

import io

import datasets
import numpy as np
import pytest
import soundfile
import soxr

from dac_tokenize import DacTokenizer, decode_batch
from dac_tokenize.cli import main
from dac_tokenize.sources import shipped_sounds

RATE = 16_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    output = tmp_path_factory.mktemp("corpus") / "out"
    assert main(["encode", shipped_sounds(), "--output", str(output)]) == 0
    return output


def likeness(one, other):
    """The highest correlation over shifts of up to a frame to each side."""
    size = min(one.size, other.size) - 640
    middle = one[320 : 320 + size]
    shifted = (other[shift : shift + size] for shift in range(0, 641, 4))
    return max(float(np.corrcoef(middle, piece)[0, 1]) for piece in shifted)


def test_from_sound_to_codes_to_sound(corpus, tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    dataset = datasets.load_dataset(str(corpus), split="train", cache_dir=cache)
    assert dataset.features["audio_codes"] == datasets.List(datasets.List(datasets.Value("uint16")))
    assert len(dataset) == 6
    tok = DacTokenizer.from_pretrained()
    codes = [np.array(row, np.uint16) for row in dataset["audio_codes"]]
    assert {clip.shape[0] for clip in codes} == {tok.num_codebooks}
    sounds = tok.decode(codes, num_samples=list(dataset["num_samples"]))
    decoded = dataset.map(decode_batch, batched=True)
    for row, sound in zip(decoded, sounds, strict=True):
        mapped, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        np.testing.assert_array_equal(mapped, sound)
        source, rate = soundfile.read(row["source_uri"], dtype="float32", always_2d=True)
        source = soxr.resample(source.mean(axis=1), rate, RATE)
        assert sound.size == source.size == row["num_samples"]
        assert likeness(source, sound) > 0.5, row["key"]
        assert likeness(source, sound[::-1]) < 0.4, row["key"]
