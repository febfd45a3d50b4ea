"""File name suffixes, and what they say."""

import os

# fmt: off
SNDFILE_SUFFIXES = frozenset((
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc",
    ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc",
))
FFMPEG_SUFFIXES = frozenset((
    ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".wma", ".ac3", ".amr",
    ".wv", ".ape", ".tta",
))
# fmt: on
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | FFMPEG_SUFFIXES
TAR_SUFFIXES = frozenset((".tar",))
PARQUET_SUFFIXES = frozenset((".parquet", ".pq"))
JSON_SUFFIXES = frozenset((".jsonl", ".ndjson", ".json"))
TABLE_SUFFIXES = frozenset((".csv", ".tsv"))
CONTAINER_SUFFIXES = TAR_SUFFIXES | PARQUET_SUFFIXES | JSON_SUFFIXES | TABLE_SUFFIXES
KALDI_NAMES = frozenset(("wav.scp", "segments"))


def suffix_of(path: str) -> str:
    """Gives a path's suffix in lower case, with its dot.

    >>> suffix_of("s3://bucket/a.b/C.WAV"), suffix_of("a/.hidden")
    ('.wav', '')
    """
    return os.path.splitext(path)[1].lower()


def plain_suffix_of(path: str) -> str:
    """Gives a path's suffix, the one before `.gz` where that is the last.

    >>> plain_suffix_of("cuts.jsonl.gz")
    '.jsonl'
    """
    return suffix_of(path.removesuffix(".gz"))


def is_container(path: str) -> bool:
    """Tells files that hold or name many sounds."""
    return plain_suffix_of(path) in CONTAINER_SUFFIXES or path.rsplit("/", 1)[-1] in KALDI_NAMES
