import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.corpus import cutting
from dac_tokenize.corpus.cutting import EvenSample, SizeSamples, estimate_seconds, shard_starts

LENGTHS = st.lists(st.integers(0, 12).map(float), max_size=60)


def plain_cut(seconds, shard_seconds, max_clips):
    """Put each clip into the last shard if it fits there, else into a new one."""
    shards = []
    for length in seconds:
        fits = shards and len(shards[-1]) < max_clips and sum(shards[-1]) + length <= shard_seconds
        if fits:
            shards[-1].append(length)
        else:
            shards.append([length])
    return shards


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 20), st.integers(1, 8))
def test_cut_equals_plain_cut(seconds, shard_seconds, max_clips):
    starts = list(shard_starts(seconds, shard_seconds, max_clips))
    ends = [*starts[1:], len(seconds)]
    found = [seconds[start:end] for start, end in zip(starts, ends, strict=True)] if starts else []
    assert found == plain_cut(seconds, shard_seconds, max_clips)


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 9))
def test_sample_is_even_and_bounded(count, size):
    sample = EvenSample(size)
    for item in range(count):
        sample.add(item)
        assert len(sample.kept) < 2 * size or size == 1
    items = sample.items()
    assert len(items) == min(count, len(items)) <= size
    assert items == sorted(set(items))
    assert items[:1] == [0][:count]
    if count >= size:
        assert len(items) == size or len(items) > size // 2
    gaps = [later - earlier for earlier, later in itertools.pairwise(items)]
    assert not gaps or max(gaps) <= 2 * min(gaps)


def test_few_files_of_many_are_probed():
    samples = SizeSamples()
    probed = []
    for index in range(10_000):
        samples.add(f"s3://bucket/{index}.FLAC", 1000)
        samples.add(f"s3://bucket/{index}.mp3", 500)

    def probe(uri):
        probed.append(uri)
        return 2.0 if uri.endswith("FLAC") else None

    rates = samples.bytes_per_second(probe)
    assert rates == {".flac": 500.0, ".mp3": cutting.FALLBACK_BYTES_PER_SECOND[".mp3"]}
    assert len(probed) <= 2 * cutting.FILES_PROBED


def test_incredible_headers_do_not_count():
    samples = SizeSamples()
    for name, size in [("a.wav", 32_000), ("long.wav", 1000), ("zero.wav", 1000)]:
        samples.add(name, size)
    lengths = {"a.wav": 1.0, "long.wav": 1e9, "zero.wav": 0.0}
    assert samples.bytes_per_second(lengths.__getitem__) == {".wav": 32_000.0}


def test_suffixes_are_bounded():
    samples = SizeSamples()
    for index in range(1000):
        samples.add(f"a.x{index}", 10)
    assert len(samples.bytes_per_second(lambda uri: None)) == 64


def test_estimates():
    rates = {".wav": 100.0}
    assert estimate_seconds("a.wav", 5.0, 2.0, 1000, rates) == 2.0
    assert estimate_seconds("a.wav", 4.0, None, 1000, rates) == 6.0
    assert estimate_seconds("a.wav", 40.0, None, 1000, rates) == 0.0
    assert estimate_seconds("a.wav", 0.0, None, None, rates) == cutting.UNKNOWN_SECONDS
    assert estimate_seconds("a.flac", 0.0, None, 100_000, rates) == 2.0
    assert math.isclose(estimate_seconds("a", 0.0, None, 16_000, rates), 1.0)


def test_probe_of_what_is_no_sound(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    assert cutting.probe_seconds(str(tmp_path / "a.wav")) is None
    assert cutting.probe_seconds(str(tmp_path / "missing.wav")) is None
    assert cutting.probe_seconds("nonsense://a.wav") is None
