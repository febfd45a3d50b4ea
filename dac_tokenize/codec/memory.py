"""How many rows a device computes at once: measured, and halved when memory runs out after all."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

from dac_tokenize.codec.overlap import Codes, FrameMask, Samples
from dac_tokenize.errors import DeviceMemoryError

# What is left is for other users of the device and for memory in pieces too small to be used.
_SHARE_OF_FREE = 0.6


class Pending(Protocol):
    """Codes of rows that are being computed."""

    def result(self) -> Codes:
        """Wait for the codes, shape (rows, num_codebooks, frames)."""


class RowEncoder(Protocol):
    """Computes a fixed number of rows at once: `Overlap`."""

    def submit(self, samples: Samples, frame_mask: FrameMask) -> Pending:
        """Start so many rows."""

    def settle(self) -> None:
        """Wait for all that is under way."""


def rows_that_fit(bytes_per_row: int, free_bytes: int, most: int) -> int:
    """Return how many rows to compute at once: a power of two, at least 1 and at most `most`.

    Args:
        bytes_per_row: device memory that one row was found to need.
        free_bytes: device memory that is free.
        most: beyond this a device gains nothing.

    >>> rows_that_fit(bytes_per_row=100, free_bytes=2000, most=64)
    8
    """
    rows = 1
    while 2 * rows <= most and 2 * rows * bytes_per_row <= _SHARE_OF_FREE * free_bytes:
        rows *= 2
    return rows


class JoinedCodes:
    """Codes of a batch that was computed in parts."""

    def __init__(self, parts: list[Pending], rows: int) -> None:
        self._parts, self._rows = parts, rows

    def result(self) -> Codes:
        """Wait for the codes, shape (rows, num_codebooks, frames)."""
        return np.concatenate([part.result() for part in self._parts])[: self._rows]


class HalvingEncoder:
    """Batches of any number of rows, computed so many at once as there is memory for.

    Args:
        make: returns what computes a given number of rows at once; it takes all the memory that it
            will ever need.
        rows: rows to compute at once, to begin with.
        out_of_memory: the exception that says that memory is out.
        free: gives back to the device what is no longer used.
    """

    def __init__(
        self,
        make: Callable[[int], RowEncoder],
        rows: int,
        out_of_memory: type[Exception],
        free: Callable[[], None],
    ) -> None:
        self._make, self._out_of_memory, self._free = make, out_of_memory, free
        self._encoder: RowEncoder | None = None
        self.rows = rows

    def submit(self, samples: Samples, frame_mask: FrameMask) -> JoinedCodes:
        """Start a batch.

        Args:
            samples: shape (rows, row_samples), zero outside the windows.
            frame_mask: shape (rows, frames), true where windows lie.

        Raises:
            DeviceMemoryError: there is no memory for a single row.
        """
        while True:
            try:
                if self._encoder is None:
                    self._encoder = self._make(self.rows)
                return JoinedCodes(self._parts(self._encoder, samples, frame_mask), len(samples))
            except self._out_of_memory as error:
                reason = str(error)
            # Outside the handler: the error holds on to what it was raised over.
            self._halve(reason)

    def renew(self, make: Callable[[int], RowEncoder]) -> None:
        """Make what computes rows anew, by `make`, as soon as all that is under way is done."""
        if self._encoder is not None:
            self._encoder.settle()
            self._encoder = None
        self._free()
        self._make = make

    def _parts(self, encoder: RowEncoder, samples: Samples, frame_mask: FrameMask) -> list[Pending]:
        rows = self.rows
        return [
            encoder.submit(
                _filled_up(samples[first : first + rows], rows),
                _filled_up(frame_mask[first : first + rows], rows),
            )
            for first in range(0, len(samples), rows)
        ]

    def _halve(self, reason: str) -> None:
        self.renew(self._make)
        if self.rows == 1:
            raise DeviceMemoryError(
                f"the device has not memory enough for one row ({reason}); free memory on it, "
                "or choose a smaller row_seconds"
            )
        self.rows //= 2


Rows = TypeVar("Rows", Samples, FrameMask)


def _filled_up(values: Rows, rows: int) -> Rows:
    """Return `values` with empty rows after them, `rows` in all."""
    if len(values) == rows:
        return values
    return np.pad(values, ((0, rows - len(values)), (0, 0)))
