"""A tiny codec, sounds at its rate, and the command line called in this process."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from dac_tokenize.cli import main
from tests.codec.models import TINY_SHAPE, random_clip, random_model

RATE = 1_000


@pytest.fixture(scope="session")
def model():
    """A codec small enough that tests are quick."""
    return random_model(**{**TINY_SHAPE, "sampling_rate": RATE})


@pytest.fixture(scope="session")
def codec(model, tmp_path_factory):
    """The folder of that codec."""
    folder = tmp_path_factory.mktemp("codec")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def other_codec(tmp_path_factory):
    """One of the same shape and other weights."""
    folder = tmp_path_factory.mktemp("other")
    random_model(seed=1, **{**TINY_SHAPE, "sampling_rate": RATE}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def clips():
    """Clips by key."""
    sizes = {"a/one.wav": 3_001, "a/two.wav": 1, "b.wav": 900, "c/d/three.wav": 12_345}
    return {
        key: np.clip(random_clip(n, seed), -1, 1) for seed, (key, n) in enumerate(sizes.items())
    }


@pytest.fixture
def sounds(clips, tmp_path):
    """The clips as files that hold them exactly."""
    folder = tmp_path / "sounds"
    for key, clip in clips.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / key, clip, RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def call(capsys):
    """Call the command line; gives status, out and err, and refuses tracebacks and noise."""

    def call(*arguments):
        capsys.readouterr()
        status = main([str(one) for one in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert all(line.startswith("dac-tokenize: ") for line in err.splitlines()), err
        return SimpleNamespace(status=status, out=out, err=err)

    return call


@pytest.fixture
def encode(call, sounds, codec, tmp_path):
    """Encode the sounds in shards of 5 s into tmp_path/out."""

    def encode(*more, inputs=(sounds,), model=codec):
        fixed = ("--model", model, "--output", tmp_path / "out", "--shard-seconds", 5)
        return call("encode", *inputs, *fixed, *more)

    return encode
