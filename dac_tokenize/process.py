"""One codec per process and options: for `map`, Beam's workers and the command line."""

from __future__ import annotations

import functools
import operator
import os
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dac_tokenize.errors import UsageError

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

# Encoding and decoding with a few sets of options, not a model for each cell of a notebook.
_MODELS_KEPT = 4

_SPAWN_ADVICE = (
    "start the workers with spawn: put `import multiprocess; "
    'multiprocess.set_start_method("spawn")` before the call of map, all under '
    '`if __name__ == "__main__":`; or leave num_proc away'
)


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """What tells one loaded codec from another; hashable.

    Attributes:
        model: name on the Hub or folder; None for the codec that ships with this package.
        revision: branch, tag or commit on the Hub.
        num_codebooks: codebooks kept; None for all.
        device: "auto" or any torch device.
        precision: number format of the convolutions.
    """

    model: str | None = None
    revision: str | None = None
    num_codebooks: int | None = None
    device: str = "auto"
    precision: str = "float32"


def codec_options(
    model: Any, revision: str | None, num_codebooks: int | None, device: Any, precision: str
) -> CodecOptions:
    """Returns the options in one spelling each.

    Raises:
        UsageError: the model is neither text nor a path.
    """
    if model is not None and not isinstance(model, str | os.PathLike):
        raise UsageError(
            f"model is a {type(model).__name__}; expected a name on the Hub or a folder, because "
            "map hashes its options and sends them to its workers: save the model with "
            "save_pretrained(folder) and pass the folder"
        )
    name = None if model is None else os.fspath(model)
    return CodecOptions(name, revision, num_codebooks, str(device), precision)


def tokenizer_for(options: CodecOptions, rank: Any = None) -> DacTokenizer:
    """Returns this process's tokenizer for some options, loaded when first asked for.

    In a process that was forked after torch had been imported, torch is held to one thread: its
    pool of threads does not come through a fork, and waiting for it would never end.

    Args:
        options: which codec.
        rank: number of the worker, as `map(with_rank=True)` gives it; None for none. Rank r gets
            the CUDA device r modulo their number, unless the options name a certain device.

    Raises:
        CodecError: the codec does not load.
        UsageError: an option is out of range, there is no such device, or it is a CUDA device that
            was in use before this process was forked.
    """
    with _state.lock:
        if _state.forked_with_torch:
            import torch

            torch.set_num_threads(1)
            _state.forked_with_torch = False
        return _load(replace(options, device=_device(options.device, rank)))


@functools.lru_cache(maxsize=_MODELS_KEPT)
def _load(options: CodecOptions) -> DacTokenizer:
    import torch

    from dac_tokenize.tokenizer import DacTokenizer

    # OpenMP gives each thread that computes a pool of its own. Beam's threads are others than the
    # one that loads, and as soon as there are more pools than cores the pools sleep between two
    # operations instead of spinning: a fifth of the speed on two cores. So loading makes none.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return DacTokenizer.from_pretrained(
            options.model,
            revision=options.revision,
            num_codebooks=options.num_codebooks,
            device=options.device,
            precision=options.precision,
        )
    finally:
        torch.set_num_threads(num_threads)


def _device(device: str, rank: Any) -> str:
    """Returns the name of the torch device that a rank is to use."""
    if rank is not None and not hasattr(rank, "__index__"):
        raise UsageError(
            f"rank is {rank!r}; expected an integer, as map(with_rank=True) gives it "
            "(with_indices=True is not supported)"
        )
    if device != "auto" and not device.startswith("cuda"):
        return device
    import torch

    found = torch.cuda.device_count()
    if found and torch.cuda._is_in_bad_fork():
        raise UsageError(
            "this process was forked from one that already uses CUDA, which CUDA forbids; "
            + _SPAWN_ADVICE
        )
    if device not in ("auto", "cuda") or not found or rank is None:
        return device
    return f"cuda:{operator.index(rank) % found}"


class _State:
    """What a forked child must not take over from its parent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forked_with_torch = False

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        self.forked_with_torch = "torch" in sys.modules


_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.after_fork)
