"""`dac-tokenize verify`: proof that a corpus is whole, and its repair."""

import argparse
from typing import TYPE_CHECKING

from dac_tokenize.cli.arguments import (
    add_codec_of_corpus,
    add_corpus,
    add_num_threads,
    check_codec_of_corpus,
    check_num_threads,
)

if TYPE_CHECKING:
    from dac_tokenize.corpus.verifying import Finding, Verification
    from dac_tokenize.tokenizer import DacTokenizer

HELP = "check every byte of a corpus, and repair what is damaged"
DESCRIPTION = (
    "Read all of a corpus and list what is wrong: files missing, cut short or changed by as much "
    "as one bit, footers, counts, keys, codes and lengths that do not fit, files that do not "
    "belong. Exit status 0 where nothing is, 1 where something is."
)
REQUIRED = ("corpus",)
TAKES_BEAM = False

_SHOWN = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_corpus(parser)
    parser.add_argument(
        "--repair", action="store_true", help="encode again just the shards that are not whole"
    )
    add_codec_of_corpus(parser)
    add_num_threads(parser, "files read at once")


def run(options: argparse.Namespace) -> int:
    """Verify, repair where that is asked for, print what is wrong."""
    from dac_tokenize.cli import EXIT_FAILED
    from dac_tokenize.corpus.repairing import repair_corpus
    from dac_tokenize.corpus.verifying import verify_corpus
    from dac_tokenize.waveform import as_uri

    check_codec_of_corpus(options)
    check_num_threads(options)
    corpus = as_uri(options.corpus)
    found = verify_corpus(corpus, num_threads=options.num_threads)
    _show(found)
    if options.repair and found.findings:
        print(f"encoding {len(found.bad_shards()):,} shards again")
        found = repair_corpus(
            corpus,
            found,
            lambda: _tokenizer(corpus, options),
            num_threads=options.num_threads,
        )
        _show(found)
    return EXIT_FAILED if found.findings else 0


def _tokenizer(corpus: str, options: argparse.Namespace) -> "DacTokenizer":
    from dac_tokenize.corpus import corpus_info
    from dac_tokenize.process import codec_options, tokenizer_for

    codec = corpus_info(corpus).codec
    model, revision = options.model, options.revision
    if model is None:
        model, revision = codec.model_id, codec.revision
    return tokenizer_for(
        codec_options(model, revision, codec.num_codebooks, options.device, codec.precision)
    )


def _show(found: "Verification") -> None:
    """Print the table of findings, and one line that sums them up."""
    shown = found.findings[:_SHOWN]
    widths = [max((len(row[i]) for row in _cells(shown)), default=0) for i in range(2)]
    for path, kind, message in _cells(shown):
        print(f"{path:<{widths[0]}}  {kind:<{widths[1]}}  {message}")
    if len(found.findings) > _SHOWN:
        print(f"and {len(found.findings) - _SHOWN:,} more")
    state = "" if found.finished else ", unfinished"
    verdict = f"{len(found.findings):,} findings" if found.findings else "nothing wrong"
    print(
        f"{found.num_shards:,} shards{state}, {found.rows:,} rows and {found.num_tokens:,} tokens "
        f"found whole, {found.size_bytes:,} bytes read: {verdict}"
    )


def _cells(findings: "tuple[Finding, ...]") -> list[tuple[str, str, str]]:
    return [(finding.path, finding.kind, finding.message) for finding in findings]
