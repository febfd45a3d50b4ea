"""`dac-tokenize audit`: are a corpus's tokens good?"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dac_tokenize.cli.arguments import (
    add_codec_of_corpus,
    add_corpus,
    add_quality,
    add_sample,
    check_codec_of_corpus,
    listed,
)
from dac_tokenize.cli.options import finite
from dac_tokenize.errors import UsageError

if TYPE_CHECKING:
    from dac_tokenize.audit.options import AuditOptions
    from dac_tokenize.audit.sampling import SampleRequest

HELP = "check all rows of a corpus, and hold a sample to its sources"
DESCRIPTION = (
    "Check all rows of a corpus, decode them, hold a sample to its sources, encode these again by "
    "plain DacModel, and write a page to look at and listen to (report.html), the figures "
    "(report.json) and a table of clips (clips.parquet). Exit status 4 where a threshold is not "
    "met. With options of Beam's, such as --runner=FlinkRunner, the work is done on Beam."
)
REQUIRED = ("corpus", "output")
TAKES_BEAM = True

_SAMPLE = 50
_FINDINGS_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    from dac_tokenize.audit.verdict import THRESHOLDS

    add = parser.add_argument
    add_corpus(parser)
    add("--output", metavar="REPORT", help="folder for the report, local or an fsspec URL")
    add_sample(parser, None, f"clips to hold to their sources (default: {_SAMPLE})")
    add("--fraction", type=finite, metavar="F", help="in place of it: share of clips, 0 to 1")
    add("--keys", nargs="+", metavar="KEY", help="in place of it: the clips with these keys")
    add(
        "--decode",
        choices=["auto", "all", "sample"],
        default="auto",
        help="rows to decode for sound that is not finite, silent or clipped: all, which takes "
        "about as long as the encoding did; the sample; or auto: all of up to 10 h, else the "
        "sample (default: auto)",
    )
    add_quality(parser, "1,2,4,all", page_clips=50)
    add("--no-fidelity", action="store_true", help="do not encode again by plain DacModel")
    add("--no-stability", action="store_true", help="do not encode decoded sound again")
    add_codec_of_corpus(parser)
    bounds = parser.add_argument_group(
        "thresholds", "By default no faults, 99.9 % of codes equal to plain DacModel's in float32."
    )
    for name, (_, meaning) in THRESHOLDS.items():
        bounds.add_argument(
            f"--{name.replace('_', '-')}", type=finite, metavar="X", help=f"{name[:3]}. {meaning}"
        )


def run(options: argparse.Namespace) -> int:
    """Audit, write the report, print the verdict, return the exit status."""
    from dac_tokenize.audit.report import check_libraries
    from dac_tokenize.cli import EXIT_THRESHOLD
    from dac_tokenize.waveform import as_uri

    check_libraries()
    asked = _audit_options(options)
    corpus, output = as_uri(options.corpus), as_uri(options.output)
    if options.beam_options:
        values = _on_beam(corpus, asked, output, options.beam_options)
    else:
        values = _here(corpus, asked, output)
    _show(values, output)
    return 0 if values["passed"] else EXIT_THRESHOLD


def _here(corpus: str, options: "AuditOptions", output: str) -> Any:
    from dac_tokenize.audit.auditing import audit_corpus
    from dac_tokenize.audit.report import write_report

    audit = audit_corpus(corpus, options, show_progress=True)
    write_report(audit, options, output)
    return audit.values


def _on_beam(corpus: str, options: "AuditOptions", output: str, beam_options: Sequence[str]) -> Any:
    from dac_tokenize.audit.report import read_report
    from dac_tokenize.audit.transform import AuditCodes
    from dac_tokenize.cli.running import run_transform
    from dac_tokenize.cli.stopping import Stopped, leave_process

    try:
        run_transform(AuditCodes(corpus, options, output), beam_options)
    except Stopped as stopped:
        leave_process(stopped, output)
    return read_report(output)


def _audit_options(options: argparse.Namespace) -> "AuditOptions":
    from dac_tokenize.audit.options import AuditOptions
    from dac_tokenize.audit.verdict import THRESHOLDS

    check_codec_of_corpus(options)
    bounds = {name: getattr(options, name) for name in THRESHOLDS}
    return AuditOptions(
        sample=_sample(options),
        codebooks=listed(options.codebooks),
        decode=options.decode,
        fidelity=not options.no_fidelity,
        stability=not options.no_stability,
        perceptual=listed(options.perceptual),
        page_clips=options.page_clips,
        thresholds={name: bound for name, bound in bounds.items() if bound is not None},
        model=options.model,
        revision=options.revision,
        device=options.device,
    )


def _sample(options: argparse.Namespace) -> "SampleRequest":
    from dac_tokenize.audit.sampling import SampleRequest

    given = [name for name in ("sample", "fraction", "keys") if getattr(options, name) is not None]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} do not go together; give one of them")
    if not given:
        return SampleRequest(_SAMPLE, seed=options.seed)
    return SampleRequest(
        count=options.sample,
        fraction=options.fraction,
        keys=tuple(options.keys or ()),
        seed=options.seed,
    )


def _show(values: Any, output: str) -> None:
    """Print the verdict, the findings and where the page is."""
    for line in values["verdict"]:
        if line["value"] is None and line["passed"] is None:
            continue
        value = "not measured" if line["value"] is None else f"{line['value']:.5f}"
        side = "at most" if line["threshold"].startswith("max") else "at least"
        bound = "" if line["bound"] is None else f"{side} {line['bound']:g}"
        mark = {True: "ok", False: "NOT MET", None: ""}[line["passed"]]
        print(f"{line['meaning']:<50} {value:>12}  {bound:<15} {mark}".rstrip())
    for finding in values["findings"][:_FINDINGS_SHOWN]:
        name = finding["key"] or finding["where"]
        print(f"{finding['check']}: {name}: {finding['detail']}")
    if (more := sum(values["checks"].values()) - _FINDINGS_SHOWN) > 0:
        print(f"and {more:,} more")
    sample, sound = values["sample"], values["sound"]
    verdict = "passed" if values["passed"] else "FAILED"
    print(
        f"{verdict}: {values['corpus']['rows']:,} rows checked, {sound['decoded_rows']:,} decoded, "
        f"{sample['measured']:,} clips ({sample['seconds']:.0f} s) held to their sources; see "
        f"{output}/report.html"
    )
