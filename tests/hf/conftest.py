"""A tiny codec in a folder, clips at its rate, and the codes of each alone."""

import os

import datasets
import numpy as np
import pytest
import soundfile

from tests.codec.models import TINY_SHAPE, random_clip, random_model, reference_encode

RATE = 1_000  # the least that sound files may have; it keeps rows short
NUM_SAMPLES = (803, 8, 2_400, 1, 77, 1_600, 795)


@pytest.fixture(scope="session", autouse=True)
def _quiet_datasets():
    datasets.disable_progress_bars()


@pytest.fixture(scope="session")
def model():
    """The tiny model at a rate that sound files can have."""
    return random_model(**{**TINY_SHAPE, "sampling_rate": RATE})


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """The model, saved."""
    path = tmp_path_factory.mktemp("codec")
    model.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="session")
def clips():
    """Mono clips of float32, of one sample to several windows."""
    return [np.clip(random_clip(n, seed), -1, 1) for seed, n in enumerate(NUM_SAMPLES)]


@pytest.fixture(scope="session")
def codes(model, clips):
    """What plain `DacModel` gives for each of `clips` alone."""
    return [reference_encode(model, clip) for clip in clips]


@pytest.fixture(scope="session")
def paths(clips, tmp_path_factory):
    """The clips as WAV files that hold them exactly."""
    folder = tmp_path_factory.mktemp("clips")
    written = []
    for index, clip in enumerate(clips):
        written.append(str(folder / f"{index}.wav"))
        soundfile.write(written[-1], clip, RATE, subtype="FLOAT")
    return written


@pytest.fixture
def bad_paths(paths, tmp_path):
    """Three paths, of which the second leads to no sound."""
    bad = tmp_path / "broken.wav"
    bad.write_bytes(b"RIFF but no more")
    return [paths[0], str(bad), paths[1]]


@pytest.fixture
def torchcodec():
    """The real torchcodec; where it is missing, the test is skipped, or fails if it must be there.

    Set DAC_TOKENIZE_REQUIRE_TORCHCODEC=1 where torchcodec and FFmpeg are meant to be installed.
    """
    try:
        import torchcodec.decoders
    except Exception as error:  # ImportError, or RuntimeError without FFmpeg's libraries
        if os.environ.get("DAC_TOKENIZE_REQUIRE_TORCHCODEC", "0") not in ("", "0"):
            raise
        pytest.skip(f"torchcodec with FFmpeg is not installed: {type(error).__name__}")
    return torchcodec


@pytest.fixture
def no_torchcodec(monkeypatch):
    """Makes `datasets` and everyone else believe that there is no torchcodec."""
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    for name in ("torchcodec", "torchcodec.decoders", "torchcodec.encoders"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
