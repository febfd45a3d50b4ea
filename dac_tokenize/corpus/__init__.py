"""A corpus on disk: planned, made shard by shard, finished, read, and decoded again.

request -> plan (cutting, spool, keys, parts, planning, appending) -> tokenizing (record, shard,
footer) -> results -> manifest, card; and back: reading -> decoding.
"""

from dac_tokenize.corpus.appending import Appended, append_plan
from dac_tokenize.corpus.manifest import Manifest, finish_corpus, read_manifest
from dac_tokenize.corpus.plan import Plan, load_plan
from dac_tokenize.corpus.planning import open_plan
from dac_tokenize.corpus.reading import CorpusInfo, corpus_info, iter_rows, read_failed
from dac_tokenize.corpus.request import PlanRequest
from dac_tokenize.corpus.results import ShardResult
from dac_tokenize.corpus.tokenizing import ShardProgress, published_shard, tokenize_shard

__all__ = [
    "Appended",
    "CorpusInfo",
    "Manifest",
    "Plan",
    "PlanRequest",
    "ShardProgress",
    "ShardResult",
    "append_plan",
    "corpus_info",
    "finish_corpus",
    "iter_rows",
    "load_plan",
    "open_plan",
    "published_shard",
    "read_failed",
    "read_manifest",
    "tokenize_shard",
]
