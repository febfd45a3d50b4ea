"""The promise: a clip's codes are those of `DacModel.encode` on it alone, whatever its company."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dac_tokenize
from dac_tokenize import CodecError, DacTokenizer, UsageError, WaveformError
from tests.codec.models import (
    PUBLISHED_SHAPES,
    TINY_SHAPE,
    published_model,
    random_clip,
    random_model,
    reference_decode,
    reference_encode,
    tie_margin,
    tiny_model,
)
from tests.conftest import TOKEN_COUNTS


@functools.cache
def tokenizer(name: str, **options) -> DacTokenizer:
    model = {"tiny": tiny_model, "shipped": shipped_model}.get(name)
    return DacTokenizer.from_pretrained(
        model() if model else published_model(name), device="cpu", **options
    )


@functools.cache
def shipped_model():
    from dac_tokenize.codec.checkpoint import load_checkpoint

    return load_checkpoint().model


def reference_model(name: str):
    return {"tiny": tiny_model, "shipped": shipped_model}.get(
        name, functools.partial(published_model, name)
    )()


# Cosines this close are one number to float32: each of some ten layers rounds at 6e-8 of its size.
TIE = 5e-6


def compare(name: str, clips: list[np.ndarray], codes: list[np.ndarray]) -> None:
    """Assert that `codes` are the reference's, and count.

    Where two entries score alike to float32's precision the reference itself chooses by rounding,
    differently with another number of threads. Such a tie is counted apart, anything else fails.
    """
    count = TOKEN_COUNTS.setdefault(name, [0, 0, 0])
    model = reference_model(name)
    for clip, ours in zip(clips, codes, strict=True):
        expected = reference_encode(model, clip)
        assert ours.dtype == np.uint16
        assert ours.shape == expected.shape
        different = ours != expected
        count[0] += expected.size
        for frame in np.flatnonzero(different.any(axis=0)):
            margin = tie_margin(model, clip, frame, expected[:, frame], ours[:, frame])
            assert margin < TIE, f"{len(clip)} samples, frame {frame}: scores differ by {margin}"
            count[1] += int(different[:, frame].sum())
            count[2] += 1


# ---- the promise -------------------------------------------------------------------------------

lengths = st.one_of(
    st.integers(1, 40),
    st.builds(lambda n, d: max(1, 8 * n + d), st.integers(1, 200), st.integers(-1, 1)),
    st.integers(41, 2_000),
)


@settings(deadline=None, max_examples=60)
@given(
    clip_lengths=st.lists(lengths, min_size=1, max_size=12),
    row_frames=st.integers(39, 120),
    rows_per_batch=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_lengths_in_any_rows(
    clip_lengths: list[int], row_frames: int, rows_per_batch: int, seed: int
) -> None:
    tok = tokenizer("tiny", row_seconds=row_frames / 100, rows_per_batch=rows_per_batch)
    clips = [random_clip(n, seed + i) for i, n in enumerate(clip_lengths)]
    compare("tiny", clips, tok.encode(clips))


@pytest.mark.parametrize("name", [*PUBLISHED_SHAPES, "shipped"])
def test_published_shapes_from_one_sample_to_several_windows(name: str) -> None:
    tok = tokenizer(name, row_seconds=4.0)
    hop, row = tok.hop_length, tok.hop_length * round(4 * tok.frame_rate)
    edges = [1, 2, hop - 1, hop, hop + 1, row - 1, row, row + 1, row + hop, 2 * row + 17, 3 * row]
    generator = np.random.default_rng(7)
    many = generator.integers(1, row // 3, 40).tolist()
    clips = [random_clip(n, seed) for seed, n in enumerate(edges + many)]
    compare(name, clips, tok.encode(clips))


@pytest.mark.parametrize("name", ["16khz", "shipped"])
def test_order_and_grouping_change_nothing(name: str) -> None:
    tok = tokenizer(name)
    generator = np.random.default_rng(3)
    clips = [random_clip(int(n), seed) for seed, n in enumerate(generator.integers(1, 60_000, 12))]
    together = tok.encode(clips)
    order = generator.permutation(len(clips))
    shuffled = tok.encode([clips[i] for i in order])
    for position, i in enumerate(order):
        np.testing.assert_array_equal(shuffled[position], together[i])
        np.testing.assert_array_equal(tok.encode([clips[i]])[0], together[i])


def test_the_comparison_can_fail() -> None:
    """Without the masks the same comparison finds differences that are no ties."""
    tok = DacTokenizer.from_pretrained(tiny_model(), device="cpu", row_seconds=2.0)
    clips = [random_clip(400, seed) for seed in range(8)]
    from dac_tokenize.codec import engine as room

    original = room.level_gaps
    room.level_gaps = lambda *args: [[] for _ in original(*args)]
    try:
        codes = tok.encode(clips)
    finally:
        room.level_gaps = original
    with pytest.raises(AssertionError, match="scores differ by"):
        compare("tiny", clips, codes)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=6), st.integers(0, 99))
def test_blocks_change_nothing(sizes: list[int], seed: int) -> None:
    tok = tokenizer("tiny", row_seconds=0.6)
    clip = random_clip(sum(sizes) + 1, seed)
    blocks = np.split(clip, np.cumsum(sizes))
    (item,) = tok.encode_stream([iter(blocks)])
    np.testing.assert_array_equal(item.audio_codes, tok.encode([clip])[0])
    assert item.num_samples == len(clip)


def test_channels_are_lanes_of_their_own() -> None:
    tok = tokenizer("tiny")
    clip = np.stack([random_clip(900, 1), random_clip(900, 2)])
    items = list(tok.encode_stream([clip, clip[0]]))
    assert [(i.index, i.channel) for i in items] == [(0, 0), (0, 1), (1, 0)]
    for item, channel in zip(items, (0, 1, 0), strict=True):
        np.testing.assert_array_equal(item.audio_codes, tok.encode([clip[channel]])[0])


def test_fewer_codebooks_are_the_first_rows() -> None:
    clips = [random_clip(5_000, 1)]
    few = DacTokenizer.from_pretrained(published_model("16khz"), num_codebooks=4, device="cpu")
    every = tokenizer("16khz")
    assert few.num_codebooks == 4
    np.testing.assert_array_equal(few.encode(clips)[0], every.encode(clips)[0][:4])


def test_resampling_happens_before_encoding() -> None:
    import soxr

    tok = tokenizer("16khz")
    clip = random_clip(44_100, 5)
    resampled = soxr.resample(clip, 44_100, 16_000)
    (ours,) = tok.encode([clip], sampling_rate=44_100)
    np.testing.assert_array_equal(ours, tok.encode([resampled])[0])


# ---- streams -----------------------------------------------------------------------------------


def test_a_stream_is_lazy_and_holds_little() -> None:
    tok = tokenizer("tiny", row_seconds=1.0)
    taken = 0

    def clips():
        nonlocal taken
        for seed in range(400):
            taken += 1
            yield random_clip(160, seed)

    for item in tok.encode_stream(clips()):
        # 16 rows of 100 frames may wait, a clip is 20 frames and a gap: some 60 clips.
        assert taken - item.index < 120
    assert taken == 400


def test_a_clip_that_fails_on_its_way_leaves_nothing_and_the_others_whole() -> None:
    tok = tokenizer("tiny", row_seconds=0.6)

    def broken():
        yield random_clip(3_000, 1)
        raise dac_tokenize.AudioError("cut short")

    good = random_clip(500, 2)
    items = list(tok.encode_stream([good, broken(), good]))
    assert [item.index for item in items] == [0, 1, 2]
    assert isinstance(items[1].error, dac_tokenize.AudioError)
    assert items[1].audio_codes is None
    for item in (items[0], items[2]):
        np.testing.assert_array_equal(item.audio_codes, tok.encode([good])[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named(bad: float) -> None:
    clip = random_clip(2_000, 1)
    clip[1234] = bad
    with pytest.raises(WaveformError, match=rf"clip 1 holds {bad} at sample 1234 \(1.542 s\)"):
        tokenizer("tiny").encode([random_clip(10, 0), clip])


def test_an_empty_clip_is_an_error_of_that_clip() -> None:
    items = list(tokenizer("tiny").encode_stream([np.zeros(0, np.float32), np.zeros(9)]))
    assert isinstance(items[0].error, WaveformError)
    assert items[1].audio_codes.shape == (3, 2)
    assert list(tokenizer("tiny").encode_stream([])) == []


# ---- decoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", *PUBLISHED_SHAPES, "shipped"])
def test_decoding_gives_what_the_model_gives_for_the_whole(name: str) -> None:
    tok = tokenizer(name, row_seconds=4.0)
    generator = np.random.default_rng(1)
    row = round(4 * tok.frame_rate)
    codes = [
        generator.integers(0, tok.codebook_size, (tok.num_codebooks, n)).astype(np.uint16)
        for n in (1, 2, 30, row - 1, row, row + 1, 3 * row + 5)
    ]
    for ours, clip_codes in zip(tok.decode(codes), codes, strict=True):
        expected = reference_decode(reference_model(name), clip_codes)
        assert ours.shape == expected.shape
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, atol=5e-5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=8), st.integers(39, 130))
def test_decoding_does_not_depend_on_company(frames: list[int], row_frames: int) -> None:
    tok = tokenizer("tiny", row_seconds=row_frames / 100)
    generator = np.random.default_rng(len(frames))
    codes = [generator.integers(0, 16, (3, n)) for n in frames]
    together = tok.decode(codes)
    for clip_codes, sound in zip(codes, together, strict=True):
        # Sound is promised to rounding: with rows of some odd lengths oneDNN computes the first and
        # the last positions of a row in another order.
        np.testing.assert_allclose(tok.decode([clip_codes])[0], sound, atol=2e-6)
        blocks = np.concatenate(list(tok.decode_blocks(clip_codes)))
        np.testing.assert_allclose(blocks, sound, atol=2e-6)
        np.testing.assert_allclose(sound, reference_decode(tiny_model(), clip_codes), atol=1e-5)


def test_decoding_cuts_and_pads_to_the_true_length() -> None:
    tok = tokenizer("16khz")
    codes = tok.encode([random_clip(1_000, 1)])[0]
    (plain,) = tok.decode([codes])
    assert len(plain) == 4 * 320 - 8  # the odd stride's shortfall
    for wanted in (1_000, 1_272, 1_280):
        (sound,) = tok.decode([codes], num_samples=[wanted])
        assert len(sound) == wanted
        np.testing.assert_allclose(sound[:1_272], plain[:wanted], atol=2e-6)
        assert not sound[1_272:].any()
        blocks = list(tok.decode_blocks(codes, num_samples=wanted))
        np.testing.assert_allclose(np.concatenate(blocks), sound, atol=2e-6)


def test_fewer_codebooks_decode_beside_more() -> None:
    tok = tokenizer("16khz")
    codes = tok.encode([random_clip(4_000, 1)])[0]
    few, every = tok.decode([codes[:3], codes])
    np.testing.assert_allclose(
        few, reference_decode(published_model("16khz"), codes[:3]), atol=5e-5
    )
    np.testing.assert_allclose(every, reference_decode(published_model("16khz"), codes), atol=5e-5)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((3, 4)), "float64 with shape"),
        (np.zeros(4, int), r"shape \(4,\)"),
        (np.zeros((4, 4), int), "1 to 3 codebooks"),
        (np.zeros((3, 0), int), "at least one frame"),
        (np.full((3, 4), 16), "run from 16 to 16; expected 0 to 15"),
        (np.full((3, 4), -1), "run from -1 to -1"),
    ],
)
def test_codes_that_cannot_be_decoded_are_refused(codes: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tokenizer("tiny").decode([np.zeros((3, 2), int), codes])


def test_as_many_lengths_as_clips() -> None:
    with pytest.raises(UsageError, match="2 entries for 1 clips"):
        tokenizer("tiny").decode([np.zeros((3, 2), int)], num_samples=[1, 2])


# ---- properties and options --------------------------------------------------------------------


def test_it_says_what_it_is() -> None:
    tok = tokenizer("24khz")
    assert (tok.sampling_rate, tok.hop_length, tok.frame_rate) == (24_000, 320, 75.0)
    assert (tok.num_codebooks, tok.codebook_size) == (32, 1024)
    assert len(tok.weights_checksum) == 64
    other = DacTokenizer.from_pretrained(random_model(**PUBLISHED_SHAPES["24khz"], seed=1))
    assert tok.weights_checksum != other.weights_checksum


def test_a_model_in_hand_is_left_as_it_was() -> None:
    model = random_model(**TINY_SHAPE).double().train()
    tok = DacTokenizer.from_pretrained(model, device="cpu")
    assert next(model.parameters()).dtype == torch.float64
    assert model.training
    tok.encode([np.zeros(10)])


def test_a_local_folder_is_the_same_codec(tmp_path) -> None:
    tiny_model().save_pretrained(tmp_path)
    tok = DacTokenizer.from_pretrained(str(tmp_path), device="cpu")
    assert tok.model_id == str(tmp_path)
    assert tok.weights_checksum == tokenizer("tiny").weights_checksum


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_codebooks": 0}, CodecError, "num_codebooks is 0, but the codec .* has 3"),
        ({"num_codebooks": 4}, CodecError, "num_codebooks is 4"),
        ({"device": "gpu"}, UsageError, "expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, UsageError, "CUDA devices were found"),
        ({"precision": "float8"}, UsageError, "expected one of float32, tf32"),
        ({"precision": "tf32", "device": "cpu"}, UsageError, "needs a CUDA device"),
        ({"row_seconds": 0.1}, UsageError, "needs more than 34 frames"),
        ({"rows_per_batch": -1}, UsageError, "at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        DacTokenizer.from_pretrained(tiny_model(), **options)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (np.zeros(10, np.float32), "put the one clip into a list"),
        ([np.zeros(10, np.int16)], "array of int16"),
        ([np.zeros((2, 10))], r"shape \(2, 10\)"),
    ],
)
def test_arrays_that_are_not_mono_float_clips_are_refused(clips, message) -> None:
    with pytest.raises(UsageError, match=message):
        tokenizer("tiny").encode(clips)


def test_a_stride_of_one_is_refused() -> None:
    model = random_model(**{**TINY_SHAPE, "downsampling_ratios": (1, 4)})
    with pytest.raises(CodecError, match=r"\[1, 4\]; expected each at least 2"):
        DacTokenizer.from_pretrained(model)


def test_the_programs_own_precision_flags_are_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    clips = [random_clip(3_000, 1)]
    expected = tokenizer("16khz").encode(clips)[0]
    try:
        torch.set_float32_matmul_precision("medium")
        np.testing.assert_array_equal(tokenizer("16khz").encode(clips)[0], expected)
        # What "medium" would have done, so that the comparison above can fail.
        assert (reference_encode(published_model("16khz"), clips[0]) != expected).any()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
