"""`dac-tokenize audit`: are a corpus's tokens good?"""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dac_tokenize.cli.options import finite
from dac_tokenize.errors import UsageError

if TYPE_CHECKING:
    from dac_tokenize.audit.auditing import AuditOptions
    from dac_tokenize.audit.sampling import SampleRequest

HELP = "check all rows of a corpus, and hold a sample to its sources"
DESCRIPTION = (
    "Check all rows of a corpus, decode a sample and hold it to its sources, encode these again "
    "by plain DacModel, and write a page to look at and listen to (report.html), the figures "
    "(report.json) and a table of clips (clips.parquet). Exit status 4 where a threshold is not "
    "met. With options of Beam's, such as --runner=FlinkRunner, the work is done on Beam."
)
REQUIRED = ("corpus", "output")
TAKES_BEAM = True

EXIT_THRESHOLD = 4
_SAMPLE = 50
_FINDINGS_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to `parser`."""
    from dac_tokenize.audit.verdict import THRESHOLDS

    add = parser.add_argument
    add(
        "corpus",
        nargs="?",
        metavar="CORPUS",
        default=argparse.SUPPRESS,
        help="folder of the corpus, or URL",
    )
    add("--output", metavar="REPORT", help="folder for the report, local or an fsspec URL")
    add("--sample", type=int, metavar="N", help=f"clips to look at (default: {_SAMPLE})")
    add("--fraction", type=finite, metavar="F", help="share of clips to look at, 0 to 1")
    add("--keys", nargs="+", metavar="KEY", help="look at the clips with these keys")
    add("--seed", type=int, metavar="S", default=0, help="another seed, other clips (default: 0)")
    add(
        "--codebooks",
        metavar="LIST",
        default="1,2,4,all",
        help="numbers of codebooks to decode with (default: 1,2,4,all)",
    )
    add("--no-fidelity", action="store_true", help="do not encode again by plain DacModel")
    add("--no-stability", action="store_true", help="do not encode decoded sound again")
    add("--perceptual", action="store_true", help="also STOI and PESQ")
    add("--page-clips", type=int, metavar="N", default=50, help="clips on the page (default: 50)")
    add("--model", metavar="M", help="where the corpus's codec is (default: as it was made)")
    add("--revision", metavar="R", help="branch, tag or commit on the Hub")
    add("--device", metavar="D", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
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
    from dac_tokenize.waveform import as_uri

    # Clips of all lengths go through plain DacModel, and oneDNN would keep what it made for each.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
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
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from dac_tokenize import files
    from dac_tokenize.audit.auditing import REPORT_NAME, read_report
    from dac_tokenize.audit.transform import AuditCodes
    from dac_tokenize.cli.runners import runner_of
    from dac_tokenize.cli.running import raise_error_of_worker

    runner = runner_of(beam_options)
    try:
        with beam.Pipeline(
            runner=runner.name, options=PipelineOptions(list(beam_options))
        ) as pipeline:
            _ = pipeline | AuditCodes(corpus, options, output)
    # Beam wraps what a worker raised, in another class for each runner, and puts its text inside.
    except Exception as error:
        raise_error_of_worker(f"{type(error).__module__}.{type(error).__name__}: {error}", error)
        raise
    return read_report(files.join(output, REPORT_NAME))


def _audit_options(options: argparse.Namespace) -> "AuditOptions":
    from dac_tokenize.audit.auditing import AuditOptions
    from dac_tokenize.audit.verdict import THRESHOLDS

    if options.revision is not None and options.model is None:
        raise UsageError("--revision needs --model; without it the corpus's own codec is taken")
    bounds = {name: getattr(options, name) for name in THRESHOLDS}
    return AuditOptions(
        sample=_sample(options),
        codebooks=tuple(options.codebooks.split(",")),
        fidelity=not options.no_fidelity,
        stability=not options.no_stability,
        perceptual=options.perceptual,
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
        value = "not measured" if line["value"] is None else f"{line['value']:.4f}"
        side = "at most" if line["threshold"].startswith("max") else "at least"
        bound = "" if line["bound"] is None else f"{side} {line['bound']:g}"
        mark = {True: "ok", False: "NOT MET", None: ""}[line["passed"]]
        print(f"{line['meaning']:<50} {value:>12}  {bound:<15} {mark}".rstrip())
    for finding in values["findings"][:_FINDINGS_SHOWN]:
        name = finding["key"] or finding["where"]
        print(f"{finding['check']}: {name}: {finding['detail']}")
    if (more := sum(values["checks"].values()) - _FINDINGS_SHOWN) > 0:
        print(f"and {more:,} more")
    sample = values["sample"]
    verdict = "passed" if values["passed"] else "FAILED"
    print(
        f"{verdict}: {values['corpus']['rows']:,} rows checked, {sample['clips']:,} clips "
        f"({sample['seconds']:.0f} s) held to their sources; see {output}/report.html"
    )
