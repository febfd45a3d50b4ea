"""`encode_batch`: the codes, the columns, every form of audio, and what bad input gets."""

import io
import pathlib
import types

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, Features, List, Value, load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dac_tokenize.errors import AudioError, ClipError, SourceError, UsageError, WaveformError
from dac_tokenize.hf import codes_features, encode_batch
from dac_tokenize.sources.shipped import shipped_sounds
from dac_tokenize.tokenizer import DacTokenizer
from tests.codec.models import reference_encode
from tests.hf.conftest import NUM_SAMPLES, RATE

CODES = List(List(Value("uint16")))


def wav_bytes(samples, rate=RATE):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


class Decoder:
    """What this package uses of torchcodec's `AudioDecoder`."""

    def __init__(self, samples, rate=RATE, path=None):
        self.samples = types.SimpleNamespace(data=torch.from_numpy(samples), sample_rate=rate)
        self.metadata = types.SimpleNamespace(path=path)

    def get_all_samples(self):
        return self.samples


class BrokenDecoder(Decoder):
    def get_all_samples(self):
        raise RuntimeError("no more frames")


FORMS = {
    "path": lambda clip, path: path,
    "Path": lambda clip, path: pathlib.Path(path),
    "bytes of Audio(decode=False)": lambda clip, path: {"bytes": wav_bytes(clip), "path": None},
    "path of Audio(decode=False)": lambda clip, path: {"bytes": None, "path": path},
    "both of Audio(decode=False)": lambda clip, path: {"bytes": wav_bytes(clip), "path": "gone"},
    "array and rate": lambda clip, path: {"array": clip, "sampling_rate": RATE},
    "list and rate": lambda clip, path: {"array": clip.tolist(), "sampling_rate": RATE},
    "array": lambda clip, path: clip,
    "list": lambda clip, path: clip.tolist(),
    "tensor": lambda clip, path: torch.from_numpy(clip),
    "two channels": lambda clip, path: np.stack([clip, clip]),
    "decoder": lambda clip, path: Decoder(clip[None]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_codes_of_each_clip_alone(form, clips, paths, codes, folder):
    values = [FORMS[form](clip, path) for clip, path in zip(clips, paths, strict=True)]
    given = encode_batch({"audio": values}, model=folder, source_sampling_rate=RATE)
    for ours, reference in zip(given["audio_codes"], codes, strict=True):
        assert ours.dtype == np.uint16
        np.testing.assert_array_equal(ours, reference)
    assert given["num_frames"] == [clip_codes.shape[1] for clip_codes in codes]
    assert given["num_samples"] == list(NUM_SAMPLES)
    assert given["duration_seconds"] == [n / RATE for n in NUM_SAMPLES]
    assert list(given) == ["audio_codes", "num_frames", "num_samples", "duration_seconds"]


@given(order=st.permutations(range(len(NUM_SAMPLES))), batch_size=st.integers(1, 8))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_codes_do_not_depend_on_order_or_batch(order, batch_size, clips, codes, folder):
    for first in range(0, len(order), batch_size):
        picked = order[first : first + batch_size]
        batch = {"audio": [{"array": clips[i], "sampling_rate": RATE} for i in picked]}
        given = encode_batch(batch, model=folder)["audio_codes"]
        for index, ours in zip(picked, given, strict=True):
            np.testing.assert_array_equal(ours, codes[index])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 1000])  # 7 rows: a last batch of one, of three
def test_map_keeps_uint16(batch_size, paths, codes, folder):
    dataset = Dataset.from_dict({"audio": paths, "text": list("abcdefg")})
    mapped = dataset.map(
        encode_batch, batched=True, batch_size=batch_size, fn_kwargs={"model": folder}
    )
    assert mapped.features == codes_features(dataset.features)
    assert mapped.features["audio_codes"] == CODES
    assert mapped["text"] == list("abcdefg")
    assert [row["audio_codes"] for row in mapped] == [clip_codes.tolist() for clip_codes in codes]


def test_map_keeps_uint16_where_all_clips_are_equally_long(clips, folder):
    dataset = Dataset.from_dict({"audio": [clips[0].tolist()] * 3})
    options = {"model": folder, "source_sampling_rate": RATE}
    mapped = dataset.map(encode_batch, batched=True, fn_kwargs=options, remove_columns=["audio"])
    assert mapped.features == codes_features(dataset.features, remove_columns="audio")


@pytest.mark.parametrize("format_type", [None, "numpy", "torch"])
def test_audio_without_decoding_needs_no_torchcodec(
    format_type, no_torchcodec, paths, codes, folder
):
    dataset = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio(decode=False))
    mapped = dataset.with_format(format_type).map(
        encode_batch, batched=True, batch_size=3, fn_kwargs={"model": folder}
    )
    assert mapped.features == codes_features(dataset.features)
    rows = mapped.with_format(None)["audio_codes"]
    assert list(rows) == [clip_codes.tolist() for clip_codes in codes]


def test_undecodable_audio_column_says_what_to_do(no_torchcodec, paths, folder):
    dataset = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio())
    with pytest.raises(UsageError, match=r"cast_column\('audio', datasets.Audio\(decode=False\)"):
        dataset.map(encode_batch, batched=True, fn_kwargs={"model": folder, "on_error": "null"})


def test_real_audio_decoders(torchcodec, paths, codes, folder):
    dataset = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio())
    assert isinstance(dataset[0]["audio"], torchcodec.decoders.AudioDecoder)
    mapped = dataset.map(encode_batch, batched=True, batch_size=3, fn_kwargs={"model": folder})
    assert list(mapped["audio_codes"]) == [clip_codes.tolist() for clip_codes in codes]


def test_real_audio_decoders_at_a_rate(torchcodec, paths, folder):
    """The rate of the cast is the source's; from there we go to the codec's."""
    dataset = Dataset.from_dict({"audio": paths[2:3]}).cast_column("audio", Audio(2_000))
    mapped = dataset.map(encode_batch, batched=True, fn_kwargs={"model": folder})
    assert mapped[0]["num_samples"] == NUM_SAMPLES[2]


def test_real_audio_decoders_name_the_row_that_does_not_open(torchcodec, bad_paths, folder):
    dataset = Dataset.from_dict({"audio": bad_paths}).cast_column("audio", Audio())
    options = {"model": folder}
    with pytest.raises(AudioError, match=r"row 1 of the batch \(path '.*broken.wav'\)"):
        dataset.map(encode_batch, batched=True, fn_kwargs=options)
    mapped = dataset.map(encode_batch, batched=True, fn_kwargs={**options, "on_error": "null"})
    assert [row is None for row in mapped["audio_codes"]] == [False, True, False]
    assert "cannot open it" in mapped["error"][1]


@pytest.mark.parametrize("with_features", [False, True])
def test_streaming(with_features, paths, codes, folder):
    stream = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio(decode=False))
    stream = stream.to_iterable_dataset(num_shards=2)
    features = None
    if with_features:
        features = codes_features(stream.features, remove_columns=["audio"])
    mapped = stream.map(
        encode_batch,
        batched=True,
        batch_size=3,
        fn_kwargs={"model": folder},
        remove_columns=["audio"],
        features=features,
    )
    assert mapped.features == features
    rows = list(mapped)
    for row, clip_codes in zip(rows, codes, strict=True):
        np.testing.assert_array_equal(row["audio_codes"], clip_codes)
    assert [row["num_samples"] for row in rows] == list(NUM_SAMPLES)


def test_streaming_real_audio_decoders(torchcodec, paths, codes, folder):
    dataset = Dataset.from_dict({"audio": paths}).cast_column("audio", Audio())
    mapped = dataset.to_iterable_dataset().map(
        encode_batch, batched=True, batch_size=3, fn_kwargs={"model": folder}
    )
    for row, clip_codes in zip(mapped, codes, strict=True):
        np.testing.assert_array_equal(row["audio_codes"], clip_codes)


def test_shipped_sound_with_the_shipped_codec(tmp_path):
    """Without any option, from a folder as `datasets` opens it."""
    folder = f"{shipped_sounds()}/speech"
    dataset = load_dataset("audiofolder", data_dir=folder, split="train", cache_dir=tmp_path)
    dataset = dataset.cast_column("audio", Audio(decode=False))
    mapped = dataset.map(encode_batch, batched=True)
    tokenizer = DacTokenizer.from_pretrained()
    for row in mapped:
        samples, rate = soundfile.read(row["audio"]["path"], dtype="float32")
        codes = tokenizer.encode([samples], rate)[0]
        assert np.unique(codes).size > 100
        np.testing.assert_array_equal(row["audio_codes"], codes)
    assert len(mapped) == 3


def test_empty_batch_loads_no_codec():
    given = encode_batch({"audio": []}, model="no/such-codec", on_error="null")
    assert given == {name: [] for name in codes_features(on_error="null")}


def test_num_codebooks(clips, codes, folder):
    batch = {"audio": [{"array": clips[0], "sampling_rate": RATE}]}
    given = encode_batch(batch, model=pathlib.Path(folder), num_codebooks=2)["audio_codes"]
    np.testing.assert_array_equal(given[0], codes[0][:2])


def test_other_column_and_positional_rank(clips, codes, folder):
    batch = {"speech": [clips[0]]}
    options = {"audio_column": "speech", "model": folder, "source_sampling_rate": RATE}
    given = encode_batch(batch, 5, device="cpu", **options)
    np.testing.assert_array_equal(given["audio_codes"][0], codes[0])


def test_channels(clips, model, folder):
    left, right = clips[2][:1_600], clips[5]
    batch = {"audio": [{"bytes": wav_bytes(np.stack([left, right], 1)), "path": None}]}
    first = encode_batch(batch, model=folder, channels="first")["audio_codes"][0]
    mixed = encode_batch(batch, model=folder)["audio_codes"][0]
    np.testing.assert_array_equal(first, reference_encode(model, left))
    np.testing.assert_array_equal(mixed, reference_encode(model, (left + right) / 2))
    assert not np.array_equal(first, mixed)


def bad_values(paths, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF but no more")
    nan = np.zeros(9, np.float32)
    nan[3] = np.nan
    return {
        "broken file": (str(broken), AudioError, r"row 1 of the batch \(path '.*broken.wav'\)"),
        "broken bytes": ({"bytes": b"RIFF", "path": "a/b.wav"}, AudioError, r"path 'a/b.wav'"),
        "missing file": (str(tmp_path / "gone.wav"), SourceError, r"row 1 .*gone.wav"),
        "not a number": ({"array": nan, "sampling_rate": RATE}, WaveformError, r"row 1 .*nan"),
        "no sample": ({"array": [], "sampling_rate": RATE}, ClipError, r"row 1 .*expected at lea"),
        "nothing": (None, ClipError, r"row 1 of the batch: .*NoneType"),
        "empty dict": ({"bytes": None, "path": None}, ClipError, r"row 1 of the batch: "),
        "broken decoder": (
            BrokenDecoder(np.zeros((1, 9), np.float32), path="x.mp3"),
            AudioError,
            r"path 'x.mp3'\): its decoder failed: no more frames",
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        "broken file",
        "broken bytes",
        "missing file",
        "not a number",
        "no sample",
        "nothing",
        "empty dict",
        "broken decoder",
    ],
)
def test_bad_clips(case, clips, codes, paths, folder, tmp_path):
    value, kind, match = bad_values(paths, tmp_path)[case]
    batch = {"audio": [paths[0], value, paths[1]]}
    with pytest.raises(kind, match=match) as raised:
        encode_batch(batch, model=folder)
    assert "on_error" in str(raised.value)
    given = encode_batch(batch, model=folder, on_error="null")
    assert list(given) == list(codes_features(on_error="null"))
    for name, column in given.items():
        assert (column[1] is None) == (name != "error")
        assert [value is None for value in column[::2]] == [name == "error"] * 2
    np.testing.assert_array_equal(given["audio_codes"][0], codes[0])
    np.testing.assert_array_equal(given["audio_codes"][2], codes[1])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1), (1, 1, 1)])
def test_nulls_do_not_change_the_schema(order, batch_size, bad_paths, folder):
    """Also where the first batch that `datasets` writes is null in all rows."""
    dataset = Dataset.from_dict({"audio": [bad_paths[i] for i in order]})
    options = {"model": folder, "on_error": "null"}
    mapped = dataset.map(encode_batch, batched=True, batch_size=batch_size, fn_kwargs=options)
    assert mapped.features == codes_features(dataset.features, on_error="null")
    assert mapped.features["error"] == Value("string")
    assert [codes is None for codes in mapped["audio_codes"]] == [i == 1 for i in order]
    assert [error is not None for error in mapped["error"]] == [i == 1 for i in order]


def test_features_are_those_of_a_corpus():
    assert codes_features() == Features(
        audio_codes=CODES,
        num_frames=Value("int64"),
        num_samples=Value("int64"),
        duration_seconds=Value("float64"),
    )


@pytest.mark.parametrize(
    ("batch", "options", "match"),
    [
        ({"audio": [[0.5]]}, {}, "source_sampling_rate"),
        ({"audio": [[0.5]]}, {"on_error": "skip"}, "on_error is 'skip'; expected 'raise' or"),
        ({"audio": [[0.5]]}, {"channels": "split"}, "channels is 'split'; expected 'mix' or"),
        ({"audio": [[0.5]]}, {"precision": "int4"}, "precision is 'int4'; expected one of"),
        ({"audio": [[0.5]]}, {"device": "abacus"}, "device is 'abacus'"),
        ({"audio": [[0.5]]}, {"rank": [0]}, "rank is .*with_indices=True is not supported"),
        ({"sound": [[0.5]]}, {}, "no column 'audio', but 'sound'"),
        ({"audio": "a.wav"}, {}, "holds a str; .*batched=True"),
        ({"audio": {"bytes": b"", "path": None}}, {}, "holds a dict; .*batched=True"),
        ([{"audio": "a.wav"}], {}, "the batch is a list"),
    ],
)
def test_wrong_use(batch, options, match, folder):
    with pytest.raises(UsageError, match=match):
        encode_batch(batch, model=folder, **options)


def test_a_model_in_hand_is_refused(model):
    with pytest.raises(UsageError, match=r"DacModel; .*save_pretrained\(folder\)"):
        encode_batch({"audio": [[0.5]]}, model=model)


def test_an_arrow_batch_is_refused(paths, folder):
    dataset = Dataset.from_dict({"audio": paths}).with_format("arrow")
    with pytest.raises(UsageError, match=r"the batch is a Table.*with_format\(None\)"):
        dataset.map(encode_batch, batched=True, fn_kwargs={"model": folder})
