"""Paths from keys, and sound files from codes."""

import os
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from dac_tokenize.codec.checkpoint import load_checkpoint
from dac_tokenize.corpus import decoding, finish_corpus, tokenize_shard
from dac_tokenize.corpus.decoding import SOUND_FORMATS, decode_corpus, sound_path, tokenizer_of
from dac_tokenize.corpus.planning import open_plan
from dac_tokenize.errors import CodecError, CorpusError
from dac_tokenize.references import Reference
from dac_tokenize.tokenizer import DacTokenizer
from tests.codec.models import TINY_SHAPE, random_clip, random_model
from tests.corpus.fakes import request

RATE = 8_000
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{n}{d}" for n in ("COM", "LPT") for d in range(10))}

# What a key may be made of, in any mixture: pieces that file systems read in a way of their own.
ASCII = [*"./\\\0\n~% -:*?", "..", "//", "%2E", "%~", "a", "A.wav", ".wav", ".flac", "x" * 300]
DEVICE_NAMES = ["CON", "aux.txt", "nul", "lpt1"]
PIECES = st.sampled_from([*ASCII, *DEVICE_NAMES, "\u00e9", "e\u0301", "\U0001f600", "\ud800"])
KEYS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))
FORMATS = st.sampled_from(sorted(SOUND_FORMATS))


@given(KEYS, FORMATS)
@example("", "wav")
@example("../" * 1400 + "etc/passwd", "wav")
@example("/".join("x" * 7 for _ in range(512)), "ogg")
@example("ü" * 4096, "flac")
@example("/etc/passwd", "wav")
@example("C:\\x", "wav")
def test_path_stays_in_its_folder_and_within_limits(key, sound_format):
    path = sound_path(key, sound_format)
    parts = path.split("/")
    assert path.isascii()
    assert path.isprintable()
    assert path.endswith(f".{sound_format}")
    assert len(path) <= 1_100
    assert not PureWindowsPath(path).drive
    assert not set(path) & set('\\:*?"<>|')
    for part in parts:
        assert 0 < len(part) <= 200
        assert not part.startswith((".", "~"))
        assert not part.endswith((".", " "))
        assert part.partition(".")[0].upper() not in DEVICES
    for part in parts[:-1]:
        assert not part.lower().endswith(f".{sound_format}")
    assert os.path.normpath(path) == path == str(PurePosixPath(path))


@given(KEYS, KEYS, FORMATS)
@example("a", "a/", "wav")
@example("a/", "a//", "wav")
@example("a//b", "a/%/b", "wav")
@example("a.", "a%2E", "wav")
@example("x" * 300, "x" * 301, "wav")
@example("x/" * 600, "x/" * 601, "wav")
def test_different_keys_have_different_paths(one, other, sound_format):
    paths = sound_path(one, sound_format), sound_path(other, sound_format)
    assert (paths[0] == paths[1]) == (one == other)
    # Nor does one file want to lie where another's folder does.
    assert not paths[0].startswith(paths[1] + "/")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("speech/a.mp3", "speech/a.mp3.wav"),
        ("a b (1)#0", "a b (1)#0.wav"),
        (".hidden/x", "%2Ehidden/x.wav"),
        ("a.wav/b", "a%2Ewav/b.wav"),
        ("aux.1/con", "%61ux.1/%63on.wav"),
        ("/etc", "%/etc.wav"),
    ],
)
def test_plain_keys_stay_readable(key, path):
    assert sound_path(key, "wav") == path


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    random_model(**{**TINY_SHAPE, "sampling_rate": RATE}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(codec):
    return DacTokenizer(load_checkpoint(codec), row_seconds=0.1)


# The last takes some seventy rows, and more than one block of the writer.
SIZES = {"a": 1, "a/b.wav": 799, "../up": 8, "long": 50_003}


@pytest.fixture(scope="module")
def corpus(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    references = []
    for index, (key, size) in enumerate(SIZES.items()):
        path = folder / f"{index}.wav"
        soundfile.write(path, np.clip(random_clip(size, index), -1, 1), RATE, subtype="FLOAT")
        references.append(Reference(key, str(path)))
    output = str(folder / "out")
    plan = open_plan(output, request(codec=tokenizer.identity), lambda: references)
    results = [tokenize_shard(plan, index, tokenizer) for index in range(plan.num_shards)]
    finish_corpus(plan, output, results)
    return output


def rows(corpus):
    return {row["key"]: row for row in decoding.iter_rows(corpus)}


@pytest.mark.parametrize("sound_format", sorted(SOUND_FORMATS))
def test_every_row_is_a_file_of_its_length(corpus, tokenizer, tmp_path, sound_format):
    done = list(decode_corpus(corpus, tmp_path, tokenizer, sound_format=sound_format))
    assert [file.key for file in done] == list(SIZES)
    for file in done:
        info = soundfile.info(file.path)
        assert (info.frames, info.samplerate, info.channels) == (SIZES[file.key], RATE, 1)
        assert info.format == SOUND_FORMATS[sound_format]
        assert file.num_samples == info.frames
        assert file.path == f"{tmp_path}/{sound_path(file.key, sound_format)}"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(SIZES)


def test_blocks_are_what_decode_gives_in_one_piece(corpus, tokenizer, tmp_path):
    for file in decode_corpus(corpus, tmp_path, tokenizer):
        row = rows(corpus)[file.key]
        (whole,) = tokenizer.decode([row["audio_codes"]], num_samples=[row["num_samples"]])
        samples, _ = soundfile.read(file.path, dtype="int16")
        np.testing.assert_allclose(samples, whole * 32768, atol=1)
        assert file.key == "a" or np.ptp(samples.astype(int)) > 500


def test_only_some_keys(corpus, tokenizer, tmp_path):
    done = list(decode_corpus(corpus, tmp_path, tokenizer, keys=["long", "a"]))
    assert [file.key for file in done] == ["a", "long"]
    with pytest.raises(CorpusError, match=r"no row with the key 'b' \(and of 1 more\)"):
        list(decode_corpus(corpus, tmp_path, tokenizer, keys=["c", "a", "b"]))


def test_files_are_replaced_whole(corpus, tokenizer, tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"what was there")

    def full(*_, **__):
        raise soundfile.LibsndfileError(7, "full: ")

    with monkeypatch.context() as patched:
        patched.setattr(soundfile.SoundFile, "write", full)
        with pytest.raises(CorpusError, match=r"a\.wav cannot be written: .*full"):
            list(decode_corpus(corpus, tmp_path, tokenizer, keys=["a"]))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.wav": b"what was there"}
    list(decode_corpus(corpus, tmp_path, tokenizer, keys=["a"]))
    assert soundfile.info(tmp_path / "a.wav").frames == 1


def test_samples_that_did_not_arrive_are_noticed(corpus, tokenizer, tmp_path, monkeypatch):
    write = soundfile.SoundFile.write
    monkeypatch.setattr(soundfile.SoundFile, "write", lambda file, block: write(file, block[:-1]))
    with pytest.raises(CorpusError, match="798 of 799 samples arrived"):
        list(decode_corpus(corpus, tmp_path, tokenizer, keys=["a/b.wav"]))


def test_any_store(corpus, tokenizer):
    from dac_tokenize import files

    (file,) = decode_corpus(corpus, "memory://decoded", tokenizer, keys=["../up"])
    assert file.path == "memory://decoded/%2E%2E/up.wav"
    assert files.read_bytes(file.path).startswith(b"RIFF")


def test_codec_of_a_corpus(corpus, codec, tmp_path):
    assert tokenizer_of(corpus).identity.weights_checksum
    assert tokenizer_of(corpus, model=codec).num_codebooks == 3
    other = random_model(seed=1, **{**TINY_SHAPE, "sampling_rate": RATE})
    other.save_pretrained(tmp_path)
    with pytest.raises(CodecError, match=r"has weights .* give the codec that made it as --model"):
        tokenizer_of(corpus, model=str(tmp_path))
    with pytest.raises(CorpusError, match="holds no corpus"):
        tokenizer_of(str(tmp_path))
