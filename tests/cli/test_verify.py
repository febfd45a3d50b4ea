import pytest

from tests.corpus.test_tokenizing import tree


def shards(out):
    return sorted((out / "data").glob("*.parquet"))


def test_a_whole_corpus(encode, call, tmp_path):
    assert encode().status == 0
    done = call("verify", tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("bytes read: nothing wrong\n")
    assert "4 rows" in done.out


def test_damage_is_listed_and_repaired(encode, call, tmp_path):
    encode()
    out = tmp_path / "out"
    before = tree(out)
    first, *_, last = shards(out)
    flipped = bytearray(first.read_bytes())
    flipped[len(flipped) // 2] ^= 4
    first.write_bytes(flipped)
    last.unlink()
    done = call("verify", out)
    assert done.status == 1
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0][:2] == [f"data/{first.name}", "checksum"]
    assert rows[1][:2] == [f"data/{last.name}", "missing"]
    assert done.out.endswith(": 2 findings\n")
    done = call("verify", "--repair", out)
    assert (done.status, done.err) == (0, "")
    assert "encoding 2 shards again" in done.out
    assert tree(out) == before
    assert call("verify", out).status == 0


def test_repair_with_another_codec(encode, call, other_codec, tmp_path):
    encode()
    shards(tmp_path / "out")[0].unlink()
    done = call("verify", tmp_path / "out", "--repair", "--model", other_codec)
    assert done.status == 1
    assert "holds another corpus: it was made with the codec" in done.err


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["--revision=main"], 2, "--revision needs --model"),
        (["--num-threads=0"], 2, "--num-threads is 0"),
        (["--runner=FnApiRunner"], 2, "there is no option --runner"),
        ([], 1, "holds no corpus"),
    ],
)
def test_mistakes(call, tmp_path, options, status, sentence):
    done = call("verify", tmp_path, *options)
    assert (done.status, done.out) == (status, "")
    assert sentence in done.err
