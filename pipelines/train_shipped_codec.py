"""Trains, evaluates and exports the codec that the package ships.

python pipelines/train_shipped_codec.py --config configs/shipped_codec.yaml
python pipelines/train_shipped_codec.py --config configs/shipped_codec.yaml --evaluate-only
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

from shipped_codec.card import draw_spectrograms, update_card
from shipped_codec.data import build_groups, check_sources
from shipped_codec.evaluation import Codec, evaluate, format_table
from shipped_codec.export import export_model
from shipped_codec.recognition import recognise_words
from shipped_codec.settings import Settings, load_settings
from shipped_codec.training import Trainer

ROOT = Path(__file__).resolve().parent.parent
#: Held-out prompt whose spectrograms the model card shows.
PICTURED_PROMPT = "demo-congrats.wav"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "configs/shipped_codec.yaml")
    parser.add_argument(
        "--work-folder",
        type=Path,
        default=Path("runs/shipped_codec"),
        help="holds the generated training sound and the checkpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "dac_tokenize/shipped_codec",
        help="the codec's folder",
    )
    parser.add_argument(
        "--report", type=Path, default=ROOT / "benchmarks/shipped_codec.json", help="the figures"
    )
    parser.add_argument("--fresh", action="store_true", help="ignore an earlier checkpoint")
    parser.add_argument(
        "--stop-after-minutes", type=float, help="stop training then, with what is there"
    )
    parser.add_argument(
        "--evaluate-only", action="store_true", help="score the weights in --output, train nothing"
    )
    return parser.parse_args(arguments)


def train(settings: Settings, arguments: argparse.Namespace) -> None:
    """Builds the data where it is missing, trains, and exports."""
    evaluation = settings.evaluation
    check_sources(settings.data, [Path(evaluation.speech_folder), Path(evaluation.music_folder)])
    data_folder = arguments.work_folder / "data"
    build_groups(settings.data, data_folder, settings.model.sampling_rate, settings.seed)
    trainer = Trainer(settings, arguments.work_folder, resume=not arguments.fresh)
    minutes = arguments.stop_after_minutes
    model = trainer.run(time.time() + 60 * minutes if minutes else None)
    export_model(model, arguments.output)
    prompt = Path(settings.evaluation.speech_folder) / PICTURED_PROMPT
    draw_spectrograms(Codec(arguments.output), prompt, 6.0, arguments.output / "spectrograms.png")


def report_figures(settings: Settings, folder: Path) -> dict[str, Any]:
    """Scores the codec in a folder on the held-out sound, words included."""
    evaluation = settings.evaluation
    check_sources(None, [Path(evaluation.speech_folder), Path(evaluation.music_folder)])
    report = evaluate(folder, settings)
    speech = Path(evaluation.speech_folder)
    report["words"] = recognise_words(Codec(folder), speech, evaluation.recognition_counts)
    return report


def main() -> None:
    """Runs the recipe."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    settings = load_settings(arguments.config)
    if not arguments.evaluate_only:
        train(settings, arguments)
    report = report_figures(settings, arguments.output)
    arguments.report.write_text(json.dumps(report, indent=2) + "\n")
    table = format_table(report)
    print(table)
    card = arguments.output / "README.md"
    if card.exists() and not arguments.evaluate_only:
        update_card(card, table)


if __name__ == "__main__":
    main()
