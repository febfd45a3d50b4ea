"""Scores of listeners, by the libraries that compute them."""

import numpy as np
import pytest
import soxr

from dac_tokenize.audit.metrics import measure
from dac_tokenize.audit.perceptual import SCORES, checked_scores, perceptual_scores
from dac_tokenize.errors import UsageError
from dac_tokenize.references import Reference
from dac_tokenize.sources import shipped_sounds
from dac_tokenize.waveform import read_waveform

RATE = 16_000


@pytest.fixture(scope="module")
def speech():
    reference = Reference("a", f"{shipped_sounds()}/speech/numbers.ogg")
    return read_waveform(reference, RATE)[0][RATE : RATE + 24_000]


def noisy(speech, noise):
    dirt = np.random.default_rng(1).standard_normal(len(speech)) * noise
    return (speech + dirt).astype(np.float32)


def test_scores_fall_with_noise(speech):
    quiet, loud = (measure(speech, noisy(speech, n), RATE, tuple(SCORES)) for n in (1e-4, 0.03))
    for name in SCORES:
        assert getattr(loud, name) < getattr(quiet, name), name
    assert quiet.stoi <= 1.0 + 1e-6
    assert quiet.visqol <= 4.75
    assert quiet.pesq <= 4.65


def test_visqol_is_the_librarys_at_48_khz(speech):
    import visqol

    dirty = noisy(speech, 0.01)
    api = visqol.VisqolApi()
    api.create(mode="audio")
    pair = [soxr.resample(one, RATE, 48_000).astype(np.float64) for one in (speech, dirty)]
    expected = api.measure_from_arrays(*pair, 48_000).moslqo
    found = perceptual_scores(speech, dirty, RATE, ["visqol"])
    assert found == {"visqol": pytest.approx(expected, abs=1e-6)}


def test_clips_too_short_or_silent_have_none(speech):
    short = speech[:800]
    assert perceptual_scores(short, noisy(short, 0.01), RATE, tuple(SCORES)) == dict.fromkeys(
        SCORES
    )
    silence = np.zeros_like(speech)
    assert perceptual_scores(silence, speech, RATE, ["pesq", "visqol"]) == {
        "pesq": None,
        "visqol": None,
    }


def test_names_are_checked(monkeypatch):
    assert checked_scores(["pesq", "stoi", "pesq"]) == ("stoi", "pesq")
    with pytest.raises(UsageError, match=r"no score 'mos'; there are stoi, pesq, visqol"):
        checked_scores(["mos"])
    monkeypatch.setitem(SCORES, "pesq", "no_such_module")
    with pytest.raises(UsageError, match="audit-perceptual"):
        checked_scores(["pesq"])
