"""The quantizer in its small space against transformers' own."""

import pytest
import torch

from dac_tokenize.codec.quantizer import ResidualQuantizer
from tests.codec.models import PUBLISHED_SHAPES, published_model


@pytest.mark.parametrize("name", PUBLISHED_SHAPES)
@torch.inference_mode()
def test_codes_equal_the_models_own(name: str) -> None:
    model = published_model(name)
    generator = torch.Generator().manual_seed(1)
    latents = 3 * torch.randn(2, model.config.hidden_size, 700, generator=generator)
    expected = model.quantizer(latents)[1]
    ours = ResidualQuantizer(model.quantizer, model.config.n_codebooks, torch.device("cpu"))
    assert torch.equal(ours.encode(latents), expected)


@torch.inference_mode()
def test_fewer_codebooks_are_the_first_ones() -> None:
    model = published_model("16khz")
    latents = torch.randn(1, model.config.hidden_size, 50)
    few = ResidualQuantizer(model.quantizer, 3, torch.device("cpu"))
    every = ResidualQuantizer(model.quantizer, 12, torch.device("cpu"))
    assert torch.equal(few.encode(latents), every.encode(latents)[:, :3])


@torch.inference_mode()
def test_a_silent_latent_gets_the_models_code() -> None:
    """A latent of zero has no direction: the choice is the model's all the same."""
    model = published_model("16khz")
    latents = torch.zeros(1, model.config.hidden_size, 2)
    ours = ResidualQuantizer(model.quantizer, 12, torch.device("cpu"))
    assert torch.equal(ours.encode(latents), model.quantizer(latents)[1])


@torch.inference_mode()
def test_decoding_sums_what_is_there() -> None:
    model = published_model("16khz")
    size = model.config.codebook_size
    codes = torch.randint(0, size, (2, 12, 40))
    ours = ResidualQuantizer(model.quantizer, 12, torch.device("cpu"))
    for held in (1, 5, 12):
        expected = model.quantizer.from_codes(codes[:, :held])[0]
        padded = codes.clone()
        padded[:, held:] = size
        torch.testing.assert_close(ours.decode(padded), expected, atol=1e-4, rtol=1e-5)
