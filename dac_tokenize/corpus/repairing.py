"""A corpus made whole again: just the shards with findings are encoded anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from dac_tokenize import files
from dac_tokenize.corpus.checking import usable_manifest
from dac_tokenize.corpus.manifest import MANIFEST_NAME, Manifest, finish_corpus
from dac_tokenize.corpus.plan import Plan, load_plan
from dac_tokenize.corpus.planning import sweep_temporaries
from dac_tokenize.corpus.results import ShardResult
from dac_tokenize.corpus.tokenizing import NUM_THREADS, published_shard, tokenize_shard
from dac_tokenize.corpus.verifying import Finding, Verification, verify_corpus
from dac_tokenize.errors import CorpusError

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer


def repair_corpus(
    output: str,
    found: Verification,
    load_tokenizer: Callable[[], DacTokenizer],
    *,
    num_threads: int = NUM_THREADS,
) -> Verification:
    """Encode the shards with findings again, write the manifest anew, and verify once more.

    A new file takes the old one's place when it is whole. With the versions that made the corpus,
    and inputs that have not changed, it has the bytes it had at first.

    Args:
        output: path or URL of the output folder.
        found: what `verify_corpus` said of it.
        load_tokenizer: loads the codec of the corpus; called only where a shard must be made.
        num_threads: threads that fetch and decode ahead.

    Returns:
        What `verify_corpus` says now. Shards made again whose bytes are not those that the manifest
        knew add a finding "changed", this once.

    Raises:
        CorpusError: there is no corpus, or a file cannot be written.
        CorpusMismatchError: the codec is not the corpus's.
    """
    plan = load_plan(output)
    if plan is None:
        raise CorpusError(f"{output} holds no corpus of dac_tokenize: it has no _plan/plan.json")
    sweep_temporaries(output)
    earlier = usable_manifest(plan)[0]
    if earlier is None:  # then all checksums are taken from the files
        files.remove(files.join(output, MANIFEST_NAME))
    bad = found.bad_shards()
    made: dict[int, ShardResult] = {}
    if bad:
        tokenizer = load_tokenizer()
        for index in bad:
            made[index] = tokenize_shard(plan, index, tokenizer, num_threads=num_threads, anew=True)
    results = [made.get(index) or published_shard(plan, index) for index in range(plan.num_shards)]
    finish_corpus(plan, output, [one for one in results if one is not None])
    after = verify_corpus(output)
    return replace(after, findings=(*after.findings, *_changed(plan, earlier, made)))


def _changed(plan: Plan, earlier: Manifest | None, made: dict[int, ShardResult]) -> list[Finding]:
    """List shards whose bytes are not those that the manifest had known."""
    if earlier is None:
        return []
    return [
        Finding(
            plan.shard_name(index),
            "changed",
            f"made again, with other bytes than {MANIFEST_NAME} knew (its inputs or the versions "
            f"of torch and transformers have changed): {result.rows} rows where "
            f"{earlier.files[index].rows} were, {result.failed} failed inputs where "
            f"{earlier.files[index].failed} were; the manifest now has the new ones",
        )
        for index, result in made.items()
        if index < len(earlier.files) and result.checksum != earlier.files[index].checksum
    ]
