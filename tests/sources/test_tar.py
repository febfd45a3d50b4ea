"""WebDataset tars: members by range, siblings as columns, and every trick an archive can play."""

import io
import json
import tarfile

import fsspec
import numpy as np
import pytest

from dac_tokenize.errors import PlanError
from dac_tokenize.sources import list_references
from tests.sources.reading import RATE, faults, listed, read_all
from tests.waveform.sounds import decode, encode, tones


def sound(seed: int = 0, num_frames: int = 3000, format: str = "FLAC") -> bytes:
    return encode(tones(num_frames, seed=seed), RATE, format)


def make_tar(path, members, format=tarfile.PAX_FORMAT) -> bytes:
    """Writes members: (name, bytes), or (TarInfo, bytes)."""
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("store", ["local", "memory"])
def test_samples(tmp_path, format, store):
    members = [
        ("a/0.flac", sound(0)),
        ("a/0.json", json.dumps({"text": "zero", "key": 5, "tags": ["x"]}).encode()),
        ("a/1.txt", "größer\n".encode()),
        ("a/1.left.wav", sound(1, format="WAV")),
        ("a/1.right.WAV", sound(2, format="WAV")),
        ("a/1.cls", b"3"),
        ("a/2.jpg", b"no sound"),
        ("b.c/3.mp3", sound(3, format="MP3")),
        ("b.c/3.json", b"[1, 2]"),
        ("b.c/3.npy", b"\x93NUMPY"),
    ]
    data = make_tar(tmp_path / "s.tar", members, format)
    uri = str(tmp_path / "s.tar")
    if store == "memory":
        uri = "memory://tars/s.tar"
        fsspec.filesystem("memory").pipe(uri, data)
    listing = list_references([uri])
    references = list(listing)
    sounds = [name for name, _ in members if name.lower().endswith((".flac", ".wav", ".mp3"))]
    assert [r.key for r in references] == [f"s.tar/{name}" for name in sounds]
    assert [dict(r.metadata) for r in references] == [
        {"__key__": "a/0", "text": "zero", "source_key": 5, "tags": ["x"]},
        {"__key__": "a/1", "txt": "größer", "cls": "3"},
        {"__key__": "a/1", "txt": "größer", "cls": "3"},
        {"__key__": "b.c/3", "json": "[1, 2]"},
    ]
    assert listing.skipped == {".jpg": 1, ".npy": 1}
    results = read_all(references)
    contents = dict(members)
    for name in sounds:
        assert np.array_equal(results[f"s.tar/{name}"], decode(contents[name])[0].T)


def test_shard_patterns(tmp_path):
    for shard in range(8, 12):
        make_tar(tmp_path / f"x-{shard:03d}.tar", [(f"{shard}.flac", sound(shard))])
    by_braces = listed(tmp_path / "x-{008..011}.tar")
    assert [r.key for r in by_braces] == [f"x-{n:03d}.tar/{n}.flac" for n in range(8, 12)]
    assert by_braces == listed(tmp_path / "x-*.tar")
    assert [r.key for r in listed(tmp_path / "x-{009,011}.tar")] == [
        "x-009.tar/9.flac",
        "x-011.tar/11.flac",
    ]
    with pytest.raises(PlanError, match=r"there is no file or folder .*x-012.tar"):
        listed(tmp_path / "x-{008..012}.tar")


def test_members_are_read_by_range(tmp_path, monkeypatch):
    """A large archive in a store: its index and one member cost little of it."""
    big = np.random.default_rng(0).bytes(40 * 2**20)
    data = make_tar(tmp_path / "s.tar", [("0.npy", big), ("1.flac", sound(1)), ("2.npy", big)])
    fsspec.filesystem("memory").pipe("memory://tars/big.tar", data)
    num_bytes = []

    class Counting(io.BytesIO):
        def read(self, size=-1):
            got = super().read(size)
            num_bytes.append(len(got))
            return got

    monkeypatch.setattr(
        "fsspec.implementations.memory.MemoryFileSystem.open", lambda *a, **k: Counting(data)
    )
    references = listed("memory://tars/big.tar")
    assert sum(num_bytes) < 10_000
    num_bytes.clear()
    assert not faults(read_all(references))
    assert sum(num_bytes) == references[0].size_bytes


TRICKS = {
    "absolute": (("/etc/0.flac", sound()), "name '/etc/0.flac' leads out of the archive"),
    "upwards": (("../../0.flac", sound()), "leads out of the archive"),
    "upwards-inside": (("a/../../0.flac", sound()), "leads out of the archive"),
    "symlink": (special("0.flac", tarfile.SYMTYPE, "/etc/passwd"), "a link .* to '/etc/passwd'"),
    "hard-link": (special("0.flac", tarfile.LNKTYPE, "good.flac"), "a link .* to 'good.flac'"),
    "device": (special("0.flac", tarfile.CHRTYPE), "no file but a link or device"),
    "fifo": (special("0.flac", tarfile.FIFOTYPE), "no file but a link or device"),
    "twice": (("good.flac", sound(5)), "holds 'good.flac' twice"),
    "empty": (("0.flac", b""), r"empty \(0 bytes\)"),
    "text": (("0.flac", b"no sound"), "not sound"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_bad_member_fails_alone(tmp_path, trick):
    member, message = TRICKS[trick]
    make_tar(tmp_path / "s.tar", [("good.flac", sound(1)), member, ("last.flac", sound(2))])
    results = read_all(listed(tmp_path / "s.tar"))
    assert len(results) == 3
    bad = faults(results)
    assert len(bad) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(next(iter(bad.values())))
    assert np.array_equal(results["s.tar/good.flac"], decode(sound(1))[0].T)


@pytest.mark.parametrize("where", ["sound", "header", "sibling"])
def test_a_tar_cut_short(tmp_path, where):
    path = tmp_path / "s.tar"
    members = [("0.flac", sound(0)), ("1.flac", sound(1)), ("1.txt", b"x" * 2000)]
    data = make_tar(path, members)
    with tarfile.open(path) as archive:
        second, text = archive.getmembers()[1:]
    cut = {
        "sound": second.offset_data + 700,
        "header": second.offset + 100,
        "sibling": text.offset_data + 600,
    }[where]
    path.write_bytes(data[:cut])
    results = read_all(listed(path))
    bad = faults(results)
    assert np.array_equal(results["s.tar/0.flac"], decode(sound(0))[0].T)
    assert any("cut short" in reason for reason in bad.values())
    assert ("s.tar/1.flac" in results) == (where != "header")
    assert ("s.tar/1.flac" in bad) == (where == "sound")


def test_a_tar_damaged_in_the_middle(tmp_path):
    path = tmp_path / "s.tar"
    data = bytearray(make_tar(path, [(f"{n}.flac", sound(n)) for n in range(3)]))
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1]
    data[second.offset : second.offset + 512] = b"\xa5" * 512
    path.write_bytes(data)
    results = read_all(listed(path))
    assert list(results) == ["s.tar/0.flac", f"s.tar/(after byte {second.offset})"]
    assert "cut short or damaged at byte" in next(iter(faults(results).values()))


def test_a_tar_that_changed_since_it_was_listed(tmp_path):
    path = tmp_path / "s.tar"
    data = make_tar(path, [("0.flac", sound(0))])
    references = listed(path)
    path.write_bytes(data + bytes(10_240))
    assert "has changed" in read_all(references)["s.tar/0.flac"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("s.tar", b"", "is empty"),
        ("s.tar", b"no archive" * 200, "is no tar"),
        ("s.tar", b"\x1f\x8b\x08" + bytes(2000), "is compressed"),
        ("s.tar", bytes(10_240), "holds no sound"),
    ],
)
def test_a_tar_that_is_none(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PlanError, match=message):
        listed(tmp_path / name)


def test_long_and_strange_names(tmp_path):
    names = ["ü/" + "x" * 4000 + ".flac", "new\nline.flac", "tab\t'quote\".flac", "日本.flac"]
    make_tar(tmp_path / "s.tar", [(name, sound(i)) for i, name in enumerate(names)])
    references = listed(tmp_path / "s.tar")
    assert [r.key for r in references] == [f"s.tar/{name}" for name in names]
    assert not faults(read_all(references))


def test_a_name_that_is_no_utf8(tmp_path):
    info = tarfile.TarInfo("caf\udce9.flac")
    make_tar(tmp_path / "s.tar", [(info, sound(0))], tarfile.GNU_FORMAT)
    references = listed(tmp_path / "s.tar")
    assert [r.key for r in references] == ["s.tar/caf\\udce9.flac"]
    assert not faults(read_all(references))
