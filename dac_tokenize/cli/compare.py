"""`dac-tokenize compare`: which codec, and how many of its codebooks?"""

import argparse
from typing import Any

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
    add(
        "inputs",
        nargs="*",
        metavar="INPUT",
        default=argparse.SUPPRESS,
        help="file, folder or glob, local or an fsspec URL",
    )
    add("--output", metavar="REPORT", help="folder for the report, local or an fsspec URL")
    add("--models", metavar="LIST", help="names on the Hub, folders, or 'shipped'; with commas")
    add(
        "--codebooks",
        metavar="LIST",
        default="1,2,4,8,all",
        help="numbers of codebooks to decode with (default: 1,2,4,8,all)",
    )
    add("--sample", type=int, metavar="N", default=30, help="clips to encode (default: 30)")
    add("--seed", type=int, metavar="S", default=0, help="another seed, other clips (default: 0)")
    add("--perceptual", action="store_true", help="also STOI and PESQ")
    add("--page-clips", type=int, metavar="N", default=3, help="clips on the page (default: 3)")
    add("--device", metavar="D", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def run(options: argparse.Namespace) -> int:
    """Compare, write the report, print the table."""
    from dac_tokenize.audit.compare import CompareOptions, compare_codecs, write_comparison
    from dac_tokenize.audit.report import check_libraries
    from dac_tokenize.sources import list_references
    from dac_tokenize.waveform import as_uri

    check_libraries()
    asked = CompareOptions(
        models=tuple(name for name in options.models.split(",") if name),
        codebooks=tuple(options.codebooks.split(",")),
        sample=options.sample,
        seed=options.seed,
        perceptual=options.perceptual,
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
