"""An output in Google Cloud Storage (a real server of its protocol on loopback) that fails."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from dac_tokenize import files, publishing
from dac_tokenize.corpus.verifying import verify_corpus
from tests.engines import services
from tests.faults.stores import BUCKET, GcsStore, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with services.gcs_server(tmp_path_factory.mktemp("faults")) as url:
        requests.post(f"{url}/storage/v1/b", json={"name": BUCKET}).raise_for_status()
        yield url


@pytest.fixture
def store(server, monkeypatch):
    store = GcsStore(server)
    store.use(monkeypatch)
    yield store
    store.stop()


def test_one_write_in_five_fails(store, encode, whole, report):
    store.failing = 5  # gcsfs waits for more than a second after each
    run = encode("failing")
    assert run.wait() == 0
    store.failing = 0
    assert store.tree("failing") == whole[0]
    assert store.failed_writes >= 6
    report(f"GCS that failed {store.failed_writes} writes, every fifth: corpus identical")


def test_stale_listings(store, encode, whole, report):
    store.stale = True
    assert (store.tree("stale"), files.list_names(f"gs://{BUCKET}/stale/data")) == ({}, [])
    assert encode("stale").wait() == 0
    assert encode("stale").wait() == 0
    assert verify_corpus(f"gs://{BUCKET}/stale").findings == ()
    assert store.stale_listings > 0
    store.stale = False
    assert store.tree("stale") == whole[0]
    report(f"GCS with {store.stale_listings} stale listings: corpus identical, all rows read")


def test_store_that_dies_and_comes_back(store, encode, whole, report):
    run = encode("back")
    wait_for(lambda: store.num_shards("back") > 8)
    store.stop()
    time.sleep(2)
    assert run.status is None
    store.start()
    assert run.wait() == 0
    assert store.tree("back") == whole[0]
    report("GCS that was away for 2 s: the same run went on, corpus identical")


def test_driver_killed(store, encode, whole, report):
    run = encode("killed")
    wait_for(lambda: store.num_shards("killed") > 8)
    run.kill()
    assert run.wait() < 0
    there = store.num_shards("killed")
    assert encode("killed").wait() == 0
    assert store.tree("killed") == whole[0]
    report(f"GCS, driver killed after {there} shards: one more run, corpus identical")


def test_two_drivers_at_once(store, encode, whole, report):
    runs = [encode("both"), encode("both")]
    assert [run.wait() for run in runs] == [0, 0]
    assert store.tree("both") == whole[0]
    report("GCS, two drivers on one output: both ended with 0, corpus identical")


def test_of_many_writers_one_wins(store):
    for trial in range(5):
        url = f"gs://{BUCKET}/new/{trial}"
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(publishing.publish_new, map(b"%d".__mod__, range(8)), [url] * 8))
        assert sum(won) == 1
        assert files.read_bytes(url) == b"%d" % won.index(True)


def test_file_of_many_parts(store):
    """gcsfs sends it in parts of 50 MiB."""
    url = f"gs://{BUCKET}/parts/large"
    data = bytes(range(256)) * (60 << 12)
    with publishing.published(url) as path:
        path.write_bytes(data)
    assert files.read_bytes(url) == data
