"""`dac-tokenize decode`: a corpus back to sound."""

import argparse

from dac_tokenize.cli.arguments import (
    add_codec_of_corpus,
    add_corpus,
    check_codec_of_corpus,
    tokenizer_of_corpus,
)

HELP = "decode a corpus back to sound files"
DESCRIPTION = "Decode a corpus of codes back to sound, one file for each row."
REQUIRED = ("corpus", "output")
TAKES_BEAM = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add_corpus(parser)
    add("--output", metavar="DIR", help="folder for the sound files, or URL")
    add(
        "--format", choices=["wav", "flac", "ogg"], default="wav", help="of the files (default wav)"
    )
    add("--keys", nargs="+", metavar="KEY", help="only the rows with these keys (default: all)")
    add_codec_of_corpus(parser)


def run(options: argparse.Namespace) -> int:
    """Decode, say where to listen."""
    from dac_tokenize.corpus.decoding import decode_corpus
    from dac_tokenize.waveform import as_uri

    check_codec_of_corpus(options)
    corpus = as_uri(options.corpus)
    tokenizer = tokenizer_of_corpus(corpus, options)
    count, seconds = 0, 0.0
    for decoded in decode_corpus(
        corpus, as_uri(options.output), tokenizer, sound_format=options.format, keys=options.keys
    ):
        count += 1
        seconds += decoded.num_samples / tokenizer.sampling_rate
    print(f"{count:,} clips, {seconds:.1f} s, written to {options.output}: listen there")
    return 0
