"""`dac-tokenize info`: what a corpus holds."""

import argparse

from dac_tokenize.cli.arguments import add_corpus

HELP = "say what a corpus holds"
DESCRIPTION = "Say what a corpus holds: codec, hours, clips, frames, tokens, size, failed inputs."
TAKES_BEAM = False
REQUIRED = ("corpus",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add_corpus(parser)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    from dac_tokenize.corpus import corpus_info
    from dac_tokenize.waveform import as_uri

    info = corpus_info(as_uri(options.corpus))
    codec = info.codec
    name = codec.model_id + (f" at {codec.revision}" if codec.revision else "")
    state = "finished" if info.finished else f"{info.shards_done:,} of {info.num_shards:,} shards"
    rows = [
        ("codec", f"{name}, weights {codec.weights_checksum[:12]}, {codec.precision}"),
        ("sampling rate", f"{codec.sampling_rate:,} Hz"),
        ("frame rate", f"{codec.frame_rate:g} Hz, hop length {codec.hop_length}"),
        ("codebooks", f"{codec.num_codebooks} of {codec.codebook_size:,} entries"),
        ("state", state),
        ("hours", f"{info.hours:.3f}"),
        ("clips", f"{info.clips - info.failed:,} of {info.clips:,}"),
        ("failed inputs", f"{info.failed:,}"),
        ("rows", f"{info.rows:,}"),
        ("frames", f"{info.num_frames:,}"),
        ("tokens", f"{info.num_tokens:,}"),
        ("bits per token", f"{info.bits_per_token:.2f}"),
        ("bytes", f"{info.size_bytes:,}"),
    ]
    for label, value in rows:
        print(f"{label:<15} {value}")
    return 0
