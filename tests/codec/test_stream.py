"""Batches under way: clips come out as they would one batch at a time, in order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize import DacTokenizer
from dac_tokenize.codec import engine as engine_module
from dac_tokenize.codec.encoder import encode_rows
from dac_tokenize.codec.geometry import encoder_chain
from dac_tokenize.codec.rows import RowShape
from dac_tokenize.codec.stream import at_once, run_packed
from dac_tokenize.codec.windows import WindowShape
from dac_tokenize.errors import WaveformError
from tests.codec.models import random_clip, reference_encode, tiny_model

WINDOWS = WindowShape(frames=8, left_context=2, right_context=2, positions_per_frame=3)
ROWS = RowShape(frames=8, gap_frames=1, rows_per_batch=2, lookahead_rows=3)


def first_positions(batch) -> list[np.ndarray]:
    """For each kept frame its first position: what comes out tells what went in."""
    return [p.window.positions[::3][p.window.keep_start : p.window.keep_stop] for p in batch]


def blocks_of(clip: np.ndarray, bad: bool):
    yield clip[None]
    if bad:
        raise WaveformError("cut short")


@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=12), st.integers(1, 4))
def test_clips_come_out_in_order_however_many_batches_are_under_way(clips, under_way) -> None:
    waves = [np.arange(n, dtype=np.float64) + 1000 * i for i, (n, _) in enumerate(clips)]
    started, taken = [], []

    def start_batch(batch):
        number = len(started)
        started.append(number)
        assert number - len(taken) < under_way

        def results():
            assert number == len(taken), "out of order"
            taken.append(number)
            return first_positions(batch)

        return results

    streams = [
        (blocks_of(wave, bad) for wave, (_, bad) in zip(waves, clips, strict=True))
        for _ in range(2)
    ]
    ours = list(run_packed(streams[0], WINDOWS, ROWS, start_batch, under_way))
    plain = list(run_packed(streams[1], WINDOWS, ROWS, at_once(first_positions)))
    assert len(taken) == len(started)
    assert [(one.index, one.error is None) for one in ours] == [
        (index, not bad) for index, (_, bad) in enumerate(clips)
    ]
    for one, other in zip(ours, plain, strict=True):
        assert (one.result is None) == (other.result is None)
        if one.result is not None:
            assert np.array_equal(one.result, waves[one.index][::3])
            assert np.array_equal(one.result, other.result)


class Pending:
    def __init__(self, work) -> None:
        self._work = work

    def result(self) -> np.ndarray:
        return self._work()


class PlainDeviceEncoder:
    """What the engine asks of a device with kernels, by the plain form and when it is asked for."""

    def __init__(self, encoder, quantizer, precision, frames, frame_rate, device, rows) -> None:
        self._encoder, self._quantizer, self._frames = encoder, quantizer, frames
        self.rows = rows or 4
        assert next(encoder.parameters()).dtype == torch.float32

    def submit(self, samples, frame_mask) -> Pending:
        assert samples.shape[0] == self.rows
        assert frame_mask.shape == (self.rows, self._frames)
        assert frame_mask.dtype == np.bool_
        levels = encoder_chain([2, 4]).levels
        mask = torch.from_numpy(frame_mask.astype(np.float32))[:, None]
        masks = [mask.repeat_interleave(level.positions_per_frame, 2) for level in levels]

        @torch.inference_mode()
        def work() -> np.ndarray:
            given = torch.from_numpy(samples)[:, None]
            codes = self._quantizer.encode(encode_rows(self._encoder, given, masks))
            return codes.numpy().astype(np.uint16)

        return Pending(work)


@pytest.mark.parametrize("rows", [None, 2])
def test_engine_of_a_device_with_kernels(monkeypatch, rows) -> None:
    """The way that a GPU's batches take, with the plain form in the place of the kernels."""
    monkeypatch.setattr(engine_module, "has_kernels", lambda device, chain: True)
    monkeypatch.setattr(engine_module, "DeviceEncoder", PlainDeviceEncoder)
    tokenizer = DacTokenizer.from_pretrained(tiny_model(), device="cpu", rows_per_batch=rows)
    clips = [random_clip(n, n) for n in (700, 1, 9, 30_000, 800, 12_345)]
    for clip, codes in zip(clips, tokenizer.encode(clips), strict=True):
        assert np.array_equal(codes, reference_encode(tiny_model(), clip))
