"""Usage of codebooks, repeats, and near-duplicates against plain references."""

import itertools

import numpy as np
import pytest
import scipy.stats

from dac_tokenize.audit.checks import longest_repeat
from dac_tokenize.audit.duplicates import SignatureSpool, signature, similarity
from dac_tokenize.audit.usage import codebook_usage, count_codes


def test_entropy_is_scipys():
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 40, (3, 500)).astype(np.uint16)
    codes[1] = codes[1] // 10
    codes[2] = 7
    counts = np.zeros((3, 64), np.int64)
    for part in np.array_split(codes, 4, axis=1):
        count_codes(counts, part)
    for book, row in zip(codebook_usage(counts), codes, strict=True):
        entropy = scipy.stats.entropy(np.bincount(row), base=2)
        assert book.entropy_bits == pytest.approx(entropy)
        assert book.perplexity == pytest.approx(2**entropy)
        assert book.used == len(set(row.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_the_longest_repeat_is_what_a_loop_finds(seed):
    codes = np.random.default_rng(seed).integers(0, 2, (2, 200)).astype(np.uint16)
    runs = [len(list(run)) for _, run in itertools.groupby(map(tuple, codes.T.tolist()))]
    assert longest_repeat(codes) == max(runs)


def runs_of(codes):
    return {tuple(codes[0, i : i + 4]) for i in range(codes.shape[1] - 3)}


def test_similarity_is_the_share_of_runs_in_common():
    generator = np.random.default_rng(3)
    one = generator.integers(0, 1024, (2, 400)).astype(np.uint16)
    for frames in (0, 40, 200, 400):
        other = one.copy()
        other[:, :frames] = generator.integers(0, 1024, (2, frames))
        shared = len(runs_of(one) & runs_of(other)) / len(runs_of(one) | runs_of(other))
        assert similarity(signature(one), signature(other)) == pytest.approx(shared, abs=0.2)


def test_pairs_are_those_of_all_with_all():
    generator = np.random.default_rng(5)
    clips = [generator.integers(0, 1024, (1, 200)).astype(np.uint16) for _ in range(60)]
    clips[17] = clips[3].copy()
    clips[40] = np.concatenate([clips[8], clips[9][:, :4]], axis=1)
    clips[41] = clips[3].copy()
    found = set()
    with SignatureSpool() as spool:
        for row, clip in enumerate(clips):
            spool.add(100 + row, signature(clip))
        for pair in spool.pairs(0.8):
            assert (pair.one, pair.other) not in found
            found.add((pair.one, pair.other))
    assert found == {(103, 117), (103, 141), (117, 141), (108, 140)}


def test_silence_is_no_duplicate():
    assert signature(np.zeros((3, 500), np.uint16)) is None
