"""The benchmark of decoding, on a tiny codec."""

import pytest

from benchmarks import decode
from tests.codec.models import PUBLISHED_SHAPES, random_model


def test_every_way_is_measured(figures, capsys):
    options = "--width 4 --audio-seconds 3 --repeats 1 --device cpu"
    decode.main(options.split())
    measured = figures("decode-cpu-16khz-prompts-float32")
    ways = measured["ways"]
    assert list(ways) == ["A one by one", "B batches of 16", "C sorted batches", "D dac_tokenize"]
    differences = [way["largest_difference_from_A"] for way in ways.values()]
    assert differences[0] == 0
    assert differences[1] > 0.01  # padding reaches into the clips' ends
    assert differences[3] < 1e-4
    assert all(way["hours_per_hour"] > 0 for way in ways.values())
    assert "D dac_tokenize" in capsys.readouterr().out


@pytest.mark.parametrize("shape", PUBLISHED_SHAPES)
def test_operations_are_those_of_the_decoder(shape):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = random_model(width=4, **PUBLISHED_SHAPES[shape])
    frames = 200
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.decoder(torch.zeros(1, model.config.hidden_size, frames))
    seconds = frames * model.config.hop_length / model.config.sampling_rate
    counted = counter.get_total_flops() / seconds
    # The counter's edges, and odd strides, which give a little less than frames x hop.
    assert decode.decoder_operations(model) == pytest.approx(counted, rel=0.02)
