"""What a test runs in a process of its own, which dies in the middle of it."""

import os
import resource
import signal

from dac_tokenize.corpus import tokenize_shard
from dac_tokenize.corpus.plan import load_plan
from dac_tokenize.errors import CorpusError
from tests.corpus.fakes import FakeTokenizer


class Dies(FakeTokenizer):
    def encode_stream(self, clips):
        yield next(super().encode_stream(clips))
        os.kill(os.getpid(), signal.SIGKILL)


def half_a_shard(output):
    plan = load_plan(output)
    for index in range(plan.num_shards):
        tokenize_shard(plan, index, Dies())


def shards_on_a_small_disk(output, max_bytes):
    """Encode shards where no file may be larger than `max_bytes`."""
    plan = load_plan(output)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    try:
        for index in range(plan.num_shards):
            tokenize_shard(plan, index, FakeTokenizer())
    except CorpusError as error:
        print(error)
        raise SystemExit(1) from None
