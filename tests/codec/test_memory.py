"""Rows from a device's memory, and what happens when it runs out after all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize.codec.memory import HalvingEncoder, rows_that_fit
from dac_tokenize.errors import DeviceMemoryError

FRAMES = 5


class OutError(Exception):
    """Memory is out."""


def codes_of(samples: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (samples.sum(1)[:, None, None] + mask[:, None]).astype(np.uint16)


class Device:
    """A device on which memory runs out as `trouble` says, at any call."""

    def __init__(self, trouble) -> None:
        self._trouble = trouble
        self.made: list[int] = []
        self.alive = 0

    def maybe_out(self, rows: int) -> None:
        if rows > 1 and self._trouble():
            raise OutError

    def make(self, rows: int) -> "Rows":
        self.maybe_out(rows)
        self.made.append(rows)
        assert self.alive == 0, "two at once take twice the memory"
        self.alive += 1
        return Rows(self, rows)


class Rows:
    def __init__(self, device: Device, rows: int) -> None:
        self._device, self._rows = device, rows
        self._open: list[Handle] = []

    def submit(self, samples: np.ndarray, mask: np.ndarray) -> "Handle":
        assert len(samples) == len(mask) == self._rows, "one shape only"
        self._device.maybe_out(self._rows)
        self._open.append(Handle(self, samples.copy(), mask.copy()))
        return self._open[-1]

    def settle(self) -> None:
        for handle in self._open:
            handle.result()
        self.gone = True
        self._device.alive -= 1

    gone = False


class Handle:
    def __init__(self, owner: Rows, samples: np.ndarray, mask: np.ndarray) -> None:
        self._owner, self._given, self._codes = owner, (samples, mask), None

    def result(self) -> np.ndarray:
        if self._codes is None:
            assert not self._owner.gone, "memory of this batch is gone"
            self._codes = codes_of(*self._given)
        return self._codes


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from([1, 2, 8, 16]),
    st.data(),
)
def test_nothing_is_lost_wherever_memory_runs_out(batches, rows, data) -> None:
    device = Device(lambda: data.draw(st.integers(0, 3)) == 0)
    encoder = HalvingEncoder(device.make, rows, OutError, lambda: None)
    generator = np.random.default_rng(0)
    pending = []
    for size in batches:
        if data.draw(st.integers(0, 4)) == 0:
            encoder.renew(device.make)
        samples = generator.integers(0, 99, (size, 4)).astype(np.float32)
        mask = generator.random((size, FRAMES)) < 0.5
        pending.append((encoder.submit(samples, mask), codes_of(samples, mask)))
    for handle, expected in pending:
        assert np.array_equal(handle.result(), expected)
    assert device.made == sorted(device.made, reverse=True)
    assert encoder.rows == device.made[-1] <= rows


def test_a_device_without_memory_for_one_row_is_named() -> None:
    def make(rows: int) -> Rows:
        raise OutError("tried to allocate 3 GiB")

    freed = []
    encoder = HalvingEncoder(make, 8, OutError, lambda: freed.append(encoder.rows))
    with pytest.raises(
        DeviceMemoryError, match=r"one row \(tried to allocate 3 GiB\); free memory"
    ):
        encoder.submit(np.zeros((8, 4), np.float32), np.ones((8, FRAMES), np.bool_))
    assert freed == [8, 4, 2, 1]


@given(st.integers(1, 10**10), st.integers(0, 10**11), st.integers(1, 300))
def test_rows_fit_and_are_a_power_of_two(bytes_per_row, free_bytes, most) -> None:
    rows = rows_that_fit(bytes_per_row, free_bytes, most)
    assert rows & (rows - 1) == 0
    assert 1 <= rows <= most
    assert rows == 1 or rows * bytes_per_row <= 0.6 * free_bytes
    assert 2 * rows > most or 2 * rows * bytes_per_row > 0.6 * free_bytes
