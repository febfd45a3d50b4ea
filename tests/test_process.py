"""One codec per process, devices by rank, and worker processes, spawned and forked."""

# ruff: noqa: F811 - fixtures are imported

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from dac_tokenize import process
from dac_tokenize.errors import UsageError
from dac_tokenize.hf import decode_batch, encode_batch
from dac_tokenize.tokenizer import DacTokenizer
from tests.codec.models import TINY_SHAPE, random_model, reference_encode
from tests.hf.conftest import RATE, clips, codes, folder, model, paths  # noqa: F401

WORKERS = """
import sys
import multiprocess
from datasets import Audio, Dataset
from dac_tokenize.hf import encode_batch

if __name__ == "__main__":
    method, codec, *paths = sys.argv[1:]
    multiprocess.set_start_method(method)
    dataset = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio(decode=False))
    options = {"model": codec, "device": "cpu"}
    encode_batch(dataset[:], **options)  # now torch's threads run, which a fork does not copy
    mapped = dataset.map(
        encode_batch, batched=True, batch_size=2, num_proc=2, with_rank=True, fn_kwargs=options
    )
    print(mapped.features["audio_codes"])
    print(list(mapped["audio_codes"]))
"""

POOLS = """
from pathlib import Path
import torch
from dac_tokenize.process import CodecOptions, tokenizer_for

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

tokenizer_for(CodecOptions(device="cpu"))
before = threads()
torch.ones(10_000_000).sin()
print(torch.get_num_threads(), threads() - before)
"""


def run(arguments, timeout_seconds=240):
    """Runs a command whose workers, should they hang, end with it; returns what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(arguments, env=environment, start_new_session=True, **streams)
    try:
        printed, errors = child.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    assert child.returncode == 0, errors
    return printed


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_loading_makes_no_pool_of_threads():
    """Beside the pool of Beam's thread it would keep both from spinning."""
    assert run([sys.executable, "-c", POOLS]).split() == ["2", "1"]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_two_workers(method, paths, clips, tmp_path):
    """With a codec wide enough that torch divides its work among threads."""
    model = random_model(width=64, **{**TINY_SHAPE, "sampling_rate": RATE})
    model.save_pretrained(tmp_path / "codec")
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    arguments = [sys.executable, str(script), method, str(tmp_path / "codec"), *paths[:4]]
    features, rows = run(arguments).splitlines()
    assert features == "List(List(Value('uint16')))"
    assert rows == repr([reference_encode(model, clip).tolist() for clip in clips[:4]])


def test_importing_loads_no_large_library():
    script = "import sys, dac_tokenize.hf; print(*sys.modules)"
    arguments = [sys.executable, "-c", script]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "dac_tokenize.hf.encode" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "apache_beam"}


@pytest.fixture
def loads(monkeypatch):
    """Empties the cache of codecs, and counts what is loaded into it."""
    process._load.cache_clear()
    loaded = []
    load = DacTokenizer.from_pretrained

    def counted(model, **options):
        loaded.append(options)
        return load(model, **options)

    monkeypatch.setattr(DacTokenizer, "from_pretrained", counted)
    yield loaded
    process._load.cache_clear()


def test_one_codec_per_options(loads, clips, folder):
    batch = {"audio": [{"array": clips[0], "sampling_rate": RATE}]}
    for _ in range(3):
        encoded = encode_batch(batch, model=folder, device="cpu")
        decode_batch(encoded, model=folder, device=torch.device("cpu"))
    assert len(loads) == 1
    encode_batch(batch, model=folder, device="cpu", num_codebooks=1)
    assert len(loads) == 2


def test_rank_is_harmless_on_the_cpu(loads, clips, codes, folder):
    batch = {"audio": [{"array": clips[0], "sampling_rate": RATE}]}
    for rank in (None, 0, 1, 2):
        given = encode_batch(batch, rank, model=folder, device="cpu")
        np.testing.assert_array_equal(given["audio_codes"][0], codes[0])
    assert [options["device"] for options in loads] == ["cpu"]


@pytest.mark.parametrize(
    ("device", "rank", "found", "expected"),
    [
        ("auto", 0, 2, "cuda:0"),
        ("auto", 3, 2, "cuda:1"),
        ("cuda", 3, 2, "cuda:1"),
        ("auto", np.int64(1), 2, "cuda:1"),
        ("auto", None, 2, "auto"),
        ("cuda:1", 0, 2, "cuda:1"),
        ("cpu", 1, 2, "cpu"),
        ("auto", 1, 0, "auto"),
    ],
)
def test_device_of_a_rank(device, rank, found, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    assert process._device(device, rank) == expected


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_cuda_in_a_forked_child_is_refused(device, monkeypatch, folder):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(UsageError, match=r'forked.*multiprocess.set_start_method\("spawn"\)'):
        encode_batch({"audio": [[0.5]]}, model=folder, device=device)


def test_a_fork_of_a_process_without_gpus_stays_on_the_cpu(monkeypatch):
    """Merely asking for CUDA marks a process as one whose forks are bad."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert process._device("auto", 1) == "auto"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_codes_on_a_gpu_are_those_of_each_clip_alone(clips, folder):
    audio = [{"array": clip, "sampling_rate": RATE} for clip in clips]
    together = encode_batch({"audio": audio}, 0, model=folder)["audio_codes"]
    for value, expected in zip(audio, together, strict=True):
        alone = encode_batch({"audio": [value]}, 0, model=folder)["audio_codes"]
        np.testing.assert_array_equal(alone[0], expected)
