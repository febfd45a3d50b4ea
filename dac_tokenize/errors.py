"""Everything that `dac_tokenize` raises on purpose.

DacTokenizeError
├── UsageError            an option or argument is wrong: nothing was started
│   └── ConfigError       ... in a YAML configuration file
├── CodecError            a codec cannot be loaded or does not fit the request
├── DeviceMemoryError     a device has not memory enough for a single row
├── StoreError            a store does not answer: nothing is known about what it holds
├── ClipError             one clip cannot become codes: recorded, the others go on
│   ├── SourceError       ... its bytes cannot be read (missing, no permission, vanished)
│   ├── AudioError        ... its bytes are not the sound they claim to be
│   └── WaveformError     ... its samples cannot be encoded (NaN, infinite, none at all)
└── CorpusError           an output folder cannot be used as asked
    ├── PlanError         ... the inputs cannot be planned
    ├── WorkersLostError  ... worker processes die, and no shard gets made
    ├── ShardsGivenUpError    ... some shards cost several workers each; all others are made
    └── CorpusMismatchError   ... it holds another plan's or another codec's corpus
"""


class DacTokenizeError(Exception):
    """Base of every error this package raises on purpose; its text is meant for the user."""


class UsageError(DacTokenizeError, ValueError):
    """An option or argument is wrong; nothing was started."""


class ConfigError(UsageError):
    """A YAML configuration file cannot be used."""


class CodecError(DacTokenizeError):
    """A codec cannot be loaded, or does not fit what was asked of it."""


class DeviceMemoryError(DacTokenizeError):
    """A device has not memory enough for a single row."""


class StoreError(DacTokenizeError):
    """A store does not answer, so nothing is known about what it holds."""


class ClipError(DacTokenizeError):
    """One clip cannot become codes; a corpus run records it and goes on.

    Attributes:
        stage: the step that refused the clip, as the failed-inputs table names it.
    """

    stage = "clip"


class SourceError(ClipError):
    """The bytes of a clip cannot be read: missing, no permission, vanished, changed."""

    stage = "read"


class AudioError(ClipError):
    """The bytes of a clip are not the sound they claim to be."""

    stage = "decode"


class WaveformError(ClipError):
    """The samples of a clip cannot be encoded: none at all, NaN or infinite."""

    stage = "waveform"


class CorpusError(DacTokenizeError):
    """An output folder cannot be used as asked."""


class PlanError(CorpusError):
    """The inputs given cannot be planned."""


class WorkersLostError(CorpusError):
    """Worker processes die one after another, and no shard gets made."""


class ShardsGivenUpError(CorpusError):
    """Some shards have cost several worker processes each; all others are made."""


class CorpusMismatchError(CorpusError):
    """An output folder holds the corpus of another plan or another codec."""
