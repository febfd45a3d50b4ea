"""Files, folders and globs: which are taken, under which keys, in which order."""

import os

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dac_tokenize.errors import PlanError
from dac_tokenize.sources import list_references, shipped_sounds
from dac_tokenize.waveform import read_waveform
from tests.waveform.sounds import encode, tones

TREE = ["b.wav", "a.wav", "a/z.flac", "a/b.mp3", "a.b/c.ogg", "a-b/c.WAV", "deep/er/x.opus"]
LEFT_OUT = ["notes.txt", "a/cover.jpg", "a/b.txt", "README", ".hidden.wav", ".git/x.wav"]


@pytest.fixture(params=["local", "file", "memory"])
def tree(request, tmp_path):
    """A folder of files in one store: its URL, and the prefix of the uris in it."""
    roots = {"local": str(tmp_path), "file": f"file://{tmp_path}", "memory": "memory://tree"}
    root = roots[request.param]
    filesystem, path = fsspec.core.url_to_fs(root)
    if request.param == "memory" and filesystem.exists(path):
        filesystem.rm(path, recursive=True)
    for name in TREE + LEFT_OUT:
        filesystem.makedirs(os.path.dirname(f"{path}/{name}"), exist_ok=True)
        filesystem.pipe(f"{path}/{name}", name.encode())
    return root, root.removeprefix("file://")


def test_a_folder(tree):
    root, prefix = tree
    listing = list_references([root])
    references = list(listing)
    assert [r.key for r in references] == sorted(TREE)
    assert [r.uri for r in references] == [f"{prefix}/{r.key}" for r in references]
    assert [r.size_bytes for r in references] == [len(r.key) for r in references]
    assert listing.skipped == {".txt": 2, ".jpg": 1, "(no suffix)": 1, "(hidden)": 2}


def test_a_folder_with_a_slash_at_its_end(tree):
    root, _ = tree
    assert list(list_references([root + "/"])) == list(list_references([root]))


def test_a_file_is_taken_whatever_its_suffix(tree):
    root, prefix = tree
    listing = list_references([f"{root}/notes.txt", f"{root}/a/z.flac"])
    assert [(r.key, r.uri) for r in listing] == [
        ("notes.txt", f"{prefix}/notes.txt"),
        ("z.flac", f"{prefix}/a/z.flac"),
    ]
    assert not listing.skipped


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*.wav", ["a.wav", "b.wav"]),
        ("a*/*", ["a-b/c.WAV", "a.b/c.ogg", "a/b.mp3", "a/z.flac"]),
        ("deep/er/*.opus", ["x.opus"]),
        ("deep/**/*.opus", ["er/x.opus"]),
        ("a/[bz].*", ["b.mp3", "z.flac"]),
    ],
)
def test_a_glob_is_relative_to_its_longest_plain_folder(tree, pattern, keys):
    root, prefix = tree
    references = list(list_references([f"{root}/{pattern}"]))
    assert [r.key for r in references] == keys
    assert all(r.uri.startswith(prefix) and r.uri.endswith(r.key) for r in references)


def test_relative_paths_become_absolute(tree, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "x.wav").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    expected = str(tmp_path / "here" / "x.wav")
    for one in ("here", "here/x.wav", "./here/../here/*.wav", tmp_path / "here"):
        assert [r.uri for r in list_references([one])] == [expected]


def test_an_inputs_order_is_kept(tree):
    root, _ = tree
    keys = [r.key for r in list_references([f"{root}/b.wav", f"{root}/a", f"{root}/a.wav"])]
    assert keys == ["b.wav", "b.mp3", "z.flac", "a.wav"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.wav", "there is no file or folder .*gone.wav"),
        ("gone/*.wav", "no audio files that match"),
        ("*.txt", r"no audio files that match .* \(left out: 1 .txt\)"),
    ],
)
def test_nothing_there(tree, name, message):
    root, _ = tree
    with pytest.raises(PlanError, match=message):
        list(list_references([f"{root}/{name}"]))


def test_a_folder_without_audio(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(PlanError, match=r"no audio files in .* \(left out: 1 .txt\)"):
        list(list_references([str(tmp_path)]))


def test_no_input_at_all():
    with pytest.raises(PlanError, match="no input given"):
        list_references([])


def test_a_link_that_leads_upwards_is_not_followed_for_ever(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(b"x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    keys = [r.key for r in list_references([str(tmp_path)])]
    assert keys == ["a/x.wav", "b/x.wav"]


def test_a_link_to_nothing_is_listed(tmp_path):
    """It fails when it is read, and is counted there; silently leaving it out would lose it."""
    (tmp_path / "x.wav").symlink_to(tmp_path / "gone.wav")
    assert [r.key for r in list_references([str(tmp_path)])] == ["x.wav"]


def test_no_permission_to_list(tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "ls", forbidden)
    with pytest.raises(PlanError, match="no permission to list the folder"):
        list(list_references([str(tmp_path)]))


def test_a_name_that_is_no_utf8(tmp_path):
    """It must fit into a plan, which is UTF-8, and still be found."""
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav")
    with open(name, "wb") as file:
        file.write(encode(tones(1000), 16_000))
    (reference,) = list_references([str(tmp_path)])
    assert reference.key == "caf\\udce9.wav"
    reference.uri.encode()
    assert read_waveform(reference, 16_000).shape == (1, 1000)


def test_a_pattern_with_braces(tmp_path):
    for name in ("a1.wav", "a2.wav", "b1.wav", "{a}.wav"):
        (tmp_path / name).write_bytes(b"x")
    for pattern in ("{b,a}1*.wav", "{b1,a1}.wav"):
        keys = [r.key for r in list_references([f"{tmp_path}/{pattern}"])]
        assert keys == ["b1.wav", "a1.wav"]
    with pytest.raises(PlanError, match=r"there is no file or folder .*/a3.wav"):
        list(list_references([f"{tmp_path}/a{{1..3}}.wav"]))
    assert [r.key for r in list_references([f"{tmp_path}/{{a}}.wav"])] == ["{a}.wav"]


names = st.text("ab.-/ é\n", min_size=1, max_size=8).map(lambda s: s.strip("/. ") or "a")


@settings(max_examples=60, deadline=None)
@given(names=st.sets(names, max_size=12))
def test_keys_come_in_the_order_of_strings(names, tmp_path_factory):
    root = tmp_path_factory.mktemp("order")
    for name in [*names, "always"]:
        path = root / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    keys = [r.key for r in list_references([str(root)])]
    assert keys == sorted(keys)
    found = {str(p.relative_to(root)) for p in root.rglob("*.wav")}
    hidden = {key for key in found if any(part.startswith(".") for part in key.split("/"))}
    assert set(keys) == found - hidden


def test_the_shipped_sounds():
    listing = list_references([shipped_sounds()])
    references = list(listing)
    assert [r.key for r in references] == [
        "music/band.ogg",
        "music/bells.flac",
        "music/guitar.ogg",
        "speech/abend.flac",
        "speech/morning.flac",
        "speech/numbers.ogg",
    ]
    assert sum(r.size_bytes or 0 for r in references) < 2_000_000
