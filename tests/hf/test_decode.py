"""`decode_batch`: sound, the forms it is stored in, and codes in every format of `datasets`."""

import io

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, Features, List, Value

from dac_tokenize.errors import ClipError, UsageError
from dac_tokenize.hf import decode_batch, encode_batch
from dac_tokenize.tokenizer import DacTokenizer
from tests.hf.conftest import NUM_SAMPLES, RATE

CODES = List(List(Value("uint16")))


@pytest.fixture(scope="module")
def sounds(folder, codes):
    """What the tokenizer makes of each clip's codes, at the clip's length."""
    return DacTokenizer.from_pretrained(folder, device="cpu").decode(codes, NUM_SAMPLES)


@pytest.fixture
def dataset(codes):
    columns = {"audio_codes": [c.tolist() for c in codes], "num_samples": list(NUM_SAMPLES)}
    features = Features(audio_codes=CODES, num_samples=Value("int64"))
    return Dataset.from_dict(columns, features=features)


def samples_of(audio):
    samples, rate = soundfile.read(io.BytesIO(audio["bytes"]), dtype="float32")
    assert rate == RATE
    assert audio["path"] is None
    return samples


CODE_FORMS = {
    "uint16": lambda codes: codes.astype(np.uint16),
    "int64": lambda codes: codes.astype(np.int64),
    "lists": lambda codes: codes.tolist(),
    "tensor": lambda codes: torch.from_numpy(codes.astype(np.int64)),
    "list of arrays": lambda codes: list(codes),
    "array of arrays": lambda codes: np.array([*codes, None], dtype=object)[:-1],
}


@pytest.mark.parametrize("form", CODE_FORMS)
def test_codes_in_every_form(form, codes, sounds, folder):
    batch = {"audio_codes": [CODE_FORMS[form](c) for c in codes], "num_samples": NUM_SAMPLES}
    audio = decode_batch(batch, model=folder, audio_form="array")["audio"]
    for ours, reference in zip(audio, sounds, strict=True):
        assert ours["array"].dtype == np.float32
        assert ours["sampling_rate"] == RATE
        np.testing.assert_array_equal(ours["array"], reference)


@pytest.mark.parametrize("format_type", [None, "numpy", "torch"])
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_map_in_every_format(format_type, batch_size, dataset, sounds, folder):
    options = {"model": folder}
    mapped = dataset.with_format(format_type).map(
        decode_batch, batched=True, batch_size=batch_size, fn_kwargs=options
    )
    assert mapped.features["audio"] == {"bytes": Value("binary"), "path": Value("string")}
    assert mapped.features["audio_codes"] == CODES
    for row, reference in zip(mapped.with_format(None), sounds, strict=True):
        np.testing.assert_array_equal(samples_of(row["audio"]), reference)


@pytest.mark.parametrize("format_type", [None, "numpy", "torch"])
def test_equally_long_clips_come_stacked(format_type, codes, sounds, folder):
    rows = Dataset.from_dict({"audio_codes": [codes[0].tolist()] * 3})
    mapped = rows.with_format(format_type).map(
        decode_batch, batched=True, fn_kwargs={"model": folder}
    )
    for row in mapped.with_format(None):
        samples = samples_of(row["audio"])
        assert len(samples) >= NUM_SAMPLES[0]  # no num_samples: as long as the decoder makes it
        np.testing.assert_array_equal(samples[: NUM_SAMPLES[0]], sounds[0])


def test_flac_is_24_bit(dataset, sounds, folder):
    audio = decode_batch(dataset[:], model=folder, audio_form="flac")["audio"]
    for ours, reference in zip(audio, sounds, strict=True):
        assert soundfile.info(io.BytesIO(ours["bytes"])).subtype == "PCM_24"
        np.testing.assert_allclose(samples_of(ours), reference, rtol=0, atol=2.0**-23)


def test_equal_sound_is_equal_bytes(dataset, folder, monkeypatch):
    first = decode_batch(dataset[:], model=folder)["audio"]
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert decode_batch(dataset[:], model=folder)["audio"] == first
    assert soundfile.info(io.BytesIO(first[0]["bytes"])).subtype == "FLOAT"


def test_audio_column_without_torchcodec(no_torchcodec, dataset, sounds, folder):
    mapped = dataset.map(decode_batch, batched=True, fn_kwargs={"model": folder})
    cast = mapped.cast_column("audio", Audio(RATE)).cast_column("audio", Audio(decode=False))
    assert cast.features["audio"] == Audio(decode=False)
    np.testing.assert_array_equal(samples_of(cast[2]["audio"]), sounds[2])


@pytest.mark.parametrize("audio_form", ["wav", "flac", "array"])
def test_audio_column_with_the_real_torchcodec(torchcodec, audio_form, dataset, sounds, folder):
    options = {"model": folder, "audio_form": audio_form}
    mapped = dataset.map(decode_batch, batched=True, fn_kwargs=options)
    cast = mapped.cast_column("audio", Audio(RATE))
    # `datasets` itself makes 16-bit files of arrays.
    tolerance = {"wav": 0, "flac": 2.0**-23, "array": 2.0**-15}[audio_form]
    for index in (0, 2):
        samples = cast[index]["audio"].get_all_samples()
        assert samples.sample_rate == RATE
        np.testing.assert_allclose(samples.data[0], sounds[index], rtol=0, atol=tolerance)


def test_an_audio_column_stays_one(torchcodec, paths, folder):
    """There and back, over the column that was there first."""
    dataset = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio())
    encoded = dataset.map(encode_batch, batched=True, fn_kwargs={"model": folder})
    decoded = encoded.map(decode_batch, batched=True, fn_kwargs={"model": folder})
    assert decoded.features["audio"] == Audio()
    for row, num_samples in zip(decoded, NUM_SAMPLES, strict=True):
        assert row["audio"].get_all_samples().data.shape == (1, num_samples)


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
@pytest.mark.parametrize("format_type", [None, "numpy", "torch"])
def test_null_codes_are_null_audio(batch_size, format_type, dataset, sounds, folder):
    rows = {"audio_codes": [None, dataset[0]["audio_codes"]], "num_samples": [None, 803]}
    nulls = Dataset.from_dict(rows, features=dataset.features).with_format(format_type)
    mapped = nulls.map(
        decode_batch, batched=True, batch_size=batch_size, fn_kwargs={"model": folder}
    ).with_format(None)
    assert mapped.features["audio"] == {"bytes": Value("binary"), "path": Value("string")}
    assert mapped[0]["audio"] is None
    np.testing.assert_array_equal(samples_of(mapped[1]["audio"]), sounds[0])


def test_fewer_codebooks(dataset, codes, folder):
    batch = {"codes": [codes[0][:2]], "length": [803]}
    options = {"codes_column": "codes", "num_samples_column": "length", "audio_column": "sound"}
    given = decode_batch(batch, model=folder, audio_form="array", **options)
    tokenizer = DacTokenizer.from_pretrained(folder, device="cpu")
    expected = tokenizer.decode([codes[0][:2]], [803])[0]
    assert list(given) == ["sound"]
    np.testing.assert_array_equal(given["sound"][0]["array"], expected)


def test_streaming(dataset, sounds, folder):
    stream = dataset.to_iterable_dataset()
    mapped = stream.map(decode_batch, batched=True, batch_size=3, fn_kwargs={"model": folder})
    for row, reference in zip(mapped, sounds, strict=True):
        np.testing.assert_array_equal(samples_of(row["audio"]), reference)


def test_empty_batch_loads_no_codec():
    assert decode_batch({"audio_codes": []}, model="no/such-codec") == {"audio": []}


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ([[0, 1], [2]], r"row 1 of the batch: its codebooks have the shapes"),
        ([[0, 99]], r"row 1 of the batch: .*run from 0 to 99; expected 0 to 15"),
        ([[0, -1]], r"row 1 of the batch: .*run from -1 to 0"),
        ([[0.5, 1.0]], r"row 1 of the batch: .*float64"),
        ([0, 1], r"row 1 of the batch: .*shape \(2,\)"),
        ([[0]] * 4, r"row 1 of the batch: .*expected 1 to 3 codebooks"),
        ([], r"row 1 of the batch: .*expected 1 to 3 codebooks"),
        (7, r"row 1 of the batch: .*shape \(\)"),
        ("codes", r"row 1 of the batch: "),
    ],
)
def test_bad_codes_name_their_row(bad, match, codes, folder):
    with pytest.raises(ClipError, match=match):
        decode_batch({"audio_codes": [codes[0], bad, None]}, model=folder)


@pytest.mark.parametrize(
    ("batch", "options", "match"),
    [
        ({"audio_codes": []}, {"audio_form": "mp3"}, "audio_form is 'mp3'; expected one of wav"),
        ({"codes": []}, {}, "no column 'audio_codes', but 'codes'"),
        ({"audio_codes": [[[0]]]}, {"precision": "int4"}, "precision is 'int4'"),
    ],
)
def test_wrong_use(batch, options, match, folder):
    with pytest.raises(UsageError, match=match):
        decode_batch(batch, model=folder, **options)
