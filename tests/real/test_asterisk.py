"""Real speech and music, from Debian's packages of voice prompts and of music on hold.

    apt-get install asterisk-core-sounds-en-wav asterisk-moh-opsound-wav

Where these are not installed the tests skip, unless DAC_TOKENIZE_REQUIRE_REAL=1.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from dac_tokenize.cli import main
from dac_tokenize.codec.checkpoint import load_checkpoint
from dac_tokenize.corpus import iter_rows, read_manifest
from tests.codec.models import reference_encode

SPEECH, MUSIC = "asterisk-core-sounds-en-wav", "asterisk-moh-opsound-wav"
RATE = 16_000
COMPARED = 25


def installed(package):
    """The WAV files of a Debian package."""
    try:
        listed = subprocess.run(
            ["dpkg", "-L", package], check=False, capture_output=True, text=True
        ).stdout
    except FileNotFoundError:
        listed = ""
    paths = [Path(line) for line in listed.splitlines() if line.endswith(".wav")]
    paths = [path for path in paths if path.is_file()]
    if not paths:
        said = f"needs real sound: apt-get install {package}"
        if os.environ.get("DAC_TOKENIZE_REQUIRE_REAL") == "1":
            pytest.fail(said)
        pytest.skip(said)
    return paths


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_speech_and_music(tmp_path, capsys, report):
    speech, music = installed(SPEECH), installed(MUSIC)
    assert len(speech) >= 568
    folders = [os.path.commonpath(speech), os.path.commonpath(music)]
    output = tmp_path / "corpus"
    arguments = ["encode", *folders, "--output", str(output), "--shard-seconds", "600"]
    start = time.monotonic()
    assert main(arguments) == 0, capsys.readouterr().err
    wall = time.monotonic() - start

    manifest = read_manifest(str(output))
    assert (manifest.clips, manifest.failed) == (len(speech) + len(music), 0)
    # To the sample: soxr gives the nearest whole number of samples.
    infos = {str(path): soundfile.info(path) for path in speech + music}
    expected = {uri: round(i.frames * RATE / i.samplerate) for uri, i in infos.items()}
    rows = list(iter_rows(str(output), columns=["source_uri", "num_samples", "audio_codes"]))
    assert {row["source_uri"]: row["num_samples"] for row in rows} == expected
    assert manifest.num_samples == sum(expected.values())
    seconds = sum(info.frames / info.samplerate for info in infos.values())
    assert manifest.seconds == pytest.approx(seconds, rel=1e-9)
    compare_some(rows)
    report(
        f"{manifest.clips} real clips, {seconds:.0f} s, in {wall:.1f} s: "
        f"{seconds / wall:.0f}x real time with all that a run needs"
    )


def compare_some(rows):
    """The codes of some clips are those of plain `DacModel` on each alone."""
    model = load_checkpoint().model
    short = [row for row in rows if row["num_samples"] < 20 * RATE]
    picked = np.random.default_rng(0).choice(len(short), COMPARED, replace=False)
    different = 0
    for row in (short[index] for index in picked):
        samples, rate = soundfile.read(row["source_uri"], dtype="float32")
        expected = reference_encode(model, soxr.resample(samples, rate, RATE))
        assert row["audio_codes"].shape == expected.shape
        different += int((row["audio_codes"] != expected).sum())
    assert different == 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_run_goes_on(tmp_path):
    """A kill -9 in mid-encode and a second run: the same files, byte for byte."""
    digits = [path for path in installed(SPEECH) if path.parent.name == "digits"]
    assert len(digits) > 80

    def arguments(output):
        inputs = str(digits[0].parent)
        return ["encode", inputs, "--output", str(tmp_path / output), "--shard-seconds", "5"]

    assert main(arguments("whole")) == 0
    data = tmp_path / "out" / "data"
    killed = subprocess.Popen(
        [sys.executable, "-m", "dac_tokenize", *arguments("out")], stderr=subprocess.DEVNULL
    )
    while not (data.is_dir() and len(list(data.glob("train-*"))) >= 2):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    done = len(list(data.glob("train-*")))
    assert 2 <= done < len(list((tmp_path / "whole/data").iterdir()))
    assert not (tmp_path / "out/_manifest.json").exists()
    assert main(arguments("out")) == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
