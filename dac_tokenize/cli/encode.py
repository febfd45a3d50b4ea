"""`dac-tokenize encode`: audio to a corpus of codes."""

import argparse
import os
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dac_tokenize.cli.arguments import (
    add_device,
    add_inputs,
    add_num_threads,
    add_revision,
    check_num_threads,
)
from dac_tokenize.cli.options import finite
from dac_tokenize.cli.quiet import is_json, say
from dac_tokenize.errors import CorpusError, DacTokenizeError, UsageError

if TYPE_CHECKING:
    from dac_tokenize.codec.checkpoint import CodecIdentity
    from dac_tokenize.corpus import Appended, Plan
    from dac_tokenize.process import CodecOptions
    from dac_tokenize.progress import Tally

HELP = "encode audio into a corpus of codes"
DESCRIPTION = (
    "Encode audio into a corpus of DAC codes in Parquet. INPUT is a file, folder or glob, local or "
    "any fsspec URL. A second run with the same options goes on where the first one stopped; "
    "--append adds what is new to a finished corpus. "
    "Options not listed here are Beam's, such as --runner=FlinkRunner; give their values with an "
    "equals sign."
)
REQUIRED = ("inputs", "output")
TAKES_BEAM = True

_FAILED_SHOWN = 10
_SECONDS_TO_LOOK = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add_inputs(parser)
    add("--output", metavar="OUT", help="folder of the corpus, local or an fsspec URL")
    add(
        "--model", metavar="M", help="name on the Hub or folder (default: the shipped 16 kHz codec)"
    )
    add_revision(parser)
    add("--codebooks", type=int, metavar="N", help="keep the first N codebooks (default: all)")
    add_device(parser)
    add(
        "--precision",
        metavar="P",
        default="float32",
        help="float32, tf32, float16 or bfloat16 (default: float32)",
    )
    add(
        "--shard-seconds",
        type=finite,
        metavar="S",
        default=3600.0,
        help="seconds of audio in one output file, by estimate (default: 3600)",
    )
    add(
        "--channels",
        choices=["mix", "first", "split"],
        default="mix",
        help="take the mean of all channels, the first, or each as its own row (default: mix)",
    )
    add(
        "--max-clip-seconds",
        type=finite,
        metavar="S",
        help="refuse clips that decode to more than this (default: no limit)",
    )
    add(
        "--loudness",
        type=finite,
        metavar="LUFS",
        help="bring clips to this loudness, ITU-R BS.1770 (default: as they are)",
    )
    add_num_threads(parser, "threads that decode audio")
    add(
        "--append",
        action="store_true",
        help="add what the finished corpus in OUT does not have yet, in shards of its own",
    )
    add(
        "--workers",
        type=int,
        metavar="N",
        help="make shards in N processes on this machine, one for each GPU where there are any "
        "(default: in this process)",
    )
    add(
        "--stall-timeout-seconds",
        type=finite,
        metavar="S",
        help="a worker process that finishes nothing for so long is killed, and another one makes "
        "its shard (default: 600 with --workers, never elsewhere)",
    )
    add(
        "--log-format",
        choices=["text", "json"],
        default="text",
        help="lines for people on stderr, or JSON objects that tell of every shard and failed clip "
        "(default: text)",
    )
    add(
        "--allow-failures",
        action="store_true",
        help="exit with 0, not 3, when some inputs failed",
    )


def run(options: argparse.Namespace) -> int:
    """Encode, print a summary, return the exit status."""
    from dac_tokenize.cli import EXIT_SOME_INPUTS_FAILED
    from dac_tokenize.cli.stopping import Stopped, leave_process
    from dac_tokenize.corpus.manifest import unfinished
    from dac_tokenize.progress import ProgressDisplay

    _check(options)
    codec = _codec_options(options)
    in_process = options.workers is None and _is_in_process(options)
    identity = _identity(codec, in_process)
    if identity.revision is not None and not in_process:
        codec = replace(codec, revision=identity.revision)  # all workers load the same commit
    plan = _plan(options, identity)
    if plan is None:
        return 0
    try:
        is_counted_here = in_process or options.workers is not None
        say_progress = _say_progress if is_json() else None
        with ProgressDisplay(unfinished(plan), is_counted_here, say=say_progress):
            _make(options, plan, codec)
    except Stopped as stopped:
        leave_process(Stopped(stopped.signal_number, _done_so_far(plan)), plan.output)
    failed = _summarise(plan.output)
    return EXIT_SOME_INPUTS_FAILED if failed and not options.allow_failures else 0


def _is_in_process(options: argparse.Namespace) -> bool:
    from dac_tokenize.cli.runners import runner_of

    return runner_of(options.beam_options).is_in_process


def _make(options: argparse.Namespace, plan: "Plan", codec: "CodecOptions") -> None:
    """Make all shards that are missing, and finish the corpus."""
    if options.workers is None:
        from dac_tokenize.cli.running import run_pipeline

        stall_timeout = options.stall_timeout_seconds
        run_pipeline(plan.output, codec, options.num_threads, options.beam_options, stall_timeout)
        return
    from dac_tokenize.corpus import finish_corpus
    from dac_tokenize.progress import report_clips
    from dac_tokenize.workers import tokenize_shards
    from dac_tokenize.workers.running import STALL_TIMEOUT_SECONDS

    results = tokenize_shards(
        plan,
        codec,
        num_workers=options.workers,
        num_threads=options.num_threads,
        stall_timeout_seconds=options.stall_timeout_seconds or STALL_TIMEOUT_SECONDS,
        on_progress=report_clips,
    )
    with closing(results):  # which ends the workers
        finish_corpus(plan, plan.output, results)


def _say_progress(text: str, tally: "Tally") -> None:
    say(text, event="progress", **asdict(tally))


def _check(options: argparse.Namespace) -> None:
    """Refuse what can be refused before anything large is loaded."""
    from dac_tokenize import files
    from dac_tokenize.waveform import as_uri

    if not options.shard_seconds > 0:
        raise UsageError(f"--shard-seconds is {options.shard_seconds:g}; expected more than 0")
    check_num_threads(options)
    _check_workers(options)
    if "" in options.inputs:
        raise UsageError("an INPUT is empty; expected a file, folder or glob")
    try:
        path = files.local_path(as_uri(options.output))
    except CorpusError as error:
        raise UsageError(f"--output {options.output} cannot be used: {error.__cause__}") from error
    if path is not None and path.exists() and not path.is_dir():
        raise UsageError(f"--output {options.output} is a file; expected a folder, or none yet")


def _check_workers(options: argparse.Namespace) -> None:
    if options.stall_timeout_seconds is not None and not options.stall_timeout_seconds > 0:
        raise UsageError(
            f"--stall-timeout-seconds is {options.stall_timeout_seconds:g}; expected more than 0"
        )
    if options.workers is None:
        if options.stall_timeout_seconds is not None and _is_in_process(options):
            raise UsageError(
                "--stall-timeout-seconds needs --workers or an engine with workers of its own: "
                "this process cannot replace itself; --workers 1 makes shards in one other process"
            )
        return
    if options.workers < 1:
        raise UsageError(f"--workers is {options.workers}; expected 1 or more")
    if options.beam_options:
        raise UsageError(
            "--workers starts processes on this machine without Beam, and "
            f"{options.beam_options[0]} is an option of Beam's; give one or the other"
        )


def _codec_options(options: argparse.Namespace) -> "CodecOptions":
    from dac_tokenize.process import CodecOptions

    model = options.model
    # A folder is found by workers and later runs wherever they start.
    if model is not None and Path(model).is_dir():
        model = os.path.abspath(model)
    return CodecOptions(
        model, options.revision, options.codebooks, options.device, options.precision
    )


def _identity(codec: "CodecOptions", in_process: bool) -> "CodecIdentity":
    """Return the codec's identity; a local run keeps the loaded codec for its worker."""
    if in_process:
        from dac_tokenize.process import tokenizer_for

        return tokenizer_for(codec).identity
    from dac_tokenize.codec.checkpoint import load_checkpoint
    from dac_tokenize.codec.precision import PRECISIONS

    if codec.precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UsageError(f"precision is {codec.precision!r}; expected one of {known}")
    checkpoint = load_checkpoint(codec.model, codec.revision)
    return checkpoint.identity(codec.num_codebooks, codec.precision)


def _plan(options: argparse.Namespace, identity: "CodecIdentity") -> "Plan | None":
    """Return the saved plan, or list the inputs and save one; None where nothing is to be done."""
    from dac_tokenize.corpus import PlanRequest, append_plan, open_plan
    from dac_tokenize.sources import list_references
    from dac_tokenize.waveform import WaveformOptions, as_uri

    request = PlanRequest(
        inputs=tuple(as_uri(one) for one in options.inputs),
        codec=identity,
        waveform=WaveformOptions(
            channels=options.channels,
            max_clip_seconds=options.max_clip_seconds,
            loudness=options.loudness,
        ),
        shard_seconds=options.shard_seconds,
    )
    listing = list_references(options.inputs)
    output = as_uri(options.output)
    if options.append:
        appended = append_plan(output, request, lambda: listing)
        _say_skipped(listing.skipped)
        return _say_appended(appended)
    plan = open_plan(output, request, lambda: listing)
    _say_skipped(listing.skipped)
    return plan


def _say_appended(appended: "Appended") -> "Plan | None":
    output, known = appended.plan.output, f"{appended.num_known:,} known clips left out"
    if not appended.num_new:
        print(f"{output}: nothing new, {known}")
        return None
    if appended.resumed:
        print(f"{output}: going on with {appended.num_new:,} clips added by an earlier run")
    else:
        print(f"{output}: {appended.num_new:,} clips added, {known}")
    return appended.plan


def _say_skipped(skipped: Mapping[str, int]) -> None:
    if skipped:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        say(
            f"left out {sum(skipped.values()):,} files that are not audio by their suffix ({kinds})"
        )


def _done_so_far(plan: "Plan") -> str:
    """Return what of a stopped run remains; nothing where the store takes long to tell."""
    found: list[str] = []
    looking = threading.Thread(target=lambda: found.append(_what_remains(plan)), daemon=True)
    looking.start()
    looking.join(_SECONDS_TO_LOOK)
    return found[0] if found else ""


def _what_remains(plan: "Plan") -> str:
    from dac_tokenize.corpus import corpus_info

    try:
        info = corpus_info(plan.output)
    except (DacTokenizeError, OSError):
        return ""
    return (
        f": {info.shards_done:,} of {info.num_shards:,} shards are done ({info.clips:,} clips, "
        f"{info.hours:.2f} h) and stay; the same command goes on from there"
    )


def _summarise(output: str) -> int:
    """Print what the corpus holds now; return how many inputs failed."""
    from dac_tokenize.corpus import corpus_info, read_failed

    info = corpus_info(output)
    print(
        f"{output}: {info.clips - info.failed:,} of {info.clips:,} clips encoded, "
        f"{info.hours:.2f} h, {info.num_tokens:,} tokens at {info.bits_per_token:.2f} bits, "
        f"{info.num_shards:,} shards"
    )
    if is_json():
        say("run finished", event="run finished", **asdict(info))
    if info.failed:
        print(f"{info.failed:,} failed, listed in {output}/_failed.parquet:")
        for failed in read_failed(output)[:_FAILED_SHOWN]:
            print(f"  {failed.key}: {failed.error}: {failed.message}")
        if info.failed > _FAILED_SHOWN:
            print(f"  and {info.failed - _FAILED_SHOWN:,} more")
    return info.failed
