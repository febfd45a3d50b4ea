"""One small input, the corpus that plain functions make of it, and the engines."""

import os

import numpy as np
import pytest
import soundfile

from dac_tokenize.corpus import PlanRequest, finish_corpus, open_plan, tokenize_shard
from dac_tokenize.process import codec_options, tokenizer_for
from dac_tokenize.sources import list_references
from dac_tokenize.waveform import WaveformOptions, as_uri
from tests.codec.models import TINY_SHAPE, random_clip, random_model
from tests.corpus.test_tokenizing import tree
from tests.engines import services
from tests.engines.flink import flink_cluster  # noqa: F401

RATE = 1_000
SHARD_SECONDS = 12.0


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory):
    """The folder of a codec small enough that loading it costs more than encoding."""
    folder = tmp_path_factory.mktemp("engines") / "codec"
    random_model(**TINY_SHAPE | {"sampling_rate": RATE}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """Clips of 0.1 to 6 s, one of them no sound at all."""
    folder = tmp_path_factory.mktemp("engines") / "sounds"
    folder.mkdir()
    for index, size in enumerate(np.random.default_rng(11).integers(100, 6_000, 30).tolist()):
        clip = np.clip(random_clip(size, index), -1, 1)
        soundfile.write(folder / f"clip{index:02d}.wav", clip, RATE, subtype="FLOAT")
    (folder / "clip99.wav").write_text("no sound")
    return folder


@pytest.fixture(scope="session")
def expected(sounds, codec_folder, tmp_path_factory):
    """Every file of the corpus, by the plain functions."""
    output = str(tmp_path_factory.mktemp("engines") / "plain")
    tokenizer = tokenizer_for(codec_options(str(codec_folder), None, None, "cpu", "float32"))
    asked = PlanRequest(
        (as_uri(str(sounds)),), tokenizer.identity, WaveformOptions(), SHARD_SECONDS
    )
    plan = open_plan(output, asked, lambda: list_references([str(sounds)]))
    results = [tokenize_shard(plan, index, tokenizer) for index in range(plan.num_shards)]
    manifest = finish_corpus(plan, output, results)
    assert plan.num_shards >= 5
    assert (manifest.written, manifest.failed) == (30, 1)
    return tree(output)


@pytest.fixture
def encode_command(sounds, codec_folder, tmp_path):
    """The arguments of `dac-tokenize` that make the corpus in tmp_path/out."""
    return [
        "encode",
        str(sounds),
        "--model",
        str(codec_folder),
        "--device=cpu",
        f"--output={tmp_path}/out",
        f"--shard-seconds={SHARD_SECONDS:g}",
        "--num-threads=2",
        "--allow-failures",
    ]


@pytest.fixture(autouse=True)
def workers_find_python(monkeypatch):
    """Engines start workers by the name `python`."""
    for name in ("PATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, services.worker_environment()[name])
    monkeypatch.setenv("PYTHONPATH", os.fspath(services.REPOSITORY))
