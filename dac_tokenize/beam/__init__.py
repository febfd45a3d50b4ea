"""Beam transforms: a corpus by shards, and clips to codes to clips in pipelines of one's own.

The unit of work of a corpus is one output shard, so that only small references travel between
workers; neither sound nor codes ever go through a shuffle. Each transform has a plain twin:

| transform | plain twin |
| --- | --- |
| `TokenizeShards` | `dac_tokenize.corpus.tokenize_shard` |
| `FinishCorpus` | `dac_tokenize.corpus.finish_corpus` |
| `EncodeAudio` | `DacTokenizer.encode_stream` |
| `DecodeAudio` | `DacTokenizer.decode` |
| `AuditCodes` | `dac_tokenize.audit.auditing.audit_corpus` |

All of it lives in the package, so that remote workers import it and nothing of a main program is
pickled.
"""

from dac_tokenize.audit.transform import AuditCodes
from dac_tokenize.beam.clips import FAILED, RECORDS, DecodeAudio, EncodeAudio
from dac_tokenize.beam.corpus import FinishCorpus, TokenizeCorpus, TokenizeShards

__all__ = [
    "FAILED",
    "RECORDS",
    "AuditCodes",
    "DecodeAudio",
    "EncodeAudio",
    "FinishCorpus",
    "TokenizeCorpus",
    "TokenizeShards",
]
