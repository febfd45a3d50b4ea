"""An output in S3 (a real server on loopback) that fails, and lies about its listings."""

import time

import pytest

from dac_tokenize import files
from dac_tokenize.corpus import iter_rows
from dac_tokenize.corpus.verifying import verify_corpus
from tests.corpus.test_tokenizing import tree as local_tree
from tests.faults.stores import BUCKET, S3Store, wait_for

moto = pytest.importorskip("moto.moto_server.werkzeug_app")


@pytest.fixture
def store(monkeypatch):
    store = S3Store(moto.DomainDispatcherApplication(moto.create_backend_app))
    store.use(monkeypatch)
    store.open().makedirs(BUCKET, exist_ok=True)
    yield store
    store.stop()


def test_one_write_in_three_fails(store, encode, whole, report):
    store.failing = 3
    run = encode("failing")
    assert run.wait() == 0
    store.failing = 0
    assert store.tree("failing") == whole[0]
    assert store.failed_writes >= 10
    report(f"S3 that failed {store.failed_writes} writes, every third: corpus identical")


def test_stale_listings(store, encode, whole, report):
    """Listings stay as they were when first asked for: of an empty folder, then of half of it."""
    store.stale = True
    assert (store.tree("stale"), files.list_names(f"s3://{BUCKET}/stale/data")) == ({}, [])
    assert encode("stale").wait() == 0
    assert encode("stale").wait() == 0
    output = f"s3://{BUCKET}/stale"
    assert len(list(iter_rows(output, columns=["key"]))) == 30
    assert verify_corpus(output).findings == ()
    assert store.stale_listings > 0
    store.stale = False
    assert store.tree("stale") == whole[0]
    report(f"S3 with {store.stale_listings} stale listings: corpus identical, all rows read")


def test_store_that_dies_and_comes_back(store, encode, whole, report):
    run = encode("back")
    wait_for(lambda: store.num_shards("back") > 8)
    store.stop()
    time.sleep(2)
    assert run.status is None
    store.start()
    assert run.wait() == 0
    assert store.tree("back") == whole[0]
    report("S3 that was away for 2 s: the same run went on, corpus identical")


def test_store_that_dies_and_stays_away(store, encode, whole, log, report):
    run = encode("gone", PATIENCE_SECONDS="1")
    wait_for(lambda: store.num_shards("gone") > 8)
    before = log.stat().st_size
    store.stop()
    assert run.wait() == 1
    text = log.read_text()[before:]
    said = [line for line in text.splitlines() if "x real time" not in line]
    assert len(said) == 1, text
    assert f"the store of s3://{BUCKET}/gone/" in said[0]
    assert "does not answer: EndpointConnectionError: " in said[0]
    assert said[0].endswith("; run again when it does")
    store.start()
    there = store.num_shards("gone")
    assert encode("gone").wait() == 0
    assert store.tree("gone") == whole[0]
    report(f"S3 that died after {there} shards: one sentence, status 1; one more run: identical")


@pytest.fixture
def encode_from(store, runs, arguments, sounds, tmp_path):
    """Start a run whose sounds lie in the bucket, into a folder on the disk."""
    store.open().put(str(sounds), f"{BUCKET}/sounds", recursive=True)

    def encode_from(name, **environment):
        environment |= store.environment()
        words = [f"{name}={value}" for name, value in environment.items()]
        command = arguments(tmp_path / name)
        command[1] = f"s3://{BUCKET}/sounds"
        return runs.start([*words, *command])

    return encode_from


def test_inputs_whose_store_dies(store, encode_from, tmp_path, log, report):
    """No clip counts as failed because its store was away."""
    assert encode_from("whole").wait() == 0
    whole = local_tree(tmp_path / "whole")
    for name, patience, status in (("back", "60", 0), ("gone", "1", 1)):
        run = encode_from(name, PATIENCE_SECONDS=patience)
        data = tmp_path / name / "data"
        wait_for(lambda data=data: data.exists() and len(list(data.iterdir())) > 6)
        before = log.stat().st_size
        store.stop()
        time.sleep(1)
        if name == "back":
            store.start()
        assert run.wait() == status
    text = log.read_text()[before:]
    (said,) = [line for line in text.splitlines() if "x real time" not in line]
    assert said.startswith("dac-tokenize: data/train-"), text
    assert f"the store of s3://{BUCKET}/sounds/clip" in said
    assert said.endswith("; run again when it does")
    store.start()
    there = len(list((tmp_path / "gone" / "data").iterdir()))
    assert encode_from("gone").wait() == 0
    for name in ("back", "gone"):
        assert local_tree(tmp_path / name) == whole
    report(
        "S3 of the inputs that was away for 1 s: the same run went on; that stayed away: one "
        f"sentence after {there} shards, status 1; one more run: both identical, no clip failed"
    )
