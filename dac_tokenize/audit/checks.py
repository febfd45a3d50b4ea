"""Checks of one row and of one file against what the plan says, without any sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.audit.findings import Finding

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.corpus.footer import ShardFooter
    from dac_tokenize.corpus.plan import Plan
    from dac_tokenize.references import Reference

Codes = npt.NDArray[np.uint16]

REPEAT_SECONDS = 1.0
_MIN_CONSTANT_FRAMES = 12
_VARIED_SHARE = 0.25  # of the frames that must differ in the other codebooks

ROW_COLUMNS = (
    "key",
    "audio_codes",
    "num_frames",
    "num_samples",
    "duration_seconds",
    "source_uri",
    "offset_seconds",
)
"""What `check_row` looks at."""


def check_row(row: Mapping[str, Any], codec: CodecIdentity, where: str) -> Iterator[Finding]:
    """Yield what is wrong with one row, or worth a look.

    Args:
        row: the columns `ROW_COLUMNS`; `audio_codes` uint16 of shape (num_codebooks, num_frames).
        codec: the codec that the corpus was planned for.
        where: the file, for messages.
    """
    for check, detail in _row_details(row, codec):
        yield Finding(check, row["key"], where, detail)


def _row_details(row: Mapping[str, Any], codec: CodecIdentity) -> Iterator[tuple[str, str]]:
    codes: Codes = row["audio_codes"]
    num_codebooks, num_frames = codes.shape
    if num_codebooks != codec.num_codebooks or num_frames != row["num_frames"]:
        yield (
            "shape",
            f"codes have shape {codes.shape}; expected ({codec.num_codebooks}, "
            f"{row['num_frames']})",
        )
    if not codes.size:
        return
    if (highest := int(codes.max())) >= codec.codebook_size:
        yield "range", f"the highest code is {highest}; expected at most {codec.codebook_size - 1}"
    samples = row["num_samples"]
    if num_frames != -(-samples // codec.hop_length):
        yield (
            "length",
            f"{num_frames} frames for {samples} samples; expected {-(-samples // codec.hop_length)}"
            f" of {codec.hop_length} samples each",
        )
    if abs(row["duration_seconds"] - samples / codec.sampling_rate) > 1 / codec.sampling_rate:
        yield (
            "length",
            f"duration_seconds is {row['duration_seconds']:.4f} for {samples} samples at "
            f"{codec.sampling_rate} Hz; expected {samples / codec.sampling_rate:.4f}",
        )
    if constant := constant_codebooks(codes):
        names = ", ".join(str(book) for book in constant)
        yield "constant-codebook", f"codebook {names} is {int(codes[constant[0], 0])} throughout"
    longest = longest_repeat(codes) / codec.frame_rate
    if longest >= REPEAT_SECONDS:
        yield "repeating", f"{longest:.1f} s of the same frame"


def constant_codebooks(codes: Codes) -> list[int]:
    """Return the codebooks that never change in a clip whose other codebooks do.

    >>> varied = np.arange(40).reshape(2, 20).astype(np.uint16)
    >>> constant_codebooks(np.vstack([varied, np.zeros((1, 20), np.uint16)]))
    [2]
    """
    if codes.shape[1] < _MIN_CONSTANT_FRAMES:
        return []
    distinct = [len(np.unique(book)) for book in codes]
    varied = sum(count >= _VARIED_SHARE * codes.shape[1] for count in distinct)
    if varied < len(codes) / 2:
        return []
    return [book for book, count in enumerate(distinct) if count == 1]


def longest_repeat(codes: Codes) -> int:
    """Return the length in frames of the longest run of one and the same frame.

    >>> longest_repeat(np.array([[1, 1, 1, 2], [5, 5, 5, 5]], np.uint16))
    3
    """
    changes = np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(axis=0)) + 1
    edges = np.concatenate([[0], changes, [codes.shape[1]]])
    return int(np.diff(edges).max())


def check_footer(
    footer: ShardFooter,
    plan: Plan,
    index: int,
    schema_codec: Mapping[str, Any],
    counted: Mapping[str, int],
) -> Iterator[Finding]:
    """Yield where a file's footer contradicts the plan or its own rows.

    Args:
        footer: the file's.
        plan: the corpus's.
        index: number of the shard.
        schema_codec: the codec that the file's Arrow schema names.
        counted: `rows`, `num_frames`, `num_tokens` and `num_samples` as counted in the file.
    """
    where = plan.shard_name(index)
    planned = asdict(plan.request.codec)
    for name, found in [("footer", footer.codec), ("schema", schema_codec)]:
        for field, value in planned.items():
            if found.get(field) != value:
                yield Finding(
                    *("footer", "", where),
                    f"its {name} says {field} {found.get(field)!r}; the plan says {value!r}",
                )
    if dict(footer.waveform) != asdict(plan.request.waveform):
        yield Finding("footer", "", where, f"waveform options {dict(footer.waveform)}")
    if footer.index != index or footer.plan_fingerprint != plan.fingerprint:
        yield Finding("footer", "", where, "it belongs to another plan or place")
    for name, value in counted.items():
        if (said := getattr(footer.stats, name)) != value:
            yield Finding(
                "footer", "", where, f"{name} is {said} in its footer; {value} were counted"
            )


def check_against_plan(
    rows: Sequence[Mapping[str, Any]],
    references: Sequence[Reference],
    failed: set[str],
    split: bool,
    where: str,
) -> Iterator[Finding]:
    """Yield where a file's rows are not those that the plan has for it, in its order.

    Args:
        rows: `key`, `source_uri` and `offset_seconds` of all rows.
        references: the shard's, from the plan.
        failed: keys of the clips that gave no row.
        split: whether each channel is a row of its own, named `key#channel`.
        where: the file, for messages.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        key = reference_key(row["key"], split)
        if key in found and not split:
            yield Finding("plan", row["key"], where, "the key is there twice")
        found.setdefault(key, row)
    expected = [reference for reference in references if reference.key not in failed]
    for reference in expected:
        row_found = found.get(reference.key)
        if row_found is None:
            yield Finding("plan", reference.key, where, "planned and not failed, but not there")
        elif (row_found["source_uri"], row_found["offset_seconds"]) != (
            reference.uri,
            reference.offset_seconds,
        ):
            yield Finding(
                *("plan", reference.key, where),
                f"it says {row_found['source_uri']} at {row_found['offset_seconds']:g} s; the plan "
                f"says {reference.uri} at {reference.offset_seconds:g} s",
            )
    planned = {reference.key for reference in expected}
    for key, row in found.items():
        if key not in planned:
            yield Finding("plan", row["key"], where, "not in the plan")
    order = [reference.key for reference in expected if reference.key in found]
    if [key for key in found if key in planned] != order:
        yield Finding("plan", "", where, "rows are not in the order of the plan")


def reference_key(key: str, split: bool) -> str:
    """Return the clip's key for a row's key.

    >>> reference_key("a#b.wav#1", split=True)
    'a#b.wav'
    """
    return key.rpartition("#")[0] if split else key
