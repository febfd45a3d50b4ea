"""Copies beside computing: while a batch is computed, the next one is already on its way.

A batch goes through three streams: in, compute, out. Each of `depth` slots has page-locked host
memory and device memory of its own, so that a batch's copies touch nothing that another batch uses;
what is computed lies in one place, since a captured graph knows no other. Whatever one stream needs
from another it waits for by an event, and the host waits only for results that somebody asks for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

Samples = npt.NDArray[np.float32]
FrameMask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint16]


class Program(Protocol):
    """What turns one batch into codes: `CudaEncoder`."""

    samples: torch.Tensor
    frame_mask: torch.Tensor
    codes: torch.Tensor

    def run(self) -> None:
        """Turn `samples` and `frame_mask` into `codes`."""


class Streams(Protocol):
    """What `Overlap` asks of a device."""

    def stream(self) -> Any:
        """Return a new queue of work."""

    def on(self, stream: Any, work: Callable[[], None]) -> None:
        """Put `work` into the queue `stream`."""

    def mark(self, stream: Any) -> Any:
        """Return an event that comes when all work put into `stream` so far is done."""

    def wait(self, stream: Any, event: Any) -> None:
        """Let what is put into `stream` from now on wait for `event`."""

    def settle(self, event: Any) -> None:
        """Return when `event` has come."""

    def host_room(self, like: torch.Tensor) -> torch.Tensor:
        """Return host memory of the shape and dtype of `like`, fit for copies beside computing."""

    def captured(self, work: Callable[[], None], stream: Any) -> Callable[[], None]:
        """Return what does the same as `work` with less effort."""


class CudaStreams:
    """Streams of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda: Any = torch.cuda

    def stream(self) -> Any:
        """Return a new stream."""
        return self._cuda.Stream(self._device)

    def on(self, stream: Any, work: Callable[[], None]) -> None:
        """Launch `work` on `stream`."""
        with self._cuda.stream(stream):
            work()

    def mark(self, stream: Any) -> Any:
        """Record an event."""
        return stream.record_event()

    def wait(self, stream: Any, event: Any) -> None:
        """Let `stream` wait."""
        stream.wait_event(event)

    def settle(self, event: Any) -> None:
        """Let the host wait."""
        event.synchronize()

    def host_room(self, like: torch.Tensor) -> torch.Tensor:
        """Return page-locked memory."""
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def captured(self, work: Callable[[], None], stream: Any) -> Callable[[], None]:
        """Run `work` once, which compiles and loads all it needs, and capture it as a graph."""
        # Whatever was made on other streams is ready before it is used on this one.
        self._cuda.synchronize(self._device)
        self.on(stream, work)
        stream.synchronize()
        graph = self._cuda.CUDAGraph()
        with self._cuda.graph(graph, stream=stream):
            work()
        replay: Callable[[], None] = graph.replay
        return replay


@dataclass(slots=True)
class _Slot:
    """Memory of one batch under way, and whose it is."""

    host: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    device: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    taken: "PendingCodes | None" = None


class PendingCodes:
    """Codes that are being computed."""

    def __init__(self, streams: Streams, slot: _Slot, done: Any) -> None:
        self._streams, self._done = streams, done
        self._held: _Slot | Codes = slot

    def result(self) -> Codes:
        """Wait for the codes: uint16, shape (rows, num_codebooks, frames)."""
        if isinstance(self._held, _Slot):
            slot = self._held
            self._streams.settle(self._done)
            # The slot is for the next batch: what it holds now is copied out of it, and a result
            # that somebody keeps does not keep the device's memory.
            self._held = np.array(slot.host[2].numpy().transpose(0, 2, 1), order="C")
            slot.taken = None
        return self._held


class Overlap:
    """Batches through a program, with their copies beside its work.

    Args:
        program: computes a batch in the memory that it has for one.
        streams: the device.
        depth: batches that may be under way at once.
    """

    @torch.inference_mode()
    def __init__(self, program: Program, streams: Streams, depth: int = 2) -> None:
        self._program, self._streams = program, streams
        self._inward, self._compute, self._outward = (streams.stream() for _ in range(3))
        self._run = streams.captured(program.run, self._compute)
        held = (program.samples, program.frame_mask, program.codes)
        host_room = streams.host_room
        self._slots = [
            _Slot(
                (host_room(held[0]), host_room(held[1]), host_room(held[2])),
                (torch.empty_like(held[0]), torch.empty_like(held[1]), torch.empty_like(held[2])),
            )
            for _ in range(depth)
        ]
        self._submitted = 0

    @torch.inference_mode()
    def submit(self, samples: Samples, frame_mask: FrameMask) -> PendingCodes:
        """Start a batch; waits for the batch `depth` before, whose memory it takes.

        Args:
            samples: shape (rows, row_samples), zero outside the windows.
            frame_mask: shape (rows, frames), true where windows lie.
        """
        slot = self._slots[self._submitted % len(self._slots)]
        self._submitted += 1
        if slot.taken is not None:
            slot.taken.result()
        slot.host[0].numpy()[:] = samples
        slot.host[1].numpy()[:] = frame_mask
        streams, program = self._streams, self._program

        def bring() -> None:
            slot.device[0].copy_(slot.host[0], non_blocking=True)
            slot.device[1].copy_(slot.host[1], non_blocking=True)

        def compute() -> None:
            program.samples.copy_(slot.device[0])
            program.frame_mask.copy_(slot.device[1])
            self._run()
            slot.device[2].copy_(program.codes)

        def fetch() -> None:
            slot.host[2].copy_(slot.device[2], non_blocking=True)

        streams.on(self._inward, bring)
        streams.wait(self._compute, streams.mark(self._inward))
        streams.on(self._compute, compute)
        streams.wait(self._outward, streams.mark(self._compute))
        streams.on(self._outward, fetch)
        slot.taken = PendingCodes(streams, slot, streams.mark(self._outward))
        return slot.taken

    def settle(self) -> None:
        """Wait for all batches under way; their codes stay with who asked for them."""
        for slot in self._slots:
            if slot.taken is not None:
                slot.taken.result()
