"""`encode --append` on the command line."""

import shutil

import pytest

from dac_tokenize.corpus import iter_rows
from tests.corpus.test_tokenizing import tree


@pytest.fixture
def half(sounds, encode, tmp_path):
    """A corpus of some of the sounds, the others added to their folder since."""
    shutil.move(sounds / "a", tmp_path / "later")
    assert encode().status == 0
    shutil.move(tmp_path / "later", sounds / "a")
    return tmp_path / "out"


def test_new_files_are_added(half, encode, call, clips, tmp_path):
    before = tree(half / "data")
    done = encode("--append")
    assert done.status == 0
    assert f"{half}: 2 clips added, 2 known clips left out" in done.out
    assert "4 of 4 clips encoded" in done.out
    assert before.items() < tree(half / "data").items()
    assert {row["key"] for row in iter_rows(str(half))} == clips.keys()
    assert call("verify", half).status == 0
    assert "4 of 4" in call("info", half).out
    assert call("decode", half, "--output", tmp_path / "listen").status == 0

    whole = tree(half)
    again = encode("--append")
    assert (again.status, again.out) == (0, f"{half}: nothing new, 4 known clips left out\n")
    assert encode().status == 0  # and so does a run that only goes on
    assert tree(half) == whole


def test_option_in_a_file(half, encode, tmp_path):
    (tmp_path / "c.yaml").write_text("append: true\n")
    assert "2 clips added" in encode("--config", tmp_path / "c.yaml").out


def test_interrupted_append_goes_on(half, encode, sounds, tmp_path):
    encode("--append")
    whole = tree(half)
    for name in ("_manifest.json", "_failed.parquet", "README.md"):
        (half / name).unlink()
    (half / sorted(name for name in whole if name.startswith("data/"))[-1]).unlink()
    (sounds / "more.wav").write_bytes((sounds / "b.wav").read_bytes())
    done = encode("--append")
    assert done.status == 0
    assert "going on with 2 clips added by an earlier run" in done.out
    assert tree(half) == whole
    assert "1 clips added, 4 known clips left out" in encode("--append").out


def test_two_worker_processes_add_the_same_bytes(half, encode, tmp_path):
    shutil.copytree(half, tmp_path / "one")
    assert encode("--append").status == 0
    one = tree(half)
    shutil.rmtree(half)
    shutil.move(tmp_path / "one", half)
    assert encode("--append", "--workers=2").status == 0
    assert tree(half) == one


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--codebooks=1"], "num_codebooks 3), and asked for"),
        (["--channels=split"], "channels 'mix', and asked for is 'split'"),
    ],
)
def test_other_options(half, encode, more, sentence):
    done = encode("--append", *more)
    assert (done.status, done.out) == (1, "")
    assert sentence in done.err


def test_no_corpus(encode):
    done = encode("--append")
    assert done.status == 1
    assert "holds no corpus to add to; run without --append to make one" in done.err


def test_changed_file(half, encode, sounds):
    (sounds / "b.wav").write_bytes(b"short")
    done = encode("--append")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "b.wav has changed since" in done.err
