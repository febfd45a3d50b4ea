"""Reading a corpus: its rows one by one, and what it holds in figures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files
from dac_tokenize.corpus.footer import FailedInput, open_parquet
from dac_tokenize.corpus.manifest import (
    FAILED_NAME,
    MANIFEST_NAME,
    read_manifest,
    shards_covered,
)
from dac_tokenize.corpus.plan import load_plan
from dac_tokenize.corpus.record import codes_from_array
from dac_tokenize.corpus.results import ShardFigures, shard_result, totals
from dac_tokenize.corpus.shard import read_shard
from dac_tokenize.errors import CorpusError

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.corpus.plan import Plan


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """A corpus in figures; those of an unfinished one are of the shards published so far.

    Attributes:
        codec: the codec that made the codes.
        num_shards: shards of the plan.
        shards_done: of these, published.
        finished: True where the manifest is written.
        clips: inputs, of the shards done.
        failed: inputs that gave no row.
        rows: rows.
        num_frames: frames of all rows.
        num_tokens: codes of all rows.
        seconds: seconds of sound of the inputs encoded.
        size_bytes: size of the shards' files.
        codes_bytes: of these, the codes.
    """

    codec: CodecIdentity
    num_shards: int
    shards_done: int
    finished: bool
    clips: int
    failed: int
    rows: int
    num_frames: int
    num_tokens: int
    seconds: float
    size_bytes: int
    codes_bytes: int

    @property
    def hours(self) -> float:
        """Hours of sound."""
        return self.seconds / 3600

    @property
    def bits_per_token(self) -> float:
        """Bits that a token takes on disk; 0 where there are none."""
        return 8 * self.codes_bytes / self.num_tokens if self.num_tokens else 0.0


def corpus_info(output: str) -> CorpusInfo:
    """Return what a corpus holds, from its manifest, or from footers where it is unfinished.

    Args:
        output: path or URL of the output folder.

    Raises:
        CorpusError: there is no corpus, or it is damaged.
    """
    plan = _plan(output)
    manifest = read_manifest(output)
    covered = shards_covered(plan, manifest)
    entries: list[ShardFigures] = list(manifest.files) if manifest and covered else []
    if covered < plan.num_shards:
        entries += _published(plan, covered)
    sums: dict[str, Any] = totals(entries)
    return CorpusInfo(
        codec=plan.request.codec,
        num_shards=plan.num_shards,
        shards_done=len(entries),
        finished=covered == plan.num_shards,
        **{name: value for name, value in sums.items() if name in CorpusInfo.__slots__},
    )


def corpus_schema_of(output: str) -> pa.Schema:
    """Return the Arrow schema of a corpus as its first shard has it.

    Raises:
        CorpusError: no shard has been published.
    """
    for url in shard_urls(output):
        with open_parquet(url) as file:
            schema: pa.Schema = file.schema_arrow
            return schema
    raise CorpusError(f"{output} holds no shards yet; encode something into it first")


def shard_urls(output: str) -> list[str]:
    """Return the paths or URLs of all shards published, in order.

    Of a finished corpus these are all of the plan's, even where one has been lost since.

    Raises:
        CorpusError: there is no corpus.
    """
    plan = _plan(output)
    return [plan.shard_url(index) for index in _indices_published(plan, _num_finished(plan))]


def _num_finished(plan: Plan) -> int:
    """Return how many shards, from the first on, are there for certain."""
    # Those of a finished corpus are; a listing, which some stores answer from a stale copy,
    # must not decide which rows are read.
    if not files.exists(files.join(plan.output, MANIFEST_NAME)):
        return 0
    if len(plan.generations) == 1:
        return plan.num_shards
    return shards_covered(plan, read_manifest(plan.output))


def _indices_published(plan: Plan, first: int) -> list[int]:
    """Return the numbers of all shards below `first`, and of those after that are there."""
    if first == plan.num_shards:
        return list(plan.indices)
    there = set(files.list_names(files.join(plan.output, "data")))
    names = ((index, plan.shard_name(index)) for index in plan.indices)
    return [i for i, name in names if i < first or name.rsplit("/", 1)[-1] in there]


def iter_rows(
    output: str, columns: Sequence[str] | None = None, keys: Collection[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a corpus, reading one row group at a time.

    Args:
        output: path or URL of the output folder.
        columns: columns wanted; None for all.
        keys: keys of the rows wanted; None for all. Other row groups' codes are not read.

    Yields:
        Column name to value; `audio_codes` as a read-only uint16 array
        (num_codebooks, num_frames).

    Raises:
        CorpusError: there is no corpus, a column is not in it, or a file is damaged.

    >>> for row in iter_rows("out", columns=["key", "audio_codes"]):  # doctest: +SKIP
    ...     print(row["key"], row["audio_codes"].shape)
    """
    wanted = None if keys is None else set(keys)
    for url in shard_urls(output):
        try:
            with open_parquet(url) as file:
                _check_columns(output, file.schema_arrow, columns)
                for group in range(file.num_row_groups):
                    yield from _group_rows(file, group, columns, wanted)
        except (OSError, ValueError) as error:
            raise CorpusError(
                f"{url} cannot be read: {error}; remove it and run the encoding again to make it "
                "anew"
            ) from error


def _group_rows(
    file: pq.ParquetFile, group: int, columns: Sequence[str] | None, keys: set[str] | None
) -> Iterator[dict[str, Any]]:
    rows: list[int] | None = None
    if keys is not None:
        found = file.read_row_group(group, columns=["key"]).column("key").to_pylist()
        rows = [row for row, key in enumerate(found) if key in keys]
        if not rows:
            return
    names = None if columns is None else list(columns)
    table = file.read_row_group(group, columns=names)
    values = {name: _values(name, table.column(name)) for name in names or table.column_names}
    for row in range(table.num_rows) if rows is None else rows:
        yield {name: column[row] for name, column in values.items()}


def _values(name: str, column: pa.ChunkedArray[Any]) -> list[Any]:
    if name != "audio_codes":
        return column.to_pylist()
    return [codes for chunk in column.chunks for codes in codes_from_array(chunk)]


def _check_columns(output: str, schema: pa.Schema, columns: Sequence[str] | None) -> None:
    for name in columns or ():
        if name not in schema.names:
            raise CorpusError(
                f"{output} has no column {name!r}; its columns are {', '.join(schema.names)}"
            )


def read_failed(output: str) -> list[FailedInput]:
    """Return the failed inputs of a finished corpus.

    Raises:
        CorpusError: the corpus is not finished.
    """
    try:
        with open_parquet(files.join(output, FAILED_NAME)) as file:
            return [FailedInput(**row) for row in file.read().to_pylist()]
    except FileNotFoundError as error:
        raise CorpusError(f"{output} is not finished; run the encoding again") from error


def _plan(output: str) -> Plan:
    plan = load_plan(output)
    if plan is None:
        raise CorpusError(f"{output} holds no corpus of dac_tokenize: it has no _plan/plan.json")
    return plan


def _published(plan: Plan, first: int) -> Iterator[ShardFigures]:
    """Yield what the shards from `first` on that are there say of themselves."""
    for index in _indices_published(plan, first):
        if index >= first and (found := read_shard(plan.shard_url(index))) is not None:
            yield shard_result(plan, *found, skipped=True)
