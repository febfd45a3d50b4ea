"""Clips of one tiny codec, their plan, and what the plain twins make of them."""

import numpy as np
import pytest
import soundfile

from dac_tokenize.corpus import finish_corpus, tokenize_shard
from dac_tokenize.corpus.planning import open_plan
from dac_tokenize.process import CodecOptions, tokenizer_for
from dac_tokenize.references import Reference
from tests.beam.running import RATE, SIZES, tree
from tests.codec.models import (
    TINY_SHAPE,
    random_clip,
    random_model,
)
from tests.corpus.fakes import request


@pytest.fixture(scope="module")
def model():
    return random_model(**{**TINY_SHAPE, "sampling_rate": RATE})


@pytest.fixture(scope="module")
def codec(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    model.save_pretrained(folder)
    return CodecOptions(str(folder), device="cpu")


@pytest.fixture(scope="module")
def clips():
    return [np.clip(random_clip(size, seed), -1, 1) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def references(clips, tmp_path_factory):
    """Every clip as a file, and one file that is none."""
    folder = tmp_path_factory.mktemp("sounds")
    made = []
    for index, clip in enumerate(clips):
        path = folder / f"{index}.wav"
        soundfile.write(path, clip, RATE, subtype="FLOAT")
        made.append(Reference(f"clip{index}", str(path), metadata={"text": f"words {index}"}))
    (folder / "bad.wav").write_text("no sound")
    made.insert(3, Reference("bad", str(folder / "bad.wav")))
    return made


@pytest.fixture
def plan(codec, references, tmp_path):
    asked = request(codec=tokenizer_for(codec).identity, shard_seconds=2.0)
    return open_plan(str(tmp_path / "out"), asked, lambda: references)


@pytest.fixture(scope="module")
def plain(codec, references, tmp_path_factory):
    """The manifest and the files of the plain twins."""
    output = tmp_path_factory.mktemp("plain") / "out"
    asked = request(codec=tokenizer_for(codec).identity, shard_seconds=2.0)
    plan = open_plan(str(output), asked, lambda: references)
    results = [tokenize_shard(plan, i, tokenizer_for(codec)) for i in range(plan.num_shards)]
    return finish_corpus(plan, str(output), results), tree(output)
