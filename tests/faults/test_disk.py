"""An output on a disk that is full: a real file system of a few pages."""

import subprocess

import pytest

from tests.corpus.test_tokenizing import tree


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for some of the shards, made larger by calling it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    if not mount("size=192k"):
        pytest.skip("mounting a file system needs root")
    yield folder, lambda: mount("remount", "size=16m")
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(small_disk, runs, arguments, check, log, report):
    folder, enlarge = small_disk
    output = folder / "out"
    assert runs.start(arguments(output)).wait() == 1
    said = log.read_text().splitlines()[-1]
    assert said.startswith("dac-tokenize: ")
    assert "No space left on device" in said
    assert "stays readable" in said
    assert not [name for name in tree(output) if ".tmp-" in name]
    published = len(list((output / "data").glob("*.parquet")))
    assert published > 0
    assert enlarge()
    assert runs.start(arguments(output)).wait() == 0
    check(output)
    report(f"disk full after {published} shards: one sentence, no temporary file; then identical")
