"""One pipeline, run to its end on any runner."""

# Beam is annotated in parts only.
# mypy: allow-untyped-calls

import contextlib
import logging
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from dac_tokenize import errors
from dac_tokenize.beam import TokenizeCorpus
from dac_tokenize.cli.flink import cancel_job, new_job_name
from dac_tokenize.cli.quiet import runner_logs, say
from dac_tokenize.cli.runners import Runner, runner_of
from dac_tokenize.cli.stopping import Stopped, stoppable
from dac_tokenize.errors import CorpusError
from dac_tokenize.process import CodecOptions


def run_pipeline(
    output: str,
    codec: CodecOptions,
    num_threads: int,
    beam_options: Sequence[str],
    stall_timeout_seconds: float | None = None,
) -> None:
    """Make the corpus that is planned in `output`, as `run_transform` runs it."""
    transform = TokenizeCorpus(output, codec, num_threads, stall_timeout_seconds)
    run_transform(transform, beam_options)


def run_transform(transform: "beam.PTransform[Any, Any]", beam_options: Sequence[str]) -> None:
    """Run a pipeline of one transform.

    Args:
        transform: goes at the pipeline's root.
        beam_options: Beam's options, as on the command line.

    Raises:
        DacTokenizeError: what a worker raised, or what the runner says.
        Stopped: a signal came; the job of another runner than the local one is cancelled.
    """
    runner = runner_of(beam_options)
    pipeline = _pipeline(runner, beam_options)
    _ = pipeline | transform
    in_cluster = _job_in_flink(pipeline.options) if runner.name == "FlinkRunner" else None
    try:
        with runner_logs(shown=not runner.is_local):
            if runner.is_local:
                _in_thread(lambda: pipeline.run().wait_until_finish())
            else:
                _wait(pipeline.run())
    # Beam wraps what a worker raised, in another class for each runner, and puts its text inside;
    # or raises the same class, with a note about the step in its text.
    except Exception as error:
        name = f"{type(error).__module__}.{type(error).__name__}"
        raise_error_of_worker(f"{name}: {error}", error)
        if runner.is_local:
            raise
        raise CorpusError(_runner_failed(runner, error)) from error
    except Stopped:
        if in_cluster is not None:
            _cancel(*in_cluster)
        raise
    finally:
        # Beam does so too where a run gets to its end.
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)


def _pipeline(runner: Runner, beam_options: Sequence[str]) -> beam.Pipeline:
    options = PipelineOptions(list(beam_options))
    if not runner.is_local or runner.is_in_process:
        return beam.Pipeline(runner=runner.name, options=options)
    # Beam's own worker processes would write all that they log to stderr.
    options.view_as(DirectOptions).direct_running_mode = "in_memory"
    command = f"{shlex.quote(sys.executable)} -m dac_tokenize.cli.worker"
    environment = SubprocessSDKEnvironment.from_command_string(command)
    return beam.Pipeline(runner=FnApiRunner(default_environment=environment), options=options)


def _job_in_flink(options: PipelineOptions) -> tuple[str, str] | None:
    """Return the JobManager's URL and the job's name; None where Beam starts a Flink of its own."""
    named = options.view_as(GoogleCloudOptions)  # whose name all runners take
    named.job_name = named.job_name or new_job_name()
    master = FlinkRunner.add_http_scheme(options.view_as(FlinkRunnerOptions).flink_master)
    return None if master.startswith("[") else (master, named.job_name)


def _cancel(master: str, name: str) -> None:
    if cancel_job(master, name):
        say(f"the job {name} at {master} is cancelled")
    else:
        say(f"the job {name} may go on: look for it at {master}", logging.WARNING)


def _in_thread(run: Callable[[], object]) -> None:
    """Run what blocks, with this thread free for signals."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, name="pipeline", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _wait(result: PipelineResult) -> None:
    # A job server that Beam has started ends itself at a SIGINT, before anybody could ask it to
    # cancel the job: the signals are taken back.
    with stoppable():
        try:
            result.wait_until_finish()
        except Stopped:
            with contextlib.suppress(Exception):
                result.cancel()
            raise


def raise_error_of_worker(text: str, cause: BaseException | None = None) -> None:
    r"""Raise the error of ours that a runner's message holds, if there is one.

    Args:
        text: the message, which holds a traceback somewhere.
        cause: what is noted as the cause.

    Raises:
        DacTokenizeError: with the worker's message on one line.

    >>> raise_error_of_worker("x.CorpusError: y\ndac_tokenize.errors.CorpusError: full [while ...")
    Traceback (most recent call last):
    ...
    dac_tokenize.errors.CorpusError: full
    """
    found = re.findall(_ERROR_IN_TRACEBACK, text, re.DOTALL)
    if found:
        name, message = found[-1]
        kind = getattr(errors, name, CorpusError)
        raise kind(" ".join(message.split())) from cause


# Up to Beam's note about the step, or the end of the traceback.
_ERROR_IN_TRACEBACK = (
    r"dac_tokenize\.errors\.(\w+): (.+?)"
    r"(?= \[while |\n\nDuring handling|\n\nThe above exception|\nTraceback |\Z)"
)


def _runner_failed(runner: Runner, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return f"the pipeline failed on {runner.name}: {last}"
