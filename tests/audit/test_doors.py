"""One audit through all doors: plain, on Beam, from the command line."""

import json

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from dac_tokenize.audit.auditing import audit_corpus, open_measurer, saved_plan
from dac_tokenize.audit.options import AuditOptions
from dac_tokenize.audit.sampling import SampleRequest, pick_rows
from dac_tokenize.beam import AuditCodes
from dac_tokenize.beam.clips import _DecodeRecords
from dac_tokenize.cli import main
from dac_tokenize.corpus import iter_rows
from dac_tokenize.hf import decode_batch
from dac_tokenize.process import CodecOptions

OPTIONS = AuditOptions(
    sample=SampleRequest(count=4), codebooks=(2, "all"), page_clips=1, device="cpu"
)
FLAGS = ["--sample", "4", "--codebooks", "2,all", "--page-clips", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def plain(clean_corpus):
    return json.loads(json.dumps(audit_corpus(clean_corpus, OPTIONS).values))


def as_read(report):
    return json.loads((report / "report.json").read_text())


def test_beam_gives_the_plain_figures(clean_corpus, plain, tmp_path):
    def check(elements):
        (values,) = elements
        assert values["passed"]
        assert values["corpus"]["rows"] == 9

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        found = pipeline | AuditCodes(clean_corpus, OPTIONS, str(tmp_path / "report"))
        assert_that(found, check)
    assert as_read(tmp_path / "report") == plain
    assert (tmp_path / "report" / "report.html").stat().st_size > 1e6


def test_the_command_line_gives_the_plain_figures(clean_corpus, plain, tmp_path, capsys):
    status = main(["audit", clean_corpus, "--output", str(tmp_path / "report"), *FLAGS])
    assert status == 0
    assert as_read(tmp_path / "report") == plain
    out = capsys.readouterr().out
    assert "passed: 9 rows checked, 9 decoded, 4 clips" in out


def test_all_doors_decode_the_same_sound(clean_corpus, tokenizer):
    row = next(iter_rows(clean_corpus, columns=["key", "audio_codes", "num_samples"]))
    codes, length = row["audio_codes"], row["num_samples"]
    sounds = [tokenizer.decode([codes], [length])[0]]
    batch = {"audio_codes": [codes], "num_samples": [length]}
    sounds.append(decode_batch(batch, audio_form="array", device="cpu")["audio"][0]["array"])
    transform = _DecodeRecords(CodecOptions(device="cpu"))
    sounds.extend(record["waveform"] for record in transform.process([row]))
    plan = saved_plan(clean_corpus)
    picks = pick_rows(plan, SampleRequest(keys=(row["key"],)))
    with open_measurer(plan, OPTIONS, tokenizer) as measurer:
        sounds.extend(sound.decoded for _, sound in measurer.sounds(picks, 60.0))
    assert len(sounds) == 4
    for sound in sounds[1:]:
        np.testing.assert_array_equal(sound, sounds[0])


def test_a_threshold_not_met_is_status_4(clean_corpus, tmp_path, capsys):
    config = tmp_path / "audit.yaml"
    config.write_text("min_si_sdr_db: 60\nno_stability: true\nno_fidelity: true\nsample: 1\n")
    arguments = [clean_corpus, "--output", str(tmp_path / "report"), "--config", str(config)]
    assert main(["audit", *arguments]) == 4
    assert "NOT MET" in capsys.readouterr().out
    assert as_read(tmp_path / "report")["passed"] is False


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample", "3", "--fraction", "0.5"], "--sample and --fraction do not go together"),
        (["--sample", "0"], "expected at least 1"),
        (["--codebooks", "1,two"], "codebooks has 'two'"),
        (["--page-clips", "-1"], "page_clips is -1"),
        (["--revision", "main"], "--revision needs --model"),
    ],
)
def test_wrong_options_are_status_2(clean_corpus, tmp_path, capsys, flags, message):
    assert main(["audit", clean_corpus, "--output", str(tmp_path / "report"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_no_corpus_is_status_1(tmp_path, capsys):
    assert main(["audit", str(tmp_path), "--output", str(tmp_path / "report")]) == 1
    assert "holds no corpus" in capsys.readouterr().err
