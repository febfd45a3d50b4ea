"""Samples: deterministic, stratified, nested, and read from the row groups needed only."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize.audit.auditing import saved_plan
from dac_tokenize.audit.measuring import MeasureOptions, Measurer
from dac_tokenize.audit.sampling import SampleRequest, allocate, pick_rows
from dac_tokenize.codec.checkpoint import load_checkpoint
from dac_tokenize.errors import CorpusError, UsageError


@given(
    sizes=st.dictionaries(st.integers(0, 9), st.integers(1, 1000), min_size=1),
    wanted=st.integers(1, 3000),
)
def test_shares_add_up_and_no_stratum_is_forgotten(sizes, wanted):
    shares = allocate(sizes, wanted)
    total = sum(sizes.values())
    assert sum(shares.values()) == min(wanted, total)
    for stratum, share in shares.items():
        assert share <= sizes[stratum]
        exact = min(wanted, total) * sizes[stratum] / total
        assert abs(share - exact) < 1 + len(sizes)
        if wanted >= len(sizes):
            assert share >= 1


def keys(corpus, **request):
    return [pick.key for pick in pick_rows(saved_plan(corpus), SampleRequest(**request))]


def test_the_same_seed_picks_the_same_rows(clean_corpus):
    assert keys(clean_corpus, count=4) == keys(clean_corpus, count=4)
    others = [keys(clean_corpus, count=4, seed=seed) for seed in range(1, 6)]
    assert any(other != keys(clean_corpus, count=4) for other in others)


def test_a_fraction_and_more_than_there_is(clean_corpus):
    assert len(keys(clean_corpus, count=None, fraction=0.34)) == 3
    assert len(keys(clean_corpus, count=100)) == 9


def test_every_stratum_of_durations_is_there(clean_corpus):
    seconds = {
        row["key"]: row["duration_seconds"]
        for path in (saved_plan(clean_corpus).shard_url(index) for index in range(3))
        for row in pq.read_table(path, columns=["key", "duration_seconds"]).to_pylist()
    }
    for seed in range(5):
        picked = [seconds[key] for key in keys(clean_corpus, count=2, seed=seed)]
        assert min(picked) < 2 <= max(picked)


def test_keys(clean_corpus):
    assert keys(clean_corpus, keys=("clip7.wav", "clip3.wav")) == ["clip3.wav", "clip7.wav"]
    with pytest.raises(CorpusError, match="no row with the key 'clip77"):
        keys(clean_corpus, keys=("clip77.wav",))


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": None, "fraction": 1.5}])
def test_wrong_requests(wrong):
    with pytest.raises(UsageError, match="expected"):
        SampleRequest(**wrong)


def test_only_the_row_groups_needed_are_read(clean_corpus, tokenizer, monkeypatch):
    plan = saved_plan(clean_corpus)
    (pick,) = pick_rows(plan, SampleRequest(keys=("clip4.wav",)))
    read = []
    original = pq.ParquetFile.read_row_group

    def counted(self, group, *args, **kwargs):
        read.append(group)
        return original(self, group, *args, **kwargs)

    options = MeasureOptions(codebooks=(1, 12))
    measurer = Measurer(plan, tokenizer, options, load_checkpoint().model)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    (clip,) = measurer.measure([pick])
    measurer.close()
    assert clip.pick.key == "clip4.wav"
    # one row group of the shard, one of the plan
    assert len(read) == 2
    assert clip.agreement == (1.0,) * 12
