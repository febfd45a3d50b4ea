"""`dac-tokenize decode`: a corpus back to sound."""

import argparse

from dac_tokenize.errors import UsageError

HELP = "decode a corpus back to sound files"
DESCRIPTION = "Decode a corpus of codes back to sound, one file for each row."
REQUIRED = ("corpus", "output")
TAKES_BEAM = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add(
        "corpus",
        nargs="?",
        metavar="CORPUS",
        default=argparse.SUPPRESS,
        help="folder of the corpus, or URL",
    )
    add("--output", metavar="DIR", help="folder for the sound files, or URL")
    add(
        "--format", choices=["wav", "flac", "ogg"], default="wav", help="of the files (default wav)"
    )
    add("--keys", nargs="+", metavar="KEY", help="only the rows with these keys (default: all)")
    add("--model", metavar="M", help="where the corpus's codec is (default: as it was made)")
    add("--revision", metavar="R", help="branch, tag or commit on the Hub")
    add("--device", metavar="D", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def run(options: argparse.Namespace) -> int:
    """Decode, say where to listen."""
    from dac_tokenize.corpus.decoding import decode_corpus, tokenizer_of
    from dac_tokenize.waveform import as_uri

    if options.revision is not None and options.model is None:
        raise UsageError("--revision needs --model; without it the corpus's own codec is taken")
    corpus = as_uri(options.corpus)
    tokenizer = tokenizer_of(corpus, options.model, options.revision, options.device)
    count, seconds = 0, 0.0
    for decoded in decode_corpus(
        corpus, as_uri(options.output), tokenizer, sound_format=options.format, keys=options.keys
    ):
        count += 1
        seconds += decoded.num_samples / tokenizer.sampling_rate
    print(f"{count:,} clips, {seconds:.1f} s, written to {options.output}: listen there")
    return 0
