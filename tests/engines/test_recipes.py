"""What of the recipes for engines that cannot be started here can be tested."""

import re
from pathlib import Path

import apache_beam as beam
import pytest
import yaml
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    WorkerOptions,
)

from dac_tokenize.beam import TokenizeCorpus
from dac_tokenize.cli.options import parse_options
from dac_tokenize.cli.runners import runner_of
from dac_tokenize.corpus import open_plan
from dac_tokenize.references import Reference
from tests.corpus.fakes import request
from tests.engines.services import REPOSITORY

CONFIGS = REPOSITORY / "configs"
JOB_BYTES = 10 << 20
"""Dataflow's limit for a job's graph."""


def options_of(name):
    return parse_options(["encode", "--config", str(CONFIGS / name)])


def graph_of(output):
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    _ = pipeline | TokenizeCorpus(output)
    return pipeline.to_runner_api().SerializeToString()


@pytest.mark.parametrize(
    ("name", "runner"),
    [
        ("dataflow_gpu.yaml", "DataflowRunner"),
        ("flink.yaml", "FlinkRunner"),
        ("spark.yaml", "SparkRunner"),
    ],
)
def test_options_parse_and_beam_knows_each(name, runner):
    options = options_of(name)
    assert runner_of(options.beam_options).name == runner
    given = PipelineOptions(options.beam_options)
    known = given.get_all_options()
    asked = yaml.safe_load((CONFIGS / name).read_text())["beam"]
    spelled = {"no_save_main_session": "save_main_session"}
    for option in asked:
        assert spelled.get(option, option) in known, option


def test_dataflow_options_reach_beam():
    options = PipelineOptions(options_of("dataflow_gpu.yaml").beam_options)
    assert options.view_as(SetupOptions).save_main_session is False
    assert options.view_as(GoogleCloudOptions).dataflow_service_options == [
        "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"
    ]
    debug = options.view_as(DebugOptions)
    assert debug.experiments == ["no_use_multiple_sdk_containers"]
    assert debug.number_of_worker_harness_threads == 1
    assert options.view_as(WorkerOptions).machine_type == "g2-standard-8"


def test_versions_are_pinned_together():
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    (pinned,) = set(re.findall(r"BEAM_VERSION=([\d.]+)", dockerfile))
    texts = [dockerfile, *(p.read_text() for p in CONFIGS.rglob("*.yaml"))]
    named = {v for text in texts for v in re.findall(r"beam-(\d+\.\d+\.\d+)", text)}
    named |= {v for text in texts for v in re.findall(r"\[gcp\]==([\d.]+\d)", text)}
    assert named == {pinned}
    (python,) = set(re.findall(r"beam_python([\d.]+)_sdk", dockerfile))
    assert f"Python: {python}" in (CONFIGS / "dataflow_gpu.yaml").read_text()


def test_flink_on_kubernetes_fits_its_configuration():
    deployment = yaml.safe_load((CONFIGS / "kubernetes" / "flink.yaml").read_text())["spec"]
    config = yaml.safe_load((CONFIGS / "flink.yaml").read_text())["beam"]
    assert deployment["image"].startswith(f"flink:{config['flink_version']}-")
    assert deployment["flinkVersion"] == f"v{config['flink_version'].replace('.', '_')}"
    manager = deployment["taskManager"]
    pool = manager["podTemplate"]["spec"]["containers"][1]
    port = pool["ports"][0]["containerPort"]
    assert config["environment_config"] == f"localhost:{port}"
    slots = int(deployment["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    assert config["parallelism"] == slots * manager["replicas"]


def test_job_graph_does_not_grow_with_the_plan(tmp_path):
    sizes = {}
    for count in (10, 20_000):
        clips = [Reference(f"clip-{i:06d}", f"gs://x/{i}.wav", 0.0, 1.0) for i in range(count)]
        plan = open_plan(str(tmp_path / f"{count:06d}"), request(), lambda clips=clips: clips)
        graph = graph_of(plan.output)
        assert b"clip-0000" not in graph
        sizes[count] = len(graph)
    # Beam compresses what it pickles, paths among it, so a few bytes come and go.
    assert abs(sizes[10] - sizes[20_000]) < 500
    assert max(sizes.values()) < JOB_BYTES / 100


def test_nothing_of_a_main_program_is_pickled(tmp_path):
    """Every function in the graph is found by its name in the package or in Beam."""
    plan = open_plan(str(tmp_path), request(), lambda: [Reference("a", "a.wav", 0.0, 1.0)])
    graph = graph_of(plan.output)
    assert b"__main__" not in graph
    assert Path(__file__).stem.encode() not in graph
