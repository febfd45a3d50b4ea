"""The offset of a codec: derived from its strides, held to what its convolutions do."""

import numpy as np
import pytest
import torch

from dac_tokenize.audit.alignment import aligned, estimate_lag, expected_lags, in_time, widened
from dac_tokenize.audit.metrics import si_sdr
from dac_tokenize.codec.checkpoint import load_checkpoint
from dac_tokenize.references import Reference
from dac_tokenize.sources import shipped_sounds
from dac_tokenize.waveform import read_waveform
from tests.codec.models import PUBLISHED_SHAPES, random_clip, random_model


def ratios(model):
    return list(model.config.downsampling_ratios)


@pytest.mark.parametrize("name", PUBLISHED_SHAPES)
def test_the_sound_is_short_by_what_the_strides_say(name):
    model = random_model(width=2, **PUBLISHED_SHAPES[name])
    frames = 6
    latents = torch.randn(1, model.config.hidden_size, frames)
    with torch.inference_mode():
        samples = model.decoder(latents).shape[-1]
    least, most = expected_lags(ratios(model))
    assert most == 0
    assert frames * int(np.prod(ratios(model))) - samples == -least


@pytest.mark.parametrize("name", PUBLISHED_SHAPES)
def test_what_the_encoder_reads_and_the_decoder_writes_has_one_centre(name):
    """So that no lag is of the convolutions' making, and late the sound never is."""
    model = random_model(width=2, **PUBLISHED_SHAPES[name]).double()
    hop, frames, at = int(np.prod(ratios(model))), 40, 20
    sound = torch.randn(1, 1, frames * hop, dtype=torch.float64, requires_grad=True)
    model.encoder(sound)[0, :, at].sum().backward()
    read = np.flatnonzero(sound.grad.numpy())
    latents = torch.randn(1, model.config.hidden_size, frames, dtype=torch.float64)
    changed = latents.clone()
    changed[:, :, at] += 1
    with torch.inference_mode():
        moved = (model.decoder(changed) - model.decoder(latents))[0, 0].numpy()
    written = np.flatnonzero(moved)
    # The outermost samples may change by less than a float holds; 8 samples would make 16 here.
    assert abs(read[0] + read[-1] - written[0] - written[-1]) <= 6


def test_the_shipped_codec_is_in_time():
    model = load_checkpoint().model
    reference = Reference("a", f"{shipped_sounds()}/speech/numbers.ogg")
    source = read_waveform(reference, 16_000)[0][: 5 * 16_000]
    with torch.inference_mode():
        codes = model.encode(torch.from_numpy(source)[None, None]).audio_codes
        decoded = model.decode(audio_codes=codes).audio_values[0].numpy()
    least, most = expected_lags(ratios(model))
    assert (len(source) - len(decoded), least) == (0, 0)
    lag = estimate_lag(source, decoded, widened((least, most)))
    assert lag == 0
    assert si_sdr(*aligned(source, decoded, lag)) > 3


@pytest.mark.parametrize("lag", range(-8, 1))
def test_a_codec_that_loses_samples_at_its_start_is_scored_as_if_it_did_not(lag):
    source = random_clip(8_000, 5)
    noisy = source + np.float32(0.1) * random_clip(8_000, 6)
    decoded = noisy[-lag : len(noisy) - 8 - lag]
    found = estimate_lag(source, decoded, widened(expected_lags([2, 4, 5, 8])))
    assert found == lag
    score = si_sdr(*aligned(source, decoded, found))
    assert score == pytest.approx(si_sdr(source, noisy), abs=0.1)
    np.testing.assert_array_equal(in_time(decoded, lag)[-lag:], decoded[: len(decoded) + lag])


@pytest.mark.parametrize("lag", [-30, -3, 0, 3, 30])
def test_sound_brought_in_time_keeps_its_length(lag):
    assert len(in_time(random_clip(20, 1), lag)) == 20
