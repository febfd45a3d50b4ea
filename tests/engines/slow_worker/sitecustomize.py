"""Makes the codec of a worker slow: PYTHONPATH leads here, so that Python runs this at its start.

Waits after every clip as many seconds as the file named by SLOW_FILE says, where there is one.
"""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path

CODEC = "dac_tokenize.tokenizer"


class SlowCodec(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != CODEC:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), slow_down(module.DacTokenizer))
        return spec


def slow_down(tokenizer) -> None:
    encode_stream = tokenizer.encode_stream

    def slowly(*arguments, **options):
        for item in encode_stream(*arguments, **options):
            with contextlib.suppress(FileNotFoundError):
                time.sleep(float(Path(os.environ["SLOW_FILE"]).read_text()))
            yield item

    tokenizer.encode_stream = slowly


if "SLOW_FILE" in os.environ:
    sys.meta_path.insert(0, SlowCodec())
