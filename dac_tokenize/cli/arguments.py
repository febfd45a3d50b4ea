"""Options that several commands have, each told once."""

import argparse
from typing import TYPE_CHECKING

from dac_tokenize.errors import UsageError

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add INPUT, once or more."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        default=argparse.SUPPRESS,
        help="file, folder or glob, local or an fsspec URL",
    )


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Add CORPUS."""
    parser.add_argument(
        "corpus",
        nargs="?",
        metavar="CORPUS",
        default=argparse.SUPPRESS,
        help="folder of the corpus, or URL",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device",
        metavar="D",
        default="auto",
        help="auto, cpu, cuda or cuda:N (default: auto)",
    )


def add_revision(parser: argparse.ArgumentParser) -> None:
    """Add --revision."""
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit on the Hub")


def add_codec_of_corpus(parser: argparse.ArgumentParser) -> None:
    """Add what says where the codec is that made a corpus: --model, --revision, --device."""
    parser.add_argument(
        "--model", metavar="M", help="where the corpus's codec is (default: as it was made)"
    )
    add_revision(parser)
    add_device(parser)


def check_codec_of_corpus(options: argparse.Namespace) -> None:
    """Refuse options of `add_codec_of_corpus` that say nothing.

    Raises:
        UsageError: there is a revision of no model.
    """
    if options.revision is not None and options.model is None:
        raise UsageError("--revision needs --model; without it the corpus's own codec is taken")


def add_num_threads(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --num-threads.

    Args:
        parser: the command's.
        what: what the threads do.
    """
    parser.add_argument(
        "--num-threads", type=int, metavar="N", default=4, help=f"{what} (default: 4)"
    )


def check_num_threads(options: argparse.Namespace) -> None:
    """Refuse a number of threads below 1.

    Raises:
        UsageError: it is.
    """
    if options.num_threads < 1:
        raise UsageError(f"--num-threads is {options.num_threads}; expected 1 or more")


def add_sample(parser: argparse.ArgumentParser, sample: int | None, what: str) -> None:
    """Add --sample and --seed.

    Args:
        parser: the command's.
        sample: the default; None where it is not argparse's to fill in.
        what: what happens to the sample.
    """
    add = parser.add_argument
    add("--sample", type=int, metavar="N", default=sample, help=what)
    add("--seed", type=int, metavar="S", default=0, help="another seed, other clips (default: 0)")


def add_quality(parser: argparse.ArgumentParser, codebooks: str, page_clips: int) -> None:
    """Add what is measured and shown: --codebooks, --perceptual, --page-clips.

    Args:
        parser: the command's.
        codebooks: default of --codebooks.
        page_clips: default of --page-clips.
    """
    add = parser.add_argument
    add(
        "--codebooks",
        metavar="LIST",
        default=codebooks,
        help=f"numbers of codebooks to decode with (default: {codebooks})",
    )
    add("--perceptual", metavar="LIST", help="scores to add, of stoi,pesq,visqol (default: none)")
    add(
        "--page-clips",
        type=int,
        metavar="N",
        default=page_clips,
        help=f"clips on the page (default: {page_clips})",
    )


def listed(text: str | None) -> tuple[str, ...]:
    """Return the parts of a list with commas.

    >>> listed("1, 2,all"), listed(None)
    (('1', '2', 'all'), ())
    """
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def tokenizer_of_corpus(corpus: str, options: argparse.Namespace) -> "DacTokenizer":
    """Load the codec of a corpus as `add_codec_of_corpus` says where it is.

    Raises:
        CodecError: it does not load, or is another one.
        CorpusError: there is no corpus.
    """
    from dac_tokenize.corpus.decoding import tokenizer_of

    return tokenizer_of(corpus, options.model, options.revision, options.device)
