"""`dac-tokenize compare`: which codec, and how many of its codebooks?"""

import argparse
from typing import Any

from dac_tokenize.cli.arguments import add_device, add_inputs, add_quality, add_sample, listed

HELP = "put several codecs side by side on a sample of sound"
DESCRIPTION = (
    "Encode and decode a sample of INPUT with several codecs, and put bitrate, token rate, usage "
    "and quality side by side: as a table here, and in REPORT as compare.html and compare.json. "
    "All codecs are scored at the highest of their sampling rates."
)
REQUIRED = ("inputs", "output", "models")
TAKES_BEAM = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    add = parser.add_argument
    add_inputs(parser)
    add("--output", metavar="REPORT", help="folder for the report, local or an fsspec URL")
    add("--models", metavar="LIST", help="names on the Hub, folders, or 'shipped'; with commas")
    add_sample(parser, 30, "clips to encode (default: 30)")
    add_quality(parser, "1,2,4,8,all", page_clips=3)
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Compare, write the report, print the table."""
    from dac_tokenize.audit.compare import CompareOptions, compare_codecs, write_comparison
    from dac_tokenize.audit.report import check_libraries
    from dac_tokenize.sources import list_references
    from dac_tokenize.waveform import as_uri

    check_libraries()
    asked = CompareOptions(
        models=listed(options.models),
        codebooks=listed(options.codebooks),
        sample=options.sample,
        seed=options.seed,
        perceptual=listed(options.perceptual),
        page_clips=options.page_clips,
        device=options.device,
    )
    comparison = compare_codecs(list_references(options.inputs), asked)
    output = as_uri(options.output)
    write_comparison(comparison, output)
    _show(comparison.values)
    print(f"{comparison.values['clips']:,} clips compared; see {output}/compare.html")
    return 0


def _show(values: Any) -> None:
    """Print one line for each codec and number of codebooks."""
    width = max(5, *(len(codec["model"]) for codec in values["codecs"]))
    print(f"{'codec':<{width}} codebooks tokens/s kbit/s used SI-SDR dB log-mel dB STFT")
    for codec in values["codecs"]:
        for row in codec["rates"]:
            print(
                f"{codec['model']:<{width}} {row['codebooks']:>9} {row['tokens_per_second']:>8.0f} "
                f"{row['bits_per_second'] / 1000:>6.2f} {row['mean_usage']:>4.0%} "
                f"{row.get('si_sdr_db', float('nan')):>9.2f} "
                f"{row.get('log_mel_db', float('nan')):>10.2f} "
                f"{row.get('stft_distance', float('nan')):>4.2f}"
            )
