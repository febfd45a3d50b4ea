"""The same plan on every engine that can be started here: the same bytes in every file."""

import pytest

from dac_tokenize.cli import main
from tests.corpus.test_tokenizing import tree
from tests.engines import services


@pytest.fixture
def run(encode_command, expected, tmp_path):
    """Encode on an engine, given by Beam's options, and hold the corpus to the plain one."""

    def run(*beam_options):
        assert main([*encode_command, *beam_options]) == 0
        assert tree(tmp_path / "out") == expected

    return run


def test_in_memory(run):
    run()


def test_local_processes(run):
    run("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def test_local_threads(run):
    run("--direct_running_mode=multi_threading", "--direct_num_workers=2")


def test_job_service_with_external_workers(run, tmp_path):
    with services.job_service(tmp_path) as job, services.worker_pool(tmp_path) as (_, pool):
        run(
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{job}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{pool}",
        )


def test_prism(run):
    run("--runner=PrismRunner", f"--prism_location={services.prism()}")


def test_prism_with_external_workers(run, tmp_path):
    with services.worker_pool(tmp_path) as (_, pool):
        run(
            "--runner=PrismRunner",
            f"--prism_location={services.prism()}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{pool}",
        )


def test_flink(run, flink_cluster, capsys):
    """A JobManager, two TaskManagers and a worker pool for each, submitted through a job server."""
    with flink_cluster.logs_shown_on_failure():
        run(*flink_cluster.options())
    assert flink_cluster.last_job() == ("FINISHED", 0)
    # What is counted comes from the shards, since Flink passes on a part of the metrics only.
    assert ": 30 of 31 clips encoded, 0.03 h, " in capsys.readouterr().out
