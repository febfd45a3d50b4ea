"""Benchmarks small enough for a test: figures go elsewhere, and most processes are saved."""

import importlib
import json
import time

import pytest

from benchmarks import common, watched
from dac_tokenize import corpus
from dac_tokenize.beam import corpus as transforms
from dac_tokenize.codec.engine import CodecEngine
from dac_tokenize.tokenizer import DacTokenizer
from dac_tokenize.waveform import opening

WRAPPED = [
    (DacTokenizer, "from_pretrained"),
    (CodecEngine, "start_batch"),
    (opening, "open_sound"),
    (opening, "resample_blocks"),
    (transforms, "tokenize_shard"),
    (corpus, "open_plan"),
    (importlib.import_module("dac_tokenize.hf.encode"), "audio_to_waveform"),
]


@pytest.fixture
def figures(tmp_path, monkeypatch):
    """What a benchmark has written, by name."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    monkeypatch.setattr(common, "FOLDER", folder)
    return lambda name: json.loads((folder / f"{name}.json").read_text())


@pytest.fixture
def watch_here():
    """Does as `watched.watch`, in this process, which has everything imported."""

    def watch(arguments, folder):
        way, *rest = arguments
        seen, start = watched.Watch(), time.time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_DATASETS_CACHE", "")
            patch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "")
            for owner, name in WRAPPED:  # so that they are put back
                patch.setattr(owner, name, getattr(owner, name))
            watched.watch_codec(seen)
            watched.WAYS[way](seen, *rest)
        report = seen.report()
        moments = {name: at - start for name, at in report.items() if name.endswith("_at")}
        return report | moments | {"wall_seconds": time.time() - start}

    return watch
