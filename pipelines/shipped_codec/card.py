"""The model card's parts that a run makes: the table of figures and a pair of spectrograms."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .data import load_audio
from .evaluation import Codec

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
#: Samples per window and hop of the spectrograms: 32 ms and 10 ms.
WINDOW, HOP = 512, 160
#: Decibels between black and white.
RANGE_DB = 70.0
#: The prompts are telephone sound: above 4 kHz there is nothing to see.
TOP_HERTZ = 4200


def update_card(card: Path, table: str) -> None:
    """Puts the table between the two markers of the card.

    Raises:
        ValueError: The card lacks the markers.
    """
    text = card.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{card} lacks the lines {BEGIN!r} and {END!r}.")
    card.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def draw_spectrograms(codec: Codec, prompt: Path, seconds: float, picture: Path) -> None:
    """Draws a prompt above what comes back from all codebooks, as a grey PNG.

    Args:
        codec: The codec.
        prompt: A held-out voice prompt.
        seconds: How much of its beginning to draw.
        picture: The file to write.
    """
    clip = load_audio(prompt, codec.sampling_rate)[: int(seconds * codec.sampling_rate)]
    decoded = codec.decode(codec.encode(clip), len(clip)).numpy()
    panels = [_spectrogram(sound, codec.sampling_rate) for sound in (clip, decoded)]
    gap = np.full((6, panels[0].shape[1]), 255, np.uint8)
    picture.write_bytes(encode_png(np.concatenate([panels[0], gap, panels[1]])))


def _spectrogram(sound: NDArray[np.float32], sampling_rate: int) -> NDArray[np.uint8]:
    """Gives grey levels, (frequencies from top to bottom, frames); loud is dark."""
    spectrum = torch.stft(
        torch.from_numpy(sound),
        WINDOW,
        hop_length=HOP,
        window=torch.hann_window(WINDOW),
        return_complex=True,
    )
    level = 20 * torch.log10(spectrum.abs() + 1e-6)[: TOP_HERTZ * WINDOW // sampling_rate]
    # One reference for both panels would need both at hand; speech of equal level has it anyway.
    shade = ((level.max() - level) / RANGE_DB).clamp(0, 1) * 255
    return shade.flip(0).to(torch.uint8).numpy()


def encode_png(grey: NDArray[np.uint8]) -> bytes:
    """Writes an 8-bit grey picture, (rows, columns), as a PNG file."""
    height, width = grey.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
