"""Writing the codec as a folder that `DacModel.from_pretrained` loads."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

from transformers import DacModel

logger = logging.getLogger(__name__)

#: The wheel carries the weights, so they must stay small.
MAX_BYTES = 5_000_000


def export_model(model: DacModel, folder: Path) -> None:
    """Saves weights, config and preprocessor config.

    Args:
        model: Plain float32 model, without weight norm.
        folder: Receives `config.json`, `preprocessor_config.json` and `model.safetensors`.

    Raises:
        ValueError: The weights are larger than the package can carry.
    """
    num_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
    if num_bytes > MAX_BYTES - 50_000:
        raise ValueError(f"Weights of {num_bytes} bytes are too large for {MAX_BYTES} in all.")
    model.save_pretrained(folder)
    # safetensors are written for the owner alone, but a package is read by everybody.
    (folder / "model.safetensors").chmod(0o644)
    config = model.config
    preprocessor = {
        "chunk_length_s": None,
        "feature_extractor_type": "DacFeatureExtractor",
        "feature_size": 1,
        "hop_length": math.prod(config.downsampling_ratios),
        "overlap": None,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": config.sampling_rate,
    }
    text = json.dumps(preprocessor, indent=2, sort_keys=True) + "\n"
    (folder / "preprocessor_config.json").write_text(text)
    logger.info("exported to %s: %d bytes of weights", folder, num_bytes)
