"""Audio corpora to Descript Audio Codec tokens: exact, resumable, in Parquet.

Names are loaded when they are first used: importing the package imports none of torch,
transformers, Beam or datasets, downloads nothing and sets no flag.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.errors import (
        AudioError,
        ClipError,
        CodecError,
        ConfigError,
        CorpusError,
        CorpusMismatchError,
        DacTokenizeError,
        DeviceMemoryError,
        PlanError,
        ShardsGivenUpError,
        SourceError,
        StoreError,
        UsageError,
        WaveformError,
        WorkersLostError,
    )
    from dac_tokenize.hf import codes_features, decode_batch, encode_batch
    from dac_tokenize.references import Reference
    from dac_tokenize.tokenizer import DacTokenizer, EncodedClip
    from dac_tokenize.waveform import WaveformOptions

_ROOMS = {
    "codec.checkpoint": ["CodecIdentity"],
    "errors": [
        "AudioError",
        "ClipError",
        "CodecError",
        "ConfigError",
        "CorpusError",
        "CorpusMismatchError",
        "DacTokenizeError",
        "DeviceMemoryError",
        "PlanError",
        "ShardsGivenUpError",
        "SourceError",
        "StoreError",
        "UsageError",
        "WaveformError",
        "WorkersLostError",
    ],
    "hf": ["codes_features", "decode_batch", "encode_batch"],
    "references": ["Reference"],
    "tokenizer": ["DacTokenizer", "EncodedClip"],
    "waveform": ["WaveformOptions"],
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "ClipError",
    "CodecError",
    "CodecIdentity",
    "ConfigError",
    "CorpusError",
    "CorpusMismatchError",
    "DacTokenizeError",
    "DacTokenizer",
    "DeviceMemoryError",
    "EncodedClip",
    "PlanError",
    "Reference",
    "ShardsGivenUpError",
    "SourceError",
    "StoreError",
    "UsageError",
    "WaveformError",
    "WaveformOptions",
    "WorkersLostError",
    "__version__",
    "codes_features",
    "decode_batch",
    "encode_batch",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
