import pytest
import soundfile

from tests.cli.conftest import RATE


def test_every_clip_comes_back_as_sound(encode, call, clips, tmp_path):
    encode()
    done = call("decode", tmp_path / "out", "--output", tmp_path / "sound")
    seconds = sum(clip.size for clip in clips.values()) / RATE
    assert done.status == 0
    assert done.out == f"4 clips, {seconds:.1f} s, written to {tmp_path}/sound: listen there\n"
    for key, clip in clips.items():
        assert soundfile.info(tmp_path / "sound" / f"{key}.wav").frames == clip.size


def test_some_keys_in_another_format(encode, call, tmp_path):
    encode()
    options = ("--output", tmp_path / "sound", "--format=flac", "--keys", "b.wav", "a/two.wav")
    assert call("decode", tmp_path / "out", *options).status == 0
    files = [p for p in (tmp_path / "sound").rglob("*") if p.is_file()]
    assert sorted(p.name for p in files) == ["b.wav.flac", "two.wav.flac"]
    assert {soundfile.info(path).format for path in files} == {"FLAC"}


def test_options_from_a_file(encode, call, tmp_path):
    encode()
    config = tmp_path / "decode.yaml"
    config.write_text(f"corpus: {tmp_path}/out\noutput: {tmp_path}/x\nkeys: b.wav\nformat: ogg\n")
    assert call("decode", "--config", config, "--output", tmp_path / "y").status == 0
    assert [p.name for p in (tmp_path / "y").iterdir()] == ["b.wav.ogg"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["--keys", "b.wav", "none"], 1, "has no row with the key 'none'"),
        (["--format=mp3"], 2, "invalid choice: 'mp3'"),
        (["--revision=main"], 2, "--revision needs --model"),
        (["--model=/there/is/none"], 1, "does not load"),
        (["--runner=FnApiRunner"], 2, "there is no option --runner"),
    ],
)
def test_mistakes(encode, call, tmp_path, options, status, sentence):
    encode()
    done = call("decode", tmp_path / "out", "--output", tmp_path / "sound", *options)
    assert (done.status, done.out) == (status, "")
    assert sentence in done.err


def test_other_codec(encode, call, other_codec, tmp_path):
    encode()
    done = call("decode", tmp_path / "out", f"--output={tmp_path}/s", f"--model={other_codec}")
    assert (done.status, done.out) == (1, "")
    assert "give the codec that made it as --model" in done.err


def test_no_corpus(call, tmp_path):
    done = call("decode", tmp_path, "--output", tmp_path / "sound")
    assert (done.status, done.out) == (1, "")
    assert "holds no corpus" in done.err


def test_corrupt_corpus(encode, call, tmp_path):
    encode()
    shard = next((tmp_path / "out/data").glob("train-00001-*"))
    data = bytearray(shard.read_bytes())
    data[200:1000] = bytes(800)
    shard.write_bytes(data)
    done = call("decode", tmp_path / "out", "--output", tmp_path / "sound")
    assert done.status == 1
    assert f"{shard} cannot be read" in done.err


def test_output_is_a_file(encode, call, tmp_path):
    encode()
    (tmp_path / "sound").write_text("")
    done = call("decode", tmp_path / "out", "--output", tmp_path / "sound")
    assert (done.status, done.out) == (1, "")
    assert "cannot be written" in done.err
