"""Faults planted in a corpus are found and named; a clean one has none."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dac_tokenize.audit.auditing import audit_corpus
from dac_tokenize.audit.options import AuditOptions
from dac_tokenize.audit.report import write_report
from dac_tokenize.audit.sampling import SampleRequest
from tests.audit.corpora import copy_corpus, cut_sounds, make_corpus, shards, spoil_footer
from tests.audit.corpora import spoil_rows as spoil

ALL = AuditOptions(
    sample=SampleRequest(fraction=1.0),
    codebooks=("all",),
    decode="sample",
    stability=False,
    device="cpu",
)


def faults(corpus, options=ALL):
    """Return the checks that found a fault, with their findings, and whether the audit passed."""
    audit = audit_corpus(str(corpus), options)
    found = {}
    for finding in audit.scan.findings:
        if finding.is_fault:
            found.setdefault(finding.check, []).append(finding)
    assert bool(found) == (not audit.passed)
    return found


def test_a_clean_corpus_has_none(clean_corpus):
    audit = audit_corpus(clean_corpus, ALL)
    assert audit.passed
    assert audit.scan.findings.num_faults == 0
    assert audit.scan.rows == len(audit.clips) == 9
    assert audit.values["fidelity"]["agreement"] == 1.0
    assert audit.values["sample"]["median_lag_samples"] == 0
    assert min(clip.best.si_sdr_db for clip in audit.clips) > -10


@pytest.mark.parametrize(("frames", "word"), [(1, "late"), (-1, "early")])
def test_codes_shifted_by_a_frame(clean_corpus, tmp_path, frames, word):
    corpus = copy_corpus(clean_corpus, tmp_path)
    key = None

    def shift(rows):
        nonlocal key
        key = rows[0]["key"]
        rows[0]["audio_codes"] = np.roll(rows[0]["audio_codes"], frames, axis=1)

    spoil(shards(corpus)[0], shift)
    found = faults(corpus)
    assert [finding.key for finding in found["fidelity"]] == [key]
    assert f"moved by 1 frame: the codes are {word}" in found["fidelity"][0].detail
    assert [finding.key for finding in found["shifted"]] == [key]
    assert f"{frames:+.2f} frames" in found["shifted"][0].detail


def test_two_rows_swapped(clean_corpus, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path)
    keys = []

    def swap(rows):
        # the same number of frames, so that nothing but the sound can tell
        one, other = rows[0], rows[1]
        frames = min(one["num_frames"], other["num_frames"])
        keys.extend([one["key"], other["key"]])
        first, second = one["audio_codes"].copy(), other["audio_codes"].copy()
        one["audio_codes"][:, :frames] = second[:, :frames]
        other["audio_codes"][:, :frames] = first[:, :frames]

    spoil(shards(corpus)[0], swap)
    found = faults(corpus)
    assert {finding.key for finding in found["fidelity"]} == set(keys)


def test_codes_of_two_rows_exchanged_whole_are_also_of_the_wrong_length(clean_corpus, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path)
    keys = []

    def swap(rows):
        keys.extend([rows[0]["key"], rows[1]["key"]])
        for name in ("audio_codes", "num_frames"):
            rows[0][name], rows[1][name] = rows[1][name], rows[0][name]

    spoil(shards(corpus)[0], swap)
    found = faults(corpus)
    assert {finding.key for finding in found["frames"]} == set(keys)
    assert {finding.key for finding in found["fidelity"]} == set(keys)
    for finding in found["fidelity"]:
        owner = next(key for key in keys if key != finding.key)
        assert f"they are those of {owner!r}" in finding.detail


@pytest.mark.parametrize("book", [0, 7])
def test_a_codebook_zeroed(clean_corpus, tmp_path, book):
    corpus = copy_corpus(clean_corpus, tmp_path)

    def zero(rows):
        rows[-1]["audio_codes"][book] = 0

    spoil(shards(corpus)[1], zero)
    found = faults(corpus)
    assert len(found["constant-codebook"]) == 1
    assert f"codebook {book} is 0 throughout" in found["constant-codebook"][0].detail
    assert f"codebook {book} do not" in found["fidelity"][0].detail


def test_a_codebook_zeroed_everywhere(clean_corpus, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path)

    def zero(rows):
        for row in rows:
            row["audio_codes"][3] = 0

    for path in shards(corpus):
        spoil(path, zero)
    assert "codebook 3" in faults(corpus)["dead-codebook"][0].detail


def test_a_wrong_sampling_rate_in_a_footer(clean_corpus, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path)
    path = shards(corpus)[1]
    spoil_footer(
        path,
        lambda name, value: (
            value.replace(b'"sampling_rate":16000', b'"sampling_rate":44100')
            if name == b"dac_tokenize.codec"
            else value
        ),
    )
    found = faults(corpus)
    assert set(found) == {"footer"}
    assert "codec sampling_rate 44100, and the plan 16000" in found["footer"][0].detail
    assert found["footer"][0].where.endswith(path.name)


def test_a_source_replaced(tokenizer, tmp_path):
    references = cut_sounds(tmp_path / "sounds")
    corpus = make_corpus(tmp_path, tokenizer, references)
    one, other = (Path(references[place].uri) for place in (3, 4))
    samples, rate = soundfile.read(one, dtype="float32")
    others, _ = soundfile.read(other, dtype="float32")
    soundfile.write(one, np.resize(others, samples.shape), rate, subtype="FLOAT")
    found = faults(corpus)
    assert [finding.key for finding in found["fidelity"]] == ["clip3.wav"]
    assert "of other sound" in found["fidelity"][0].detail


def test_a_source_gone_or_of_another_length(tokenizer, tmp_path):
    references = cut_sounds(tmp_path / "sounds")
    corpus = make_corpus(tmp_path, tokenizer, references)
    Path(references[0].uri).unlink()
    shutil.copy(references[4].uri, references[3].uri)
    found = faults(corpus)
    assert {finding.key for finding in found["source"]} == {"clip0.wav", "clip3.wav"}


def test_without_any_source_there_still_is_a_report(tokenizer, tmp_path):
    corpus = make_corpus(tmp_path, tokenizer, cut_sounds(tmp_path / "sounds")[:2])
    shutil.rmtree(tmp_path / "sounds")
    audit = audit_corpus(corpus, ALL)
    assert not audit.passed
    assert audit.values["quality"] == []
    write_report(audit, ALL, str(tmp_path / "report"))
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<audio") == 2


def test_codes_past_the_codebook(clean_corpus, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path)

    def spoilt(rows):
        rows[0]["audio_codes"][2, 5] = 1024

    spoil(shards(corpus)[0], spoilt)
    assert "has the code 1024" in faults(corpus)["codes"][0].detail


def test_a_row_lost_doubled_or_out_of_order(clean_corpus, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path)
    spoil(shards(corpus)[0], lambda rows: rows.__delitem__(0))
    spoil(shards(corpus)[1], lambda rows: rows.reverse())
    found = faults(corpus)
    details = " ".join(finding.detail for finding in found["keys"])
    assert "misses 1 clips" in details
    assert "not the plan's clips in their order" in details


def test_files_missing_cut_short_or_changed(clean_corpus, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path, keep_manifest=True)
    first, second, third = shards(corpus)[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    spoil(third, lambda rows: rows[0].update(offset_seconds=0.0))
    options = AuditOptions(sample=SampleRequest(keys=(third_key(third),)), codebooks=("all",))
    found = faults(corpus, options)
    assert found["missing"][0].where.endswith(first.name)
    assert found["damaged"][0].where.endswith(second.name)
    assert [Path(one.where).name for one in found["checksum"]] == [second.name, third.name]


def third_key(path):
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["key"]).column("key")[0].as_py()


def test_near_duplicates_are_noted(tokenizer, tmp_path):
    references = cut_sounds(tmp_path / "sounds")
    shutil.copy(references[4].uri, references[5].uri)
    corpus = make_corpus(tmp_path, tokenizer, references)
    audit = audit_corpus(corpus, ALL)
    (note,) = [one for one in audit.scan.findings if one.check == "near-duplicate"]
    assert note.key == "clip5.wav"
    assert "100% of its runs are those of 'clip4.wav'" in note.detail
    assert audit.values["checks"]["near-duplicate"] == 1
    assert not audit.passed  # one of nine is more than the twentieth allowed
    assert audit.scan.findings.num_faults == 0
