"""The plan of a corpus: which clips go into which shard, saved beside the corpus.

``OUT/_plan/plan.json`` says what was planned at first, ``plan-001.json`` what was added then, and
so on: the generations of the corpus. None of these files ever changes; each is written last, so
that where it is, its generation is whole. The references lie in the files of `parts`. A second run
reads all that and lists nothing. `planning` makes plans, and `appending` adds to them.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa

from dac_tokenize import files
from dac_tokenize.corpus.generation import Generation, generation_name, parse_generation
from dac_tokenize.corpus.parts import (
    PlannedShard,
    PlanPart,
    damaged_plan,
    part_shards,
    plan_url,
    read_references,
)
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.errors import CorpusError, CorpusMismatchError
from dac_tokenize.references import Reference

_MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """A saved plan; small however many clips it has, and fit to travel between workers.

    Attributes:
        output: the output folder, path or URL.
        generations: what was planned at first, and then added, in order; or some in a row.
    """

    output: str
    generations: tuple[Generation, ...]

    @property
    def request(self) -> PlanRequest:
        """What the corpus was asked to be at first."""
        return self.generations[0].request

    @property
    def metadata_schema(self) -> pa.Schema:
        """Types of the metadata columns."""
        return self.generations[0].metadata_schema

    @property
    def package_version(self) -> str | None:
        """Version of dac_tokenize when the corpus was planned at first."""
        return self.generations[0].package_version

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all generations' fingerprints; of a single one, its own."""
        fingerprints = [generation.fingerprint for generation in self.generations]
        if len(fingerprints) == 1:
            return fingerprints[0]
        return hashlib.sha256("".join(fingerprints).encode()).hexdigest()

    @property
    def indices(self) -> range:
        """The numbers of all shards."""
        return range(self.generations[0].first_shard, self.generations[-1].end_shard)

    @property
    def num_shards(self) -> int:
        """How many shards."""
        return len(self.indices)

    @property
    def num_clips(self) -> int:
        """How many clips."""
        return sum(generation.num_clips for generation in self.generations)

    @property
    def estimated_seconds(self) -> float:
        """How much sound, by estimate."""
        return sum(generation.estimated_seconds for generation in self.generations)

    def generation_of(self, index: int) -> Generation:
        """Return the generation that has a shard.

        Raises:
            CorpusError: there is no such shard.
        """
        if index not in self.indices:
            raise CorpusError(f"{self.output} has {self.num_shards} shards, and no shard {index}")
        after = bisect.bisect_right(self.generations, index, key=lambda one: one.first_shard)
        return self.generations[after - 1]

    def shard_name(self, index: int) -> str:
        """Return a shard's path below the output folder.

        For example ``data/train-00003-of-00053.parquet``; where 12 shards were added later,
        ``data/train-00053-of-00065.parquet`` and so on, which leaves the first ones their names.
        """
        count = self.generation_of(index).end_shard
        digits = max(5, len(str(count)))
        return f"data/train-{index:0{digits}d}-of-{count:0{digits}d}.parquet"

    def shard_url(self, index: int) -> str:
        """Return a shard's path or URL."""
        return files.join(self.output, self.shard_name(index))

    def check_request(self, request: PlanRequest, *, append: bool = False) -> None:
        """Make sure that a run which asks for `request` may go on with this plan.

        Args:
            request: its inputs must be those of one of the generations.
            append: whether other inputs are to be added, which may be any.

        Raises:
            CorpusMismatchError: something differs; the message names the first such thing.
        """
        known = {generation.request.inputs for generation in self.generations}
        if append or request.inputs in known:
            request = replace(request, inputs=self.request.inputs)
        if difference := self.request.difference(request):
            hint = ", give --append to add to it," if request.inputs not in known else ""
            raise CorpusMismatchError(
                f"{self.output} holds another corpus: {difference}; ask for the same again{hint} "
                "or give another --output"
            )


def load_plan(output: str) -> Plan | None:
    """Read the plan of an output folder.

    Args:
        output: path or URL.

    Returns:
        The plan, or None where none has been saved.

    Raises:
        CorpusMismatchError: another version of this package made it.
        CorpusError: it is damaged.
    """
    generations: list[Generation] = []
    for number, data in enumerate(_described(output)):
        name = generation_name(number)
        generation = parse_generation(output, name, data)
        before = Plan(output, tuple(generations)) if generations else None
        if (generation.before, generation.first_shard) != _place_after(before):
            raise damaged_plan(output, f"{name} does not follow {generation_name(number - 1)}")
        generations.append(generation)
    return Plan(output, tuple(generations)) if generations else None


def _place_after(before: Plan | None) -> tuple[str | None, int]:
    return (None, 0) if before is None else (before.fingerprint, before.num_shards)


def _described(output: str) -> Iterator[bytes]:
    """Yield what describes each generation; asks for twice as many each time."""
    first, count = 0, 2
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        while True:
            names = [generation_name(number) for number in range(first, first + count)]
            for data in pool.map(files.read_bytes, [plan_url(output, name) for name in names]):
                if data is None:
                    return
                yield data
            first, count = first + count, min(2 * count, _MOST_AT_ONCE)


def iter_parts(plan: Plan) -> Iterator[PlanPart]:
    """Yield the files that hold the references, in order."""
    return itertools.chain.from_iterable(generation.parts for generation in plan.generations)


def iter_shards(plan: Plan) -> Iterator[PlannedShard]:
    """Yield all shards as planned, in order; reads the footers of the plan's parts."""
    for part in iter_parts(plan):
        yield from part_shards(plan.output, part)


def planned_shard(plan: Plan, index: int) -> PlannedShard:
    """Return one shard as planned.

    Raises:
        CorpusError: the plan has no such shard, or is damaged.
    """
    part = _part_of(plan, index)
    return part_shards(plan.output, part)[index - part.first_shard]


def load_shard(plan: Plan, index: int) -> list[Reference]:
    """Read the references of one shard.

    Args:
        plan: from `load_plan`.
        index: the shard's number, from 0.

    Returns:
        Its references in the order of the plan. A metadata column that is null for a clip is
        missing in that clip's `metadata`.

    Raises:
        CorpusError: the plan has no such shard, or the file that holds it is missing or damaged.
    """
    return read_references(plan.output, _part_of(plan, index), index, plan.request)


def _part_of(plan: Plan, index: int) -> PlanPart:
    parts = plan.generation_of(index).parts
    return parts[bisect.bisect_right(parts, index, key=lambda part: part.first_shard) - 1]
