"""Levels of decoded sound: of any number of rows, the same however they are decoded."""

import numpy as np
import pytest

from dac_tokenize.audit import levels as module
from dac_tokenize.audit.auditing import audit_corpus
from dac_tokenize.audit.levels import Levels, decoded_levels, measure_levels
from dac_tokenize.audit.options import DECODED_SECONDS, AuditOptions, decodes_all
from dac_tokenize.audit.sampling import SampleRequest
from tests.audit.corpora import copy_corpus, shards, spoil_rows
from tests.codec.models import random_clip

ONE = SampleRequest(count=1)


def test_blocks_do_not_matter():
    sound = random_clip(10_000, 3)
    whole = measure_levels([sound])
    assert whole.peak == np.abs(sound).max()
    assert whole.rms_db == pytest.approx(10 * np.log10(np.mean(sound.astype(np.float64) ** 2)))
    parts = measure_levels(np.array_split(sound, 7))
    assert (parts.peak, parts.clipped_share) == (whole.peak, whole.clipped_share)
    assert parts.rms_db == pytest.approx(whole.rms_db)


@pytest.mark.parametrize(
    ("sound", "checks"),
    [
        (np.full(100, 0.1), []),
        (np.zeros(100), ["silence"]),
        (np.full(100, 1e-4), ["silence"]),
        (np.full(100, -1.0), ["clipping"]),
        (np.r_[np.nan, np.inf, np.ones(98)], ["not-finite"]),
        (np.zeros(0), ["silence"]),
    ],
)
def test_what_is_told(sound, checks):
    found = list(measure_levels([sound.astype(np.float32)]).problems())
    assert [check for check, _ in found] == checks


def test_batches_are_those_of_one_clip_alone(tokenizer, monkeypatch):
    generator = np.random.default_rng(0)
    shape = (tokenizer.num_codebooks,)
    clips = [
        (generator.integers(0, 1024, (*shape, frames)).astype(np.uint16), frames * 320 - 5)
        for frames in (30, 1, 60)
    ]
    broken = (np.full((*shape, 4), 1024, np.uint16), 1280)
    clips.insert(1, broken)
    alone = [
        measure_levels(tokenizer.decode([c], [n])) if c.max() < 1024 else None for c, n in clips
    ]
    for seconds in (1.0, 60.0):
        monkeypatch.setattr(module, "_BATCH_SECONDS", seconds)
        found = list(decoded_levels(tokenizer, clips))
        assert [one is None for one in found] == [one is None for one in alone]
        for one, other in zip(found, alone, strict=True):
            if isinstance(one, Levels):
                assert one.peak == pytest.approx(other.peak, abs=1e-5)
                assert one.rms_db == pytest.approx(other.rms_db, abs=1e-3)


def test_all_rows_are_decoded_or_the_sample(clean_corpus):
    options = AuditOptions(sample=ONE, codebooks=("all",), fidelity=False, stability=False)
    decoded = {}
    for decode in ("auto", "sample"):
        audit = audit_corpus(clean_corpus, AuditOptions(**_with(options, decode=decode)))
        decoded[decode] = audit.values["sound"]
    assert decoded["auto"]["decoded_rows"] == sum(decoded["auto"]["rows"]) == 9
    assert decoded["sample"]["decoded_rows"] == sum(decoded["sample"]["rows"]) == 1
    assert {one["of_rows"] for one in decoded.values()} == {9}


def _with(options, **values):
    return {name: getattr(options, name) for name in AuditOptions.__dataclass_fields__} | values


def test_a_row_outside_the_sample_that_is_silent_is_found(clean_corpus, tokenizer, tmp_path):
    corpus = copy_corpus(clean_corpus, tmp_path)
    key = "clip7.wav"

    def silence(rows):
        for row in rows:
            if row["key"] == key:
                zeros = np.zeros(row["num_samples"], np.float32)
                row["audio_codes"] = tokenizer.encode([zeros])[0]

    spoil_rows(shards(corpus)[2], silence)
    options = AuditOptions(
        sample=SampleRequest(keys=("clip0.wav",)),
        codebooks=("all",),
        decode="all",
        fidelity=False,
        stability=False,
    )
    audit = audit_corpus(corpus, options)
    assert [one.key for one in audit.scan.findings if one.check == "silence"] == [key]
    assert audit.values["sound"]["rows"][: 1 + 10].count(0) < 11


class _Plan:
    def __init__(self, seconds):
        self.estimated_seconds = seconds


def test_auto_is_all_up_to_some_hours():
    assert decodes_all(_Plan(DECODED_SECONDS), AuditOptions())
    assert not decodes_all(_Plan(DECODED_SECONDS + 1), AuditOptions())
    assert decodes_all(_Plan(1e9), AuditOptions(decode="all"))
    assert not decodes_all(_Plan(1.0), AuditOptions(decode="sample"))
