"""What a GPU's encoder is put together of, with kernels by Triton's interpreter and no GPU."""

import contextlib

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from dac_tokenize.codec import device as device_module
from dac_tokenize.codec import ways
from dac_tokenize.codec.device import DeviceEncoder
from dac_tokenize.codec.encoder import encode_rows
from dac_tokenize.codec.quantizer import ResidualQuantizer
from tests.codec.models import random_clip, random_model
from tests.codec.test_overlap import LazyStreams

CPU = torch.device("cpu")
FRAMES, HOP, FRAME_RATE = 11, 8, 2.0


@pytest.fixture
def cpu_as_gpu(monkeypatch, interpreted):
    """Has this machine's memory stand for a GPU's, of which one row takes a fifth."""
    monkeypatch.setattr(device_module, "CudaStreams", lambda device: LazyStreams(list))
    monkeypatch.setattr(ways, "cuda_seconds", lambda way: 1.0)
    for name, fake in {
        "device": lambda device: contextlib.nullcontext(),
        "current_device": lambda: 0,
        "set_device": lambda number: None,
        "synchronize": lambda device: None,
        "memory_allocated": lambda device: 100,
        "max_memory_allocated": lambda device: 120,
        "reset_peak_memory_stats": lambda device: None,
        "mem_get_info": lambda device: (100, 120),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)


@pytest.fixture
def codec():
    torch.manual_seed(0)
    shape = {"downsampling_ratios": (2, 4), "n_codebooks": 3, "codebook_size": 64}
    model = random_model(8, codebook_dim=5, **shape)
    return model.encoder, ResidualQuantizer(model.quantizer, 3, CPU)


def batch(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that windows fill."""
    samples = random_clip(rows * FRAMES * HOP, seed).reshape(rows, -1)
    return samples, np.ones((rows, FRAMES), np.bool_)


@torch.inference_mode()
def expected(codec, samples: np.ndarray) -> np.ndarray:
    encoder, quantizer = codec
    latents = encode_rows(encoder, torch.from_numpy(samples)[:, None], [None] * 20)
    return quantizer.encode(latents).numpy()


def test_codes_before_and_after_the_ways_are_timed(cpu_as_gpu, codec) -> None:
    """Batches of any size, one under way while all is made anew."""
    encoder = DeviceEncoder(*codec, "float32", FRAMES, FRAME_RATE, CPU, 2)
    assert encoder.rows == 2
    started = [(samples, encoder.submit(samples, mask)) for samples, mask in [batch(3, 0)]]
    first = encoder._encoder._encoder
    encoder._renewal._due = 0.0
    for rows, seed in ((2, 1), (1, 2)):
        samples, mask = batch(rows, seed)
        started.append((samples, encoder.submit(samples, mask)))
    assert encoder._encoder._encoder is not first
    for samples, pending in started:
        assert np.array_equal(pending.result(), expected(codec, samples))


def test_rows_are_chosen_by_what_one_takes(cpu_as_gpu, codec) -> None:
    encoder = DeviceEncoder(*codec, "float32", FRAMES, FRAME_RATE, CPU, None)
    assert encoder.rows == 2  # 4 would take more than the share of memory that is used
    samples, mask = batch(2, 3)
    assert np.array_equal(encoder.submit(samples, mask).result(), expected(codec, samples))


def test_no_memory_to_compile_with_is_told_when_a_batch_comes(cpu_as_gpu, monkeypatch, codec):
    from dac_tokenize.codec import cuda
    from dac_tokenize.errors import DeviceMemoryError

    def full(*_):
        raise torch.OutOfMemoryError("tried to allocate 3 GiB")

    monkeypatch.setattr(cuda.Sheet, "make", full)
    encoder = DeviceEncoder(*codec, "float32", FRAMES, FRAME_RATE, CPU, None)
    with pytest.raises(DeviceMemoryError, match=r"one row \(tried to allocate 3 GiB\)"):
        encoder.submit(*batch(1, 0))
