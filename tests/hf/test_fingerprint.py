"""What `datasets` keeps from run to run: found again, and only for the same options."""

import json
import shutil
import subprocess
import sys

import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher

from dac_tokenize.errors import CodecError
from dac_tokenize.hf import codes_features, decode_batch, encode_batch, mapped

SCRIPT = """
import json, sys
from datasets import load_from_disk
from datasets.fingerprint import Hasher
from dac_tokenize.hf import decode_batch, encode_batch

folder, codec, options = sys.argv[1:]
dataset = load_from_disk(folder)
options = {"model": codec, **json.loads(options)}
encoded = dataset.map(encode_batch, batched=True, batch_size=3, fn_kwargs=options)
decoded = encoded.map(decode_batch, batched=True, fn_kwargs={"model": codec})
print(json.dumps({
    "hashes": [Hasher.hash(encode_batch), Hasher.hash(decode_batch)],
    "fingerprints": [encoded._fingerprint, decoded._fingerprint],
    "features": repr(encoded.features),
    "audio_codes": list(encoded["audio_codes"]),
    "sizes": [len(audio["bytes"]) for audio in decoded["audio"]],
}))
"""


def run(dataset, codec, **options):
    """Maps the saved dataset in a Python process of its own."""
    arguments = [sys.executable, "-c", SCRIPT, str(dataset), str(codec), json.dumps(options)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)


def test_a_second_process_finds_the_codes_of_the_first(paths, codes, folder, tmp_path):
    """The second has no codec: what it prints must come from the first one's cache."""
    dataset = tmp_path / "dataset"
    codec = tmp_path / "codec"
    Dataset.from_dict({"audio": paths}).save_to_disk(dataset)
    shutil.copytree(folder, codec)
    first = run(dataset, codec)
    assert first.returncode == 0, first.stderr
    shutil.rmtree(codec)
    second = run(dataset, codec)
    assert second.returncode == 0, second.stderr
    result = json.loads(second.stdout)
    assert result == json.loads(first.stdout)
    assert result["audio_codes"] == [clip_codes.tolist() for clip_codes in codes]
    assert result["features"] == repr(codes_features(Dataset.from_dict({"audio": paths}).features))
    other = run(dataset, codec, num_codebooks=2)
    assert other.returncode == 1
    assert CodecError.__name__ in other.stderr


OPTIONS = [
    {"num_codebooks": 2},
    {"on_error": "null"},
    {"channels": "first"},
    {"device": "cpu"},
    {"revision": "new weights in the same folder"},
]


def test_other_options_are_other_fingerprints(paths, folder):
    dataset = Dataset.from_dict({"audio": paths})
    fingerprints = [
        dataset.map(encode_batch, batched=True, fn_kwargs={"model": folder, **options})._fingerprint
        for options in [{}, *OPTIONS]
    ]
    assert len(set(fingerprints)) == len(fingerprints)


@pytest.mark.parametrize("function", [encode_batch, decode_batch])
def test_another_version_is_another_hash(function, monkeypatch):
    """The codec that ships with the package may have changed."""
    before = Hasher.hash(function)
    assert Hasher.hash(function) == before
    monkeypatch.setattr(mapped, "_package_version", lambda: "999.0")
    assert Hasher.hash(function) != before


def test_functions_look_like_functions():
    import inspect
    import pickle

    assert pickle.loads(pickle.dumps(encode_batch)) is encode_batch
    assert encode_batch.__name__ == "encode_batch"
    assert inspect.getdoc(encode_batch).startswith("Encodes a batch of a dataset")
    assert list(inspect.signature(encode_batch).parameters)[:3] == [
        "batch",
        "rank",
        "audio_column",
    ]
