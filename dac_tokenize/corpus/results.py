"""What became of a shard, in figures: as a run hands it on, and as the manifest keeps it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

from dac_tokenize.corpus.footer import ShardFooter, ShardStats
from dac_tokenize.corpus.shard import ShardFile

if TYPE_CHECKING:
    from dac_tokenize.corpus.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFigures:
    """A shard's place, size and content.

    Attributes:
        path: its path below the output folder.
        fingerprint: SHA-256 of all that decides its rows.
        size_bytes: size of the file.
        codes_bytes: of these, the codes.
        clips: inputs, failed ones included.
        failed: inputs that gave no row.
        rows: rows; one an input, or one a channel.
        num_frames: frames of all rows.
        num_tokens: codes of all rows.
        num_samples: samples of all rows at the codec's rate.
        seconds: seconds of sound of the inputs encoded.
    """

    path: str
    fingerprint: str
    size_bytes: int
    codes_bytes: int
    clips: int
    failed: int
    rows: int
    num_frames: int
    num_tokens: int
    num_samples: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile(ShardFigures):
    """One file of a finished corpus.

    Attributes:
        checksum: SHA-256 of the file.
    """

    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult(ShardFigures):
    """What became of one shard; plain values, to travel between workers.

    Attributes:
        index: number of the shard.
        skipped: True where an earlier run had published it.
        checksum: SHA-256 of the file; None where the manifest knows it.
        failed_by_error: failed inputs by the class of their error.
        read_seconds: wall time spent waiting for sound.
        encode_seconds: wall time of the codec.
        write_seconds: wall time of writing and publishing.
    """

    index: int
    skipped: bool
    checksum: str | None
    failed_by_error: Mapping[str, int] = field(default_factory=dict)
    read_seconds: float = 0.0
    encode_seconds: float = 0.0
    write_seconds: float = 0.0

    def as_file(self, checksum: str) -> ManifestFile:
        """Return what the manifest keeps of this."""
        figures = {name: getattr(self, name) for name in _FIGURES}
        return ManifestFile(**figures, checksum=checksum)


_FIGURES = tuple(column.name for column in fields(ShardFigures))

SUMMED = (*(column.name for column in fields(ShardStats)), "size_bytes", "codes_bytes")
"""The figures of shards that add up to those of a corpus."""


def totals(shards: Iterable[ShardFigures]) -> dict[str, int | float]:
    """Return the sums of all shards' figures, by name; `seconds` do not depend on the order."""
    listed = list(shards)
    sums: dict[str, int | float] = {}
    for name in SUMMED:
        values = [getattr(one, name) for one in listed]
        sums[name] = math.fsum(values) if name == "seconds" else sum(values)
    return sums


def shard_result(plan: Plan, footer: ShardFooter, file: ShardFile, *, skipped: bool) -> ShardResult:
    """Return the result that a shard's footer and file amount to."""
    return ShardResult(
        index=footer.index,
        path=plan.shard_name(footer.index),
        fingerprint=footer.shard_fingerprint,
        skipped=skipped,
        size_bytes=file.size_bytes,
        codes_bytes=file.codes_bytes,
        checksum=file.checksum,
        failed_by_error=Counter(failure.error for failure in footer.failures),
        **asdict(footer.stats),
    )
