"""How planning, running, resuming and appending grow with the number of clips.

    python -m benchmarks.scale 10000 100000 1000000 10000000

Each size is measured in a process of its own, so that its peak memory is its own. What is real:
spooling, comparison of keys, cutting, fingerprints, the plan's files, the job graph, one Parquet
file a shard with its footer, the manifest, the check of every footer by a second run, an append.
What is fake: nothing is listed, opened or encoded, and one row of one frame stands for all of a
shard's clips.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dac_tokenize.codec.checkpoint import CodecIdentity
from dac_tokenize.corpus import (
    PlanRequest,
    append_plan,
    finish_corpus,
    load_plan,
    open_plan,
    published_shard,
)
from dac_tokenize.corpus.footer import ShardFooter, ShardStats
from dac_tokenize.corpus.manifest import unfinished
from dac_tokenize.corpus.parts import PlannedShard
from dac_tokenize.corpus.plan import Plan, iter_shards, load_shard
from dac_tokenize.corpus.record import Record, corpus_schema
from dac_tokenize.corpus.results import ShardResult, shard_result
from dac_tokenize.corpus.shard import ShardWriter
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOptions

CLIP_SECONDS = 9.0
SHARD_SECONDS = 3600.0
NEW_CLIPS = 10_000
SAMPLE_SHARDS = 200
"""Shards whose references are read back, to tell what a worker pays for its own."""

CODEC = CodecIdentity(
    model_id="fake",
    revision=None,
    weights_checksum="0" * 64,
    sampling_rate=16_000,
    hop_length=320,
    num_codebooks=12,
    codebook_size=1024,
    precision="float32",
)


def references(first: int, end: int) -> Iterator[Reference]:
    """Yield references by their numbers, with names, text and speaker as corpora have them."""
    for index in range(first, end):
        name = f"speaker{index // 500:06d}/session{index // 50 % 10}/clip{index:09d}.flac"
        yield Reference(
            key=name,
            uri=f"s3://bucket/corpus/{name}",
            duration_seconds=CLIP_SECONDS + index % 7 - 3,
            size_bytes=300_000 + index % 1000,
            metadata={"text": f"the words of clip number {index}", "speaker": index // 500},
        )


def fake_shard(plan: Plan, planned: PlannedShard) -> ShardResult:
    """Write a shard in which one row of one frame stands for all clips."""
    schema = corpus_schema(plan.request.codec, plan.metadata_schema)
    codes = np.zeros((CODEC.num_codebooks, 1), np.uint16)
    generation = plan.generation_of(planned.index)
    with ShardWriter(plan.shard_url(planned.index), schema) as writer:
        writer.write(Record(f"shard {planned.index}", codes, 320, 0.02, "s3://bucket"))
        footer = ShardFooter(
            codec=asdict(CODEC),
            waveform=asdict(plan.request.waveform),
            plan_fingerprint=generation.fingerprint,
            shard_fingerprint=planned.fingerprint,
            index=planned.index,
            num_shards=generation.end_shard,
            stats=ShardStats(
                clips=planned.num_clips,
                rows=1,
                num_frames=1,
                num_tokens=CODEC.num_codebooks,
                num_samples=320,
                seconds=planned.estimated_seconds,
            ),
        )
        return shard_result(plan, footer, writer.publish(footer), skipped=False)


def job_graph_bytes(output: str) -> int:
    """Return the size of the pipeline as it would be sent to an engine."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from dac_tokenize.beam import TokenizeCorpus

    pipeline = beam.Pipeline(options=PipelineOptions([]))
    _ = pipeline | TokenizeCorpus(output)
    return len(pipeline.to_runner_api().SerializeToString())


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its seconds."""
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


def measure(count: int, folder: str) -> dict[str, Any]:
    """Plan, run, finish, resume and append to a corpus of so many clips."""
    output = str(Path(folder) / str(count))
    request = PlanRequest(("s3://bucket/corpus",), CODEC, WaveformOptions(), SHARD_SECONDS)
    baseline = peak_mib()
    _, listing_seconds = timed(lambda: sum(1 for _ in references(0, count)))
    plan, plan_seconds = timed(lambda: open_plan(output, request, lambda: references(0, count)))
    plan_peak = peak_mib()
    plan_bytes = sum(path.stat().st_size for path in (Path(output) / "_plan").iterdir())
    again, load_seconds = timed(lambda: load_plan(output))
    assert again == plan
    indices = np.linspace(0, plan.num_shards - 1, min(SAMPLE_SHARDS, plan.num_shards)).astype(int)
    _, read_seconds = timed(lambda: [load_shard(plan, int(index)) for index in indices])
    graph_bytes = job_graph_bytes(output)
    shards, walk_seconds = timed(lambda: list(iter_shards(plan)))
    results, write_seconds = timed(lambda: [fake_shard(plan, shard) for shard in shards])
    manifest, finish_seconds = timed(lambda: finish_corpus(plan, output, results))
    assert manifest.clips == count
    resumed, resume_seconds = timed(lambda: [published_shard(plan, i) for i in plan.indices])
    again, refinish_seconds = timed(lambda: finish_corpus(plan, output, filter(None, resumed)))
    assert again == manifest
    row = {
        "clips": count,
        "shards": plan.num_shards,
        "making_up_references_seconds": listing_seconds,
        "plan_seconds": plan_seconds,
        "plan_peak_mib": plan_peak,
        "imports_peak_mib": baseline,
        "plan_bytes": plan_bytes,
        "load_plan_seconds": load_seconds,
        "read_references_of_a_shard_ms": 1000 * read_seconds / len(indices),
        "job_graph_bytes": graph_bytes,
        "list_all_shards_seconds": walk_seconds,
        "write_fake_shards_seconds": write_seconds,
        "finish_seconds": finish_seconds,
        "manifest_bytes": (Path(output) / "_manifest.json").stat().st_size,
        "resume_all_done_seconds": resume_seconds + refinish_seconds,
        "append_new_alone_seconds": append(output, request, count, count + NEW_CLIPS),
        "append_new_among_known_seconds": append(output, request, 0, count + 2 * NEW_CLIPS),
        "whole_peak_mib": peak_mib(),
    }
    shutil.rmtree(output)
    return row


def append(output: str, request: PlanRequest, first: int, end: int) -> float:
    """Add `NEW_CLIPS` clips, the last of those listed; return the seconds of planning that."""
    appended, seconds = timed(lambda: append_plan(output, request, lambda: references(first, end)))
    assert (appended.num_new, appended.num_known) == (NEW_CLIPS, end - first - NEW_CLIPS)
    plan = unfinished(appended.plan)
    results = [fake_shard(plan, shard) for shard in iter_shards(plan)]
    assert finish_corpus(appended.plan, output, results).clips == end
    return seconds


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB."""
    # Not by `getrusage`, which counts the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [one for one in lines if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table, one column a size."""
    names = list(rows[0])
    lines = ["| | " + " | ".join(f"{row['clips']:,} clips" for row in rows) + " |"]
    lines.append("| --- |" + " ---: |" * len(rows))
    for name in names[1:]:
        values = (row[name] for row in rows)
        cells = (f"{v:,}" if isinstance(v, int) else f"{v:,.4g}" for v in values)
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure all sizes asked for; write JSON; print the table."""
    # Not before: the processes that measure import this file, and torch would count as theirs.
    from benchmarks.common import write_json

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("clips", type=int, nargs="+", help="sizes to measure")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for count in options.clips:
        with (
            tempfile.TemporaryDirectory() as folder,
            multiprocessing.get_context("spawn").Pool(1) as pool,
        ):
            load = os.getloadavg()[0]
            row = pool.apply(measure, (count, folder))
        rows.append(row | {"load_before": load, "load_after": os.getloadavg()[0]})
        print(table(rows[-1:]), flush=True)
        write_json("scale", {"apache-beam": version("apache-beam"), "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
