"""A corpus of each schema version that was ever made, in tests/corpus/versions: all stay readable.

A new version adds a folder, and never changes one.
"""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from dac_tokenize.corpus import corpus_info, iter_rows, load_plan, read_failed, read_manifest
from dac_tokenize.corpus.footer import load_footer
from dac_tokenize.corpus.record import SCHEMA_VERSION
from dac_tokenize.corpus.verifying import verify_corpus

VERSIONS = Path(__file__).parent / "versions"
CODES = {"1": "973936489f73c362ae6d49398c91a3ec9b4c5438fd291bf28f2ab10c2bd8041e"}
"""SHA-256 over the codes of each version's corpus."""


@pytest.fixture(params=sorted(CODES))
def version(request):
    return request.param


@pytest.fixture
def corpus(version):
    return str(VERSIONS / version)


def test_there_is_one_of_each_version():
    folders = {path.name for path in VERSIONS.iterdir()}
    assert folders == set(CODES) == {str(v + 1) for v in range(SCHEMA_VERSION)}


def test_rows(corpus, version):
    rows = list(iter_rows(corpus))
    assert [row["key"] for row in rows] == [f"clip{index:03d}" for index in range(5)]
    assert [row["text"] for row in rows] == [f"words {index}" for index in range(5)]
    digest = hashlib.sha256(b"".join(row["audio_codes"].tobytes() for row in rows))
    assert digest.hexdigest() == CODES[version]


def test_figures(corpus):
    info = corpus_info(corpus)
    assert (info.finished, info.clips, info.failed, info.rows) == (True, 6, 1, 5)
    assert [(f.key, f.stage) for f in read_failed(corpus)] == [("text", "decode")]
    assert read_manifest(corpus).codec["num_codebooks"] == 3
    plan = load_plan(corpus)
    assert load_footer(plan.shard_url(0)).plan_fingerprint == plan.fingerprint


def test_it_is_found_whole(corpus):
    assert verify_corpus(corpus).findings == ()


def test_other_readers(corpus, tmp_path):
    loaded = load_dataset(corpus, split="train", cache_dir=str(tmp_path))
    assert loaded["key"][:] == [f"clip{index:03d}" for index in range(5)]
    assert pq.read_table(f"{corpus}/data").num_rows == 5
