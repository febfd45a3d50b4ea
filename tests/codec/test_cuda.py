"""What only a GPU can show. Skipped where there is none, unless DAC_TOKENIZE_REQUIRE_GPU=1."""

import copy
import os
import time

import numpy as np
import pytest
import torch

from dac_tokenize import DacTokenizer
from dac_tokenize.codec.encoder import encode_rows
from dac_tokenize.codec.geometry import encoder_chain
from dac_tokenize.codec.precision import PRECISIONS, float32_rule
from dac_tokenize.codec.quantizer import ResidualQuantizer
from tests.codec.models import (
    PUBLISHED_SHAPES,
    random_clip,
    random_model,
    reference_encode,
    tie_margin,
)

pytestmark = pytest.mark.usefixtures("gpu")
LENGTHS_SECONDS = (0.01, 0.4, 1.0, 1.4, 2.7, 7.7, 31.0)


@pytest.fixture(scope="module")
def gpu() -> torch.device:
    """A CUDA device with kernels for it."""
    from dac_tokenize.codec.device import has_kernels

    found = torch.cuda.is_available() and has_kernels(
        torch.device("cuda"), encoder_chain([2, 4, 8, 8])
    )
    if not found:
        why = "no CUDA device of compute capability 8.0 or later, or no Triton"
        if os.environ.get("DAC_TOKENIZE_REQUIRE_GPU") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return torch.device("cuda")


def on_gpu(shape: str, width: int, precision: str, gpu):
    """A model, its packed weights and both quantizers."""
    from dac_tokenize.codec.kernels.packed import PackedEncoder
    from dac_tokenize.codec.kernels.quantize import KernelQuantizer

    model = random_model(width, **PUBLISHED_SHAPES[shape])
    packed = PackedEncoder(model.encoder, precision, gpu)
    plain = ResidualQuantizer(model.quantizer, model.config.n_codebooks, gpu)
    return model, packed, plain, KernelQuantizer(plain, packed.last.out_channels)


@pytest.mark.parametrize("shape", PUBLISHED_SHAPES)
@pytest.mark.parametrize("width", [8, 64])
def test_codes_are_those_of_the_clip_alone(gpu, shape: str, width: int) -> None:
    """In float32 no token differs from plain `DacModel`'s on the CPU, but for ties in rounding."""
    model = random_model(width, **PUBLISHED_SHAPES[shape])
    rate = model.config.sampling_rate
    lengths = [s for s in LENGTHS_SECONDS if width == 8 or s < 3]
    clips = [random_clip(max(1, round(s * rate)), seed) for seed, s in enumerate(lengths)]
    expected = [reference_encode(model, clip) for clip in clips]
    tokenizer = DacTokenizer.from_pretrained(copy.deepcopy(model), device=gpu)
    tokens = ties = 0
    for ours, theirs, clip in zip(tokenizer.encode(clips), expected, clips, strict=True):
        assert ours.shape == theirs.shape
        tokens += ours.size
        for frame in np.flatnonzero((ours != theirs).any(axis=0)):
            assert tie_margin(model, clip, frame, theirs[:, frame], ours[:, frame]) < 1e-5
            ties += 1
    print(f"{shape}, width {width}: {tokens:,} tokens, {ties} frames with a tie")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_company_changes_nothing(gpu, precision: str) -> None:
    """The same clip among others, in other places, in batches of other sizes."""
    model = random_model(32, **PUBLISHED_SHAPES["44khz"])
    clips = [random_clip(n, n) for n in (30_000, 100, 200_000, 44_100)]
    kept = []
    for rows in (1, 4):
        tokenizer = DacTokenizer.from_pretrained(
            copy.deepcopy(model), device=gpu, precision=precision, rows_per_batch=rows
        )
        kept.append(tokenizer.encode(clips))
        kept.append(tokenizer.encode(clips[::-1])[::-1])
    # The same kernels with the same sums in the same order: not one bit may differ.
    for other in kept[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(kept[0], other, strict=True))


@pytest.mark.parametrize("precision", PRECISIONS)
@torch.inference_mode()
def test_every_way_gives_the_same_latents(gpu, precision: str) -> None:
    """All tiles, fused or not, give the same bits."""
    from dac_tokenize.codec.cuda import CudaEncoder

    model, packed, _, quantizer = on_gpu("44khz", 64, precision, gpu)
    samples = torch.from_numpy(random_clip(2 * 200 * 512, 0)).view(2, 1, -1).to(gpu)
    masks = [None] * len(encoder_chain([2, 4, 8, 8]).levels)
    exact = copy.deepcopy(model.encoder).double().to(gpu)
    expected = encode_rows(exact, samples.double(), masks)
    half = copy.deepcopy(model.encoder).to(gpu, packed.dtype)
    with float32_rule(precision):
        plain = encode_rows(half, samples.to(packed.dtype), masks).double()
    usual = (plain - expected).norm()
    latents = []
    for number in range(5):
        encoder = CudaEncoder(
            packed, quantizer, 2, 200, lambda key, ways, n=number: min(n, len(ways) - 1)
        )
        latents.append(encoder(samples, masks).clone())
        assert (latents[-1].double() - expected).norm() < 1.2 * usual
    assert all(torch.equal(latents[0], other) for other in latents[1:])


@torch.inference_mode()
def test_quantizer_gives_the_plain_forms_codes(gpu) -> None:
    _, _, plain, quantizer = on_gpu("44khz", 64, "float32", gpu)
    from dac_tokenize.codec.kernels.sheets import Sheet

    latents = torch.randn(4, 5000, 1024, device=gpu)
    sheet = Sheet(latents, 0)
    codes = quantizer.make_codes(sheet)
    quantizer.encode(sheet, quantizer.make_projected(sheet), codes)
    with float32_rule("float32"):
        expected = plain.encode(latents.transpose(1, 2)).transpose(1, 2)
    differ = (codes.to(torch.int64) != expected).any(dim=2).sum()
    assert differ <= 2  # of 20,000 frames: ties in rounding


@torch.inference_mode()
def test_graph_replays_what_was_run(gpu) -> None:
    from dac_tokenize.codec.cuda import CudaEncoder
    from dac_tokenize.codec.overlap import CudaStreams, Overlap

    _, packed, _, quantizer = on_gpu("44khz", 16, "bfloat16", gpu)
    encoder = CudaEncoder(packed, quantizer, 2, 200)
    overlap = Overlap(encoder, CudaStreams(gpu))
    generator = np.random.default_rng(0)
    batches, pending = [], []
    for seed in range(7):
        samples = random_clip(2 * 200 * 512, seed).reshape(2, -1)
        mask = generator.random((2, 200)) < 0.8
        samples *= np.repeat(mask, 512, axis=1)
        batches.append((samples, mask))
        pending.append(overlap.submit(samples, mask))
    codes = [handle.result() for handle in pending]
    for (samples, mask), replayed in zip(batches, codes, strict=True):
        encoder.samples.copy_(torch.from_numpy(samples))
        encoder.frame_mask.copy_(torch.from_numpy(mask))
        encoder.run()
        run = encoder.codes.cpu().numpy().transpose(0, 2, 1)
        assert np.array_equal(run, replayed)


def test_memory_that_runs_out_halves_the_rows(gpu) -> None:
    """For real: the device is made small, and the rows asked for do not fit."""
    from dac_tokenize.codec.device import DeviceEncoder

    model, _, plain, _ = on_gpu("44khz", 64, "float32", gpu)
    frames, rate = 344, 44_100 / 512
    generator = np.random.default_rng(0)
    samples = generator.standard_normal((16, frames * 512)).astype(np.float32)
    mask = np.ones((16, frames), np.bool_)
    whole = DeviceEncoder(model.encoder, plain, "float32", frames, rate, gpu, 16)
    expected = whole.submit(samples, mask).result()
    peak = torch.cuda.max_memory_allocated(gpu)
    del whole
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.set_per_process_memory_fraction(0.5 * peak / total, gpu)
    try:
        small = DeviceEncoder(model.encoder, plain, "float32", frames, rate, gpu, 16)
        codes = small.submit(samples, mask).result()
        assert small._encoder.rows < 16
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
    assert np.array_equal(codes, expected)


@torch.inference_mode()
def test_kernels_are_faster_than_the_plain_form(gpu) -> None:
    """A sanity check, not a benchmark: twice the plain form's speed in half precision, or more."""
    from dac_tokenize.codec.device import DeviceEncoder

    model, _, plain, _ = on_gpu("44khz", 64, "bfloat16", gpu)
    rows, frames = 16, 344
    samples = np.random.default_rng(0).standard_normal((rows, frames * 512)).astype(np.float32)
    mask = np.ones((rows, frames), np.bool_)
    ours = DeviceEncoder(model.encoder, plain, "bfloat16", frames, 86.1, gpu, rows)
    half = copy.deepcopy(model.encoder).to(gpu, torch.bfloat16)
    masks = [None] * len(encoder_chain([2, 4, 8, 8]).levels)

    def by_kernels() -> None:
        handles = [ours.submit(samples, mask) for _ in range(4)]
        handles[-1].result()

    def by_torch() -> None:
        for _ in range(4):
            given = torch.from_numpy(samples)[:, None].to(gpu, torch.bfloat16)
            plain.encode(encode_rows(half, given, masks)).cpu()

    seconds = []
    for work in (by_kernels, by_torch):
        work()
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    audio = 4 * rows * frames * 512 / 44_100
    print(f"{audio / seconds[0]:.0f} times real time, plain {audio / seconds[1]:.0f}")
    assert seconds[0] < 0.5 * seconds[1]
