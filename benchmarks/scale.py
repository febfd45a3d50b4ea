"""How planning, running and resuming grow with the number of clips, with a fake reader and codec.

    python benchmarks/scale.py 10000 100000 1000000 --output scale.json

Each size is measured in a process of its own, so that its peak memory is its own. What is real:
spooling, sorting of keys' hashes, cutting, fingerprints, the plan's files, the job graph, one
Parquet file a shard with its footer, the manifest, the check of every footer by a second run. What
is fake: nothing is listed, opened or encoded; every clip is one frame.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dac_tokenize.codec.checkpoint import CodecIdentity
from dac_tokenize.corpus import PlanRequest, finish_corpus, open_plan, published_shard
from dac_tokenize.corpus.footer import ShardFooter, ShardStats
from dac_tokenize.corpus.manifest import ShardResult, shard_result
from dac_tokenize.corpus.plan import Plan, iter_shards, load_plan, load_shard
from dac_tokenize.corpus.record import Record, corpus_schema
from dac_tokenize.corpus.shard import ShardWriter
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOptions

CLIP_SECONDS = 9.0
SHARD_SECONDS = 3600.0
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


def references(count: int) -> Iterator[Reference]:
    """Yield as many references as asked for, with names, text and speaker as corpora have them."""
    for index in range(count):
        name = f"speaker{index // 500:06d}/session{index // 50 % 10}/clip{index:09d}.flac"
        yield Reference(
            key=name,
            uri=f"s3://bucket/corpus/{name}",
            duration_seconds=CLIP_SECONDS + index % 7 - 3,
            size_bytes=300_000 + index % 1000,
            metadata={"text": f"the words of clip number {index}", "speaker": index // 500},
        )


def fake_shard(plan: Plan, index: int, fingerprint: str) -> ShardResult:
    """Write a shard of one frame a clip."""
    schema = corpus_schema(plan.request.codec, plan.metadata_schema)
    codes = np.zeros((CODEC.num_codebooks, 1), np.uint16)
    clips = load_shard(plan, index)
    with ShardWriter(plan.shard_url(index), schema) as writer:
        for clip in clips:
            writer.write(Record(clip.key, codes, 320, 0.02, clip.uri, metadata=clip.metadata))
        footer = ShardFooter(
            codec={name: getattr(CODEC, name) for name in CODEC.__slots__},
            waveform={},
            plan_fingerprint=plan.fingerprint,
            shard_fingerprint=fingerprint,
            index=index,
            num_shards=plan.num_shards,
            stats=ShardStats(
                clips=len(clips),
                rows=len(clips),
                num_frames=len(clips),
                num_tokens=len(clips) * CODEC.num_codebooks,
                num_samples=320 * len(clips),
                seconds=0.02 * len(clips),
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
    """Plan, run, finish and resume a corpus of so many clips."""
    output = str(Path(folder) / str(count))
    request = PlanRequest(("s3://bucket/corpus",), CODEC, WaveformOptions(), SHARD_SECONDS)
    baseline = peak_mib()
    plan, plan_seconds = timed(lambda: open_plan(output, request, lambda: references(count)))
    plan_peak = peak_mib()
    plan_bytes = sum(path.stat().st_size for path in (Path(output) / "_plan").iterdir())
    again, load_seconds = timed(lambda: load_plan(output))
    assert again == plan
    indices = np.linspace(0, plan.num_shards - 1, min(SAMPLE_SHARDS, plan.num_shards)).astype(int)
    _, read_seconds = timed(lambda: [load_shard(plan, int(index)) for index in indices])
    shards, walk_seconds = timed(lambda: list(iter_shards(plan)))
    results, write_seconds = timed(
        lambda: [fake_shard(plan, shard.index, shard.fingerprint) for shard in shards]
    )
    manifest, finish_seconds = timed(lambda: finish_corpus(plan, output, results))
    assert manifest.rows == count
    resumed, resume_seconds = timed(
        lambda: [published_shard(plan, index) for index in range(plan.num_shards)]
    )
    assert all(resumed)
    again, refinish_seconds = timed(lambda: finish_corpus(plan, output, filter(None, resumed)))
    assert again == manifest
    graph_bytes = job_graph_bytes(output)
    row = {
        "clips": count,
        "shards": plan.num_shards,
        "plan_seconds": plan_seconds,
        "plan_clips_per_second": count / plan_seconds,
        "plan_peak_mib": plan_peak,
        "imports_peak_mib": baseline,
        "plan_bytes": plan_bytes,
        "load_plan_seconds": load_seconds,
        "read_references_of_a_shard_ms": 1000 * read_seconds / len(indices),
        "list_all_shards_seconds": walk_seconds,
        "write_fake_shards_seconds": write_seconds,
        "finish_seconds": finish_seconds,
        "manifest_bytes": (Path(output) / "_manifest.json").stat().st_size,
        "resume_all_done_seconds": resume_seconds + refinish_seconds,
        "job_graph_bytes": graph_bytes,
    }
    shutil.rmtree(output)
    return row


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "pyarrow": version("pyarrow"),
        "apache-beam": version("apache-beam"),
        "dac-tokenize": version("dac-tokenize"),
    }


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
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("clips", type=int, nargs="+", help="sizes to measure")
    parser.add_argument("--output", help="where the figures go, as JSON")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "rows": []}
    for count in options.clips:
        with (
            tempfile.TemporaryDirectory() as folder,
            multiprocessing.get_context("spawn").Pool(1) as pool,
        ):
            report["rows"].append(pool.apply(measure, (count, folder)))
        if options.output:
            Path(options.output).write_text(json.dumps(report, indent=1) + "\n")
        print(table(report["rows"][-1:]), flush=True)
    print(json.dumps(report["machine"]))
    print(table(report["rows"]))


if __name__ == "__main__":
    main()
