"""Adding to a finished corpus: what is new of the inputs becomes shards of their own.

Nothing that is there changes: the plan gets one more generation, and the new shards' numbers go on
where the old ones end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dac_tokenize.corpus.cutting import probe_seconds
from dac_tokenize.corpus.keys import COLUMNS, KeyFiles, compare
from dac_tokenize.corpus.manifest import read_manifest, shards_covered
from dac_tokenize.corpus.parts import iter_columns
from dac_tokenize.corpus.plan import Plan, iter_parts, iter_shards, load_plan, load_shard
from dac_tokenize.corpus.planning import (
    SPOOL_ROWS,
    Probe,
    save_generation,
    spooled,
    sweep_temporaries,
)
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.corpus.spool import Spool
from dac_tokenize.errors import CorpusError, CorpusMismatchError, PlanError
from dac_tokenize.references import Reference


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of inputs that were to be added to a corpus.

    Attributes:
        plan: the plan as it is now.
        num_new: clips added; 0 where all are known.
        num_known: clips left out because the corpus has them.
        resumed: whether this was added before, by a run that did not end.
    """

    plan: Plan
    num_new: int
    num_known: int
    resumed: bool = False


def append_plan(
    output: str,
    request: PlanRequest,
    references: Callable[[], Iterable[Reference]],
    *,
    probe: Probe = probe_seconds,
    spool_rows: int = SPOOL_ROWS,
) -> Appended:
    """Add what is new of some inputs to the plan of a finished corpus.

    A clip is known, and left out, where the corpus has its key from the same source; so are clips
    that gave no row. What has vanished since does not matter. The new shards are then made as
    those of any plan are. Where a run that added the same inputs has not ended, its plan stands
    and nothing is listed.

    Args:
        output: path or URL of the output folder.
        request: what the corpus was asked to be; its inputs may be others.
        references: lists the inputs.
        probe: gives the duration of a file in seconds, or None.
        spool_rows: references held in memory at once.

    Raises:
        CorpusMismatchError: the corpus was asked to be something else, a key is known from another
            source, or a source has another size now.
        PlanError: the inputs cannot be planned, or have columns that the corpus has not.
        CorpusError: there is no corpus, it is not finished, or the plan cannot be read or written.
    """
    sweep_temporaries(output)
    plan = load_plan(output)
    if plan is None:
        raise CorpusError(
            f"{output} holds no corpus to add to; run without --append to make one, or give "
            "another --output"
        )
    plan.check_request(request, append=True)
    if shards_covered(plan, read_manifest(output)) < plan.num_shards:
        return _resumed(plan, request)
    with spooled(output, request, references(), spool_rows) as spool:
        num_listed = spool.num_clips
        _leave_out_known(spool, plan)
        num_new = spool.num_clips
        if num_new:
            schema = _common_schema(plan, spool)
            before = len(plan.generations)
            plan = save_generation(output, request, spool, schema, plan, probe)
            added = plan.generations[before].request.inputs
            if added != request.inputs:
                raise CorpusMismatchError(
                    f"another run has added {', '.join(added)} to {output} meanwhile; run again "
                    "when that has ended"
                )
        return Appended(plan, num_new, num_listed - num_new)


def _resumed(plan: Plan, request: PlanRequest) -> Appended:
    last = plan.generations[-1]
    if last.before is None or last.request.inputs != request.inputs:
        raise CorpusError(
            f"{plan.output} is not finished, so nothing can be added yet; run the encoding of "
            f"{', '.join(last.request.inputs)} again to finish it"
        )
    return Appended(plan, last.num_clips, 0, resumed=True)


def _common_schema(plan: Plan, spool: Spool) -> pa.Schema:
    """Return the corpus's metadata columns, into which those of the new clips must fit."""
    old = plan.metadata_schema
    for column in spool.metadata_schema():
        if column.name not in old.names:
            raise PlanError(
                f"the metadata column {column.name!r} is not in {plan.output}, whose columns are "
                f"{', '.join(old.names) or 'none'}; leave it out or make another corpus"
            )
        there = old.field(column.name).type
        if _common_type(there, column.type) != there:
            raise PlanError(
                f"the metadata column {column.name!r} holds {column.type}, and in {plan.output} "
                f"{there}; give it values of that type or make another corpus"
            )
    return old


def _common_type(*kinds: pa.DataType) -> pa.DataType | None:
    schemas = [pa.schema([pa.field("", kind)]) for kind in kinds]
    try:
        unified = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    kind: pa.DataType = unified.field(0).type
    return kind


def _leave_out_known(spool: Spool, plan: Plan) -> None:
    """Drop the clips that a corpus has, and refuse those that it has otherwise."""
    old = KeyFiles(spool.folder / "old keys")
    for part in iter_parts(plan):
        for table in iter_columns(plan.output, part, COLUMNS):
            old.add(table)
    clips = _Clips(plan)
    for compared in compare(spool.keys, old):
        for position, other in compared.changed.tolist():
            _refuse_changed(spool.row(position, COLUMNS), clips[other], plan)
        # Keys whose hashes alone are equal are left for what they are: new.
        for position, other in compared.suspected.tolist():
            _refuse_same_key(spool.row(position, COLUMNS), clips[other])
        spool.leave_out(compared.known)


class _Clips:
    """The clips of a plan by their numbers in all of it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._starts = np.cumsum([0, *(shard.num_clips for shard in iter_shards(plan))])

    def __getitem__(self, position: int) -> Reference:
        index = int(np.searchsorted(self._starts, position, side="right")) - 1
        return load_shard(self._plan, index)[position - int(self._starts[index])]


def _refuse_changed(new: Mapping[str, Any], old: Reference, plan: Plan) -> None:
    raise CorpusMismatchError(
        f"{new['uri']} has changed since {plan.output} was made: it has {new['size_bytes']:,} "
        f"bytes, and had {old.size_bytes or 0:,}; a corpus keeps the codes that it has, so bring "
        "the old file back, give the new one another key, or make another corpus"
    )


def _refuse_same_key(new: Mapping[str, Any], old: Reference) -> None:
    if new["key"] == old.key:
        there = _source(old.uri, old.offset_seconds, old.duration_seconds)
        here = _source(new["uri"], new["offset_seconds"], new["duration_seconds"])
        raise CorpusMismatchError(
            f"the corpus has the key {old.key!r} from {there}, and now it comes from {here}; keys "
            "name the rows of a corpus, so give the new clip its own or leave it out"
        )


def _source(uri: str, offset_seconds: float, duration_seconds: float | None) -> str:
    start = f" from {offset_seconds:g} s" if offset_seconds else ""
    return uri + start + (f" for {duration_seconds:g} s" if duration_seconds is not None else "")
