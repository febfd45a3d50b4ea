"""The benchmark of precisions: its arithmetic, and a tiny run."""

import numpy as np

from benchmarks import precision


def test_agreement_counts_what_follows_a_first_difference():
    reference = [np.zeros((3, 2), np.uint16), np.zeros((3, 2), np.uint16)]
    codes = [np.array([[0, 1], [0, 0], [0, 1]]), np.array([[0, 0], [1, 0], [0, 0]])]
    found = precision.agreement(codes, reference)
    assert found == {
        "tokens": 12,
        "per_codebook": [0.75, 0.75, 0.75],
        "all": 0.75,
        "frames": 0.5,
        "first_at": [0.25, 0.25, 0.0],
        "later_different": [0.5, 0.0, None],
    }


def test_sounds_are_clips_of_both_kinds():
    sounds = precision.read_sounds(16_000, 3.0)
    for clips in sounds.values():
        assert sum(map(len, clips)) == 48_000
        assert all(clip.any() for clip in clips)


def test_every_precision_is_measured(figures, capsys, monkeypatch):
    monkeypatch.setattr(precision, "PRECISIONS", ("float32", "tf32", "bfloat16"))
    options = "--codecs shipped --shipped-seconds 2 --repeats 1 --device cpu"
    precision.main(options.split())
    found = figures("precision-cpu-shipped")["precisions"]
    assert list(found) == ["float32", "bfloat16", "tf32"]
    assert found["tf32"] is None
    assert found["float32"]["agreement"]["all"] == 1
    assert 0.6 < found["bfloat16"]["agreement"]["all"] < 1
    assert found["bfloat16"]["quality_decoded_in_float32"]["speech"]["si_sdr_db"] > 5
    assert "tf32" in capsys.readouterr().out
