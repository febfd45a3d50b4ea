"""Pipelines run to their end."""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

RATE = 1_000
SIZES = (803, 8, 2_400, 1, 77, 1_600, 795)
IN_MEMORY = ()
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def pipeline(*flags):
    return beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(list(flags)))


def run(build, *flags):
    """Run what `build` adds to a pipeline; gives its counters and counts of distributions."""
    made = pipeline(*flags)
    build(made)
    result = made.run()
    result.wait_until_finish()
    metrics = result.metrics().query()
    counters = {m.key.metric.name: m.committed for m in metrics["counters"]}
    return counters, {m.key.metric.name: m.committed.count for m in metrics["distributions"]}
