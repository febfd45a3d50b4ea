"""What a corpus is asked to be: the part of a plan that the user decides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dac_tokenize.corpus.record import SCHEMA_VERSION

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.waveform import WaveformOptions

DEFAULT_SHARD_SECONDS = 3600.0
"""Seconds of sound a shard holds unless the user says otherwise."""

MAX_SHARD_CLIPS = 10_000
"""Most clips of a shard, however short they are."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a corpus is asked to be; two runs that ask the same may share an output folder.

    Attributes:
        inputs: what the user gave: files, folders, globs, URLs.
        codec: the codec that makes the codes.
        waveform: how sound is brought to the codec.
        shard_seconds: most seconds of sound in a shard, by estimate.
        max_shard_clips: most clips in a shard.
    """

    inputs: tuple[str, ...]
    codec: CodecIdentity
    waveform: WaveformOptions
    shard_seconds: float = DEFAULT_SHARD_SECONDS
    max_shard_clips: int = MAX_SHARD_CLIPS

    def fingerprint_header(self) -> dict[str, Any]:
        """Return all but the references that decides what rows a shard has.

        The codec's name and revision are not in it: the checksum of its weights is.
        """
        codec = asdict(self.codec)
        del codec["model_id"], codec["revision"]
        return {
            "schema_version": SCHEMA_VERSION,
            "codec": codec,
            "waveform": asdict(self.waveform),
        }

    def difference(self, asked: PlanRequest) -> str | None:
        """Name the first thing in which another request differs; None where nothing does."""
        for name, old in self.fingerprint_header()["codec"].items():
            if (new := getattr(asked.codec, name)) != old:
                return (
                    f"it was made with the codec {_codec_name(self.codec)} ({name} {_short(old)}), "
                    f"and asked for is {_codec_name(asked.codec)} ({name} {_short(new)})"
                )
        for name, old in asdict(self.waveform).items():
            if (new := getattr(asked.waveform, name)) != old:
                return f"it was made with {name} {old!r}, and asked for is {new!r}"
        if self.inputs != asked.inputs:
            return (
                f"it was made from {_listed(self.inputs)}, and asked for is {_listed(asked.inputs)}"
            )
        for name in ("shard_seconds", "max_shard_clips"):
            if (new := getattr(asked, name)) != (old := getattr(self, name)):
                return f"it was made with {name} {old:g}, and asked for is {new:g}"
        return None


def _codec_name(codec: CodecIdentity) -> str:
    return f"{codec.model_id}@{codec.revision}" if codec.revision else codec.model_id


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else text[:12] + "..."


def _listed(inputs: tuple[str, ...]) -> str:
    more = f" and {len(inputs) - 3} more" if len(inputs) > 3 else ""
    return ", ".join(inputs[:3]) + more if inputs else "no inputs"
