"""Which rows an audit looks at closely: stratified by duration, the same for the same seed.

A row's luck is a hash of seed and key, so that the sample does not depend on how the corpus is cut
into shards, and a larger sample holds the smaller one's luckiest rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dac_tokenize import files
from dac_tokenize.audit.usage import duration_bin
from dac_tokenize.corpus.footer import open_parquet
from dac_tokenize.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from dac_tokenize.corpus.plan import Plan


@dataclass(frozen=True, slots=True, order=True)
class Pick:
    """One row picked.

    Attributes:
        shard: number of its shard.
        group: number of its row group in the shard.
        row: its place in the row group.
        key: its key.
    """

    shard: int
    group: int
    row: int
    key: str


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Which rows to pick.

    Attributes:
        count: so many rows; None where one of the others is given.
        fraction: this share of all rows.
        keys: the rows with these keys.
        seed: another seed picks others.
    """

    count: int | None = 50
    fraction: float | None = None
    keys: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise UsageError(f"the sample is {self.count} clips; expected at least 1")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise UsageError(f"the fraction is {self.fraction}; expected more than 0 and at most 1")


def pick_rows(plan: Plan, request: SampleRequest) -> list[Pick]:
    """Pick rows; reads only the columns of keys and lengths.

    Args:
        plan: the corpus's plan.
        request: which rows.

    Returns:
        The rows in the order of the corpus. Each stratum of durations (every stratum is twice as
        long as the one before) gives its share, and at least one row where there is room.

    Raises:
        CorpusError: a key is not in the corpus, or there are no rows.
    """
    if request.keys:
        return _by_keys(plan, set(request.keys))
    total = _num_rows(plan)
    if not total:
        raise CorpusError(f"{plan.output} holds no rows to audit")
    wanted = request.count
    if request.fraction is not None:
        wanted = max(1, round(request.fraction * total))
    assert wanted is not None
    strata: dict[int, list[tuple[int, Pick]]] = {}
    sizes: dict[int, int] = {}
    for pick, seconds in _all_rows(plan):
        stratum = duration_bin(seconds)
        sizes[stratum] = sizes.get(stratum, 0) + 1
        heap = strata.setdefault(stratum, [])
        entry = (-_luck(pick.key, request.seed), pick)
        if len(heap) < wanted:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    shares = allocate(sizes, wanted)
    picked = [
        pick
        for stratum, heap in strata.items()
        for _, pick in sorted(heap, reverse=True)[: shares[stratum]]
    ]
    return sorted(picked)


def allocate(sizes: dict[int, int], wanted: int) -> dict[int, int]:
    """Share `wanted` rows out to strata in proportion to their sizes, by largest remainders.

    >>> allocate({0: 90, 1: 9, 2: 1}, 10)
    {0: 8, 1: 1, 2: 1}
    >>> allocate({0: 3, 1: 1}, 10)
    {0: 3, 1: 1}
    """
    total = sum(sizes.values())
    wanted = min(wanted, total)
    exact = {stratum: wanted * size / total for stratum, size in sizes.items()}
    least = 1 if wanted >= len(sizes) else 0
    shares = {
        stratum: min(sizes[stratum], max(least, math.floor(value)))
        for stratum, value in exact.items()
    }
    while (short := wanted - sum(shares.values())) != 0:
        step = 1 if short > 0 else -1
        able = [stratum for stratum in sizes if least <= shares[stratum] + step <= sizes[stratum]]
        shares[max(able, key=lambda s: (step * (exact[s] - shares[s]), -s))] += step
    return shares


def _luck(key: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def _all_rows(plan: Plan) -> Iterator[tuple[Pick, float]]:
    rate = plan.request.codec.sampling_rate
    for shard, file in _readable(plan):
        for group in range(file.num_row_groups):
            try:
                table = file.read_row_group(group, columns=["key", "num_samples"])
            except (OSError, ValueError):  # the checks of all rows tell
                continue
            pairs = zip(*(column.to_pylist() for column in table.columns), strict=True)
            for row, (key, samples) in enumerate(pairs):
                yield Pick(shard, group, row, key), samples / rate


def _readable(plan: Plan) -> Iterator[tuple[int, Any]]:
    """Yield the shards that are there and can be read; the checks of all rows tell the others."""
    for shard in published(plan):
        with contextlib.suppress(OSError, ValueError), open_parquet(plan.shard_url(shard)) as file:
            yield shard, file


def published(plan: Plan) -> Iterator[int]:
    """Yield the numbers of the shards that are there."""
    there = set(files.list_names(files.join(plan.output, "data")))
    for index in range(plan.num_shards):
        if plan.shard_name(index).rsplit("/", 1)[-1] in there:
            yield index


def _num_rows(plan: Plan) -> int:
    return sum(file.metadata.num_rows for _, file in _readable(plan))


def _by_keys(plan: Plan, keys: Collection[str]) -> list[Pick]:
    picked = sorted(pick for pick, _ in _all_rows(plan) if pick.key in keys)
    if missing := set(keys) - {pick.key for pick in picked}:
        raise CorpusError(f"{plan.output} has no row with the key {min(missing)!r}")
    return picked
