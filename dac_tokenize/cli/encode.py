"""`dac-tokenize encode`: audio to a corpus of codes."""

import argparse
import re
import sys
from typing import Any

from dac_tokenize.cli.options import REQUIRED, is_in_process, runner_of
from dac_tokenize.errors import CorpusError, UsageError

HELP = "encode audio into a corpus of codes"
DESCRIPTION = (
    "Encode audio into a corpus of DAC codes in Parquet. INPUT is a file, folder or glob, local or "
    "any fsspec URL. A second run with the same options goes on where the first one stopped. "
    "Options not listed here are Beam's, such as --runner=FlinkRunner."
)
TAKES_BEAM = True
DEFAULTS: dict[str, Any] = {
    "inputs": REQUIRED,
    "output": REQUIRED,
    "model": None,
    "revision": None,
    "codebooks": None,
    "device": "auto",
    "precision": "float32",
    "shard_seconds": 3600.0,
    "channels": "mix",
    "max_clip_seconds": None,
    "num_threads": 4,
    "allow_failures": False,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="file, folder or glob, local or an fsspec URL")
    add("--output", metavar="OUT", help="folder of the corpus, local or an fsspec URL")
    add(
        "--model", metavar="M", help="name on the Hub or folder (default: the shipped 16 kHz codec)"
    )
    add("--revision", metavar="R", help="branch, tag or commit on the Hub")
    add("--codebooks", type=int, metavar="N", help="keep the first N codebooks (default: all)")
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--precision", metavar="P", help="float32, tf32, float16 or bfloat16 (default: float32)")
    add(
        "--shard-seconds",
        type=float,
        metavar="S",
        help="seconds of audio in one output file, by estimate (default: 3600)",
    )
    add("--channels", metavar="C", help="mix, first or split (default: mix)")
    add(
        "--max-clip-seconds",
        type=float,
        metavar="S",
        help="refuse clips that decode to more than this (default: no limit)",
    )
    add("--num-threads", type=int, metavar="N", help="threads that decode audio (default: 4)")
    add(
        "--allow-failures",
        action="store_true",
        help="exit with 0, not 3, when some inputs failed",
    )


def run(options: argparse.Namespace) -> int:
    """Encode, print a summary, return the exit status."""
    from dac_tokenize.cli import EXIT_SOME_INPUTS_FAILED
    from dac_tokenize.corpus import PlanRequest, open_plan
    from dac_tokenize.process import codec_options
    from dac_tokenize.progress import ProgressDisplay
    from dac_tokenize.sources import list_references
    from dac_tokenize.waveform import WaveformOptions, as_uri

    _check(options)
    codec = codec_options(
        options.model, options.revision, options.codebooks, options.device, options.precision
    )
    in_process = is_in_process(options.beam_options)
    inputs = [options.inputs] if isinstance(options.inputs, str) else options.inputs
    request = PlanRequest(
        inputs=tuple(as_uri(one) for one in inputs),
        codec=_identity(codec, in_process),
        waveform=WaveformOptions(
            channels=options.channels, max_clip_seconds=options.max_clip_seconds
        ),
        shard_seconds=options.shard_seconds,
    )
    output = as_uri(options.output)
    listing = list_references(inputs)
    plan = open_plan(output, request, lambda: listing)
    _say_skipped(listing.skipped)
    with ProgressDisplay(plan, in_process):
        _run_pipeline(output, codec, options)
    failed = _summarise(output)
    return EXIT_SOME_INPUTS_FAILED if failed and not options.allow_failures else 0


def _check(options: argparse.Namespace) -> None:
    if not options.shard_seconds > 0:
        raise UsageError(f"--shard-seconds is {options.shard_seconds}; expected more than 0")
    if options.num_threads < 0:
        raise UsageError(f"--num-threads is {options.num_threads}; expected 0 or more")


def _identity(codec: Any, in_process: bool) -> Any:
    """Return the codec's identity; a local run keeps the loaded codec for its worker."""
    from dac_tokenize.codec.checkpoint import load_checkpoint
    from dac_tokenize.process import tokenizer_for

    if in_process:
        return tokenizer_for(codec).identity
    checkpoint = load_checkpoint(codec.model, codec.revision)
    return checkpoint.identity(codec.num_codebooks, codec.precision)


def _run_pipeline(output: str, codec: Any, options: argparse.Namespace) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from dac_tokenize.beam import TokenizeCorpus

    runner = runner_of(options.beam_options)
    try:
        with beam.Pipeline(
            runner=runner, options=PipelineOptions(options.beam_options)
        ) as pipeline:
            _ = pipeline | TokenizeCorpus(output, codec, options.num_threads)
    # Beam wraps what a worker raised, in another class for each runner, and puts its text inside.
    except Exception as error:
        sentence = sentence_of_worker(str(error))
        if sentence is None:
            raise
        raise CorpusError(sentence) from error


def sentence_of_worker(text: str) -> str | None:
    """Return the sentence of the error of ours that a runner's message holds, if there is one.

    >>> sentence_of_worker("RuntimeError: dac_tokenize.errors.CorpusError: disk full [while ...")
    'disk full'
    """
    found = re.findall(r"dac_tokenize\.errors\.\w+: (.+?)(?: \[while |\n|$)", text)
    return found[-1].strip() if found else None


def _say_skipped(skipped: Any) -> None:
    if skipped:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        print(
            f"dac-tokenize: left out {sum(skipped.values())} files that are not audio by their "
            f"suffix ({kinds})",
            file=sys.stderr,
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
    if info.failed:
        print(f"{info.failed:,} failed, listed in {output}/_failed.parquet:")
        for failed in read_failed(output)[:_FAILED_SHOWN]:
            print(f"  {failed.key}: {failed.error}: {failed.message}")
        if info.failed > _FAILED_SHOWN:
            print(f"  and {info.failed - _FAILED_SHOWN:,} more")
    return info.failed


_FAILED_SHOWN = 10
