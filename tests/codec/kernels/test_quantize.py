"""The quantizer's kernel: the codes of `ResidualQuantizer`, all of them, ties included."""

import pytest
import torch
from transformers import DacConfig
from transformers.models.dac.modeling_dac import DacResidualVectorQuantizer

pytest.importorskip("triton")

from dac_tokenize.codec.kernels.quantize import KernelQuantizer
from dac_tokenize.codec.kernels.sheets import Sheet, filled
from dac_tokenize.codec.quantizer import ResidualQuantizer

pytestmark = pytest.mark.usefixtures("interpreted")
CPU = torch.device("cpu")


def codes_of(quantizer: ResidualQuantizer, latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Codes of latents (rows, frames, hidden_size), by the kernel and in plain torch."""
    rows, frames, hidden_size = latents.shape
    sheet = Sheet.make(rows, frames, filled(hidden_size), torch.float32, CPU)
    sheet.data[:, :, :hidden_size] = latents
    ours = KernelQuantizer(quantizer, sheet.channels)
    codes = ours.make_codes(sheet)
    ours.encode(sheet, ours.make_projected(sheet), codes)
    return codes.to(torch.int64), quantizer.encode(latents.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize(
    ("books", "size", "dim", "used"),
    [(9, 1024, 8, 9), (5, 64, 3, 4), (12, 256, 8, 12)],
)
@torch.inference_mode()
def test_codes_are_those_of_the_plain_form(books: int, size: int, dim: int, used: int) -> None:
    torch.manual_seed(books)
    config = DacConfig(
        n_codebooks=books, codebook_size=size, codebook_dim=dim, encoder_hidden_size=3
    )
    quantizer = DacResidualVectorQuantizer(config)
    for module in quantizer.quantizers:
        torch.nn.init.normal_(module.codebook.weight)
        # Every entry is there twice: the first of the two must be taken.
        module.codebook.weight[size // 2 :] = module.codebook.weight[: size // 2]
        torch.nn.init.normal_(module.in_proj.weight, std=0.2)
        torch.nn.init.normal_(module.out_proj.weight, std=0.3)
    latents = torch.randn(2, 21, config.hidden_size)
    latents[1, 20] = 0.0
    ours, expected = codes_of(ResidualQuantizer(quantizer, used, CPU), latents)
    assert ours.max() < size // 2
    assert ours.shape == (2, 21, used)
    assert torch.equal(ours, expected)


@torch.inference_mode()
def test_what_is_no_number_gets_the_plain_forms_code() -> None:
    """Half precision may overflow; nothing may be read from outside the tables then."""
    torch.manual_seed(0)
    quantizer = DacResidualVectorQuantizer(DacConfig(n_codebooks=3, encoder_hidden_size=3))
    latents = torch.randn(1, 20, 48)
    latents[0, 3] = float("nan")
    latents[0, 5] = float("inf")
    ours, expected = codes_of(ResidualQuantizer(quantizer, 3, CPU), latents)
    assert torch.equal(ours, expected)
