"""An audit from end to end: the plain twin of the Beam transform."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dac_tokenize import files
from dac_tokenize.audit.findings import Finding
from dac_tokenize.audit.measuring import ClipAudit, MeasureOptions, Measurer
from dac_tokenize.audit.sampling import Pick, SampleRequest, pick_rows
from dac_tokenize.audit.scan import CorpusScan, manifest_checksums, merge_scans, scan_shard
from dac_tokenize.audit.summary import report_values
from dac_tokenize.audit.verdict import checked_thresholds
from dac_tokenize.corpus.decoding import tokenizer_of
from dac_tokenize.corpus.plan import Plan, load_plan
from dac_tokenize.corpus.reading import corpus_info
from dac_tokenize.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

REPORT_NAME = "report.json"
CLIPS_NAME = "clips.parquet"
PAGE_NAME = "report.html"

PAGE_SECONDS = 10.0
"""Most seconds of a clip that the page plays."""

PAGE_TOTAL_SECONDS = 350.0
"""Most seconds that it plays altogether: 7 of each of 50 clips, which take less than 20 MB."""

_EXPLAINED = 200


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What an audit does; plain values, to travel between workers.

    Attributes:
        sample: which rows are looked at closely.
        codebooks: numbers of codebooks to decode with, or "all"; all is always among them.
        fidelity: encode sources again by plain `DacModel`.
        stability: encode decoded sound again.
        perceptual: also STOI and PESQ.
        page_clips: clips that the page plays, the worst ones.
        thresholds: in place of the defaults, see `dac_tokenize.audit.verdict.THRESHOLDS`.
        model: where the corpus's codec is now; None for where it was.
        revision: as for `DacTokenizer.from_pretrained`.
        device: as for `DacTokenizer.from_pretrained`.
    """

    sample: SampleRequest = field(default_factory=SampleRequest)
    codebooks: tuple[int | str, ...] = (1, 2, 4, "all")
    fidelity: bool = True
    stability: bool = True
    perceptual: bool = False
    page_clips: int = 50
    thresholds: Mapping[str, float | None] | None = None
    model: str | None = None
    revision: str | None = None
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        corpus: path or URL of the corpus.
        values: all figures; what `report.json` holds.
        scan: of all rows.
        clips: of the sample, the worst first.
    """

    corpus: str
    values: Mapping[str, Any]
    scan: CorpusScan
    clips: Sequence[ClipAudit]

    @property
    def passed(self) -> bool:
        """Whether all thresholds are met."""
        return bool(self.values["passed"])


def audit_corpus(
    corpus: str, options: AuditOptions | None = None, *, show_progress: bool = False
) -> Audit:
    """Audit a corpus: check all of its rows, and hold a sample to its sources.

    Args:
        corpus: path or URL of the corpus.
        options: what to do.
        show_progress: show bars where stderr is a terminal.

    Raises:
        CorpusError: there is no corpus, it has no rows, or a key is not in it.
        CodecError: its codec does not load, or has other weights now.
        UsageError: an option is out of range, or a library is not installed.

    >>> audit = audit_corpus("out")  # doctest: +SKIP
    >>> audit.passed  # doctest: +SKIP
    True
    """
    options = options or AuditOptions()
    plan = saved_plan(corpus)
    check_options(plan, options)
    checksums = manifest_checksums(corpus)
    hidden = None if show_progress else True
    shards = tqdm(range(plan.num_shards), "shards checked", unit="shard", disable=hidden)
    scan = merge_scans(plan, (scan_shard(plan, index, checksums) for index in shards))
    picks = pick_rows(plan, options.sample)
    with open_measurer(plan, options) as measurer:
        measured = measurer.measure(picks)
        clips = list(tqdm(measured, "clips measured", len(picks), unit="clip", disable=hidden))
    return assemble(plan, options, scan, clips)


def saved_plan(corpus: str) -> Plan:
    """Return the plan of a corpus.

    Raises:
        CorpusError: there is none.
    """
    plan = load_plan(corpus)
    if plan is None:
        raise CorpusError(f"{corpus} holds no corpus of dac_tokenize: it has no _plan/plan.json")
    return plan


def check_options(plan: Plan, options: AuditOptions) -> None:
    """Refuse options before any work.

    Raises:
        UsageError: one is out of range.
    """
    codebook_counts(options.codebooks, plan.request.codec.num_codebooks)
    checked_thresholds(options.thresholds, plan.request.codec.precision)
    if options.page_clips < 0:
        raise UsageError(f"page_clips is {options.page_clips}; expected 0 or more")


def codebook_counts(given: Sequence[int | str], num_codebooks: int) -> tuple[int, ...]:
    """Return the numbers of codebooks to decode with, ascending, all of them the last.

    Args:
        given: numbers, or "all"; those above `num_codebooks` are left out.
        num_codebooks: how many the corpus has.

    Raises:
        UsageError: one is no number above 0.

    >>> codebook_counts([4, 1, "all", 64], 9)
    (1, 4, 9)
    """
    counts = {num_codebooks}
    for one in given:
        if one == "all":
            continue
        if not str(one).strip().isdecimal() or not int(one):
            raise UsageError(f"codebooks has {one!r}; expected numbers above 0, or all")
        if int(one) < num_codebooks:
            counts.add(int(one))
    return tuple(sorted(counts))


@contextlib.contextmanager
def open_measurer(plan: Plan, options: AuditOptions) -> Iterator[Measurer]:
    """Load a corpus's codec to measure its rows.

    Raises:
        CodecError: it does not load, or has other weights now.
    """
    tokenizer: DacTokenizer = tokenizer_of(
        plan.output, options.model, options.revision, options.device
    )
    identity = plan.request.codec
    bounds = checked_thresholds(options.thresholds, identity.precision)
    measure = MeasureOptions(
        codebooks=codebook_counts(options.codebooks, identity.num_codebooks),
        fidelity=options.fidelity,
        stability=options.stability,
        perceptual=options.perceptual,
        min_clip_agreement=(bounds["min_agreement"] or 0.0) * 0.95,
    )
    measurer = Measurer(plan, tokenizer, measure, lambda: _plain_model(plan, options))
    try:
        yield measurer
    finally:
        measurer.close()


def _plain_model(plan: Plan, options: AuditOptions) -> Any:
    from dac_tokenize.codec.checkpoint import load_checkpoint

    codec = plan.request.codec
    if options.model is None:
        return load_checkpoint(codec.model_id, codec.revision).model
    return load_checkpoint(options.model, options.revision).model


def assemble(
    plan: Plan, options: AuditOptions, scan: CorpusScan, clips: Iterable[ClipAudit]
) -> Audit:
    """Put the parts of an audit together.

    Args:
        plan: the corpus's plan.
        options: of the audit.
        scan: of all rows; the clips' findings are added to it.
        clips: of the sample, in any order.
    """
    measured = explain_swaps(list(clips))
    found = sorted(_with_checks(measured, scan), key=badness)
    for clip in measured:
        scan.findings.extend(clip.findings)
    bounds = checked_thresholds(options.thresholds, plan.request.codec.precision)
    if not options.fidelity and "min_agreement" not in (options.thresholds or {}):
        bounds["min_agreement"] = None
    values = report_values(corpus_info(plan.output), scan, found, bounds)
    return Audit(plan.output, values, scan, found)


def _with_checks(clips: Sequence[ClipAudit], scan: CorpusScan) -> Iterator[ClipAudit]:
    """Yield clips with what the checks of all rows found of them."""
    by_key: dict[str, list[Finding]] = {}
    for finding in scan.findings:
        by_key.setdefault(finding.key, []).append(finding)
    for clip in clips:
        checked = by_key.get(clip.pick.key, [])
        yield replace(clip, findings=(*checked, *clip.findings))


def badness(clip: ClipAudit) -> tuple[Any, ...]:
    """Return what sorts clips with the worst first: faults, then agreement, then SI-SDR."""
    faults = sum(finding.is_fault for finding in clip.findings)
    shares = sum(clip.agreement) / len(clip.agreement) if clip.agreement else 1.0
    score = clip.best.si_sdr_db if clip.best else math.nan
    return (-faults, shares < 0.5, math.inf if math.isnan(score) else score, clip.pick)


def explain_swaps(clips: Sequence[ClipAudit]) -> list[ClipAudit]:
    """Name the clip whose codes another one holds, where both are in the sample."""
    wrong = [clip for clip in clips if clip.disagreement is not None][:_EXPLAINED]
    owners = {}
    for clip in wrong:
        assert clip.disagreement is not None
        for other in wrong:
            assert other.disagreement is not None
            if other is not clip and clip.disagreement.is_of(other.disagreement):
                owners[clip.pick] = other.pick.key
    return [
        replace(clip, findings=_named(clip.findings, owners[clip.pick]))
        if clip.pick in owners
        else clip
        for clip in clips
    ]


def _named(findings: Sequence[Finding], owner: str) -> tuple[Finding, ...]:
    return tuple(
        replace(finding, detail=f"{finding.detail}: they are those of {owner!r}")
        if finding.check == "fidelity"
        else finding
        for finding in findings
    )


def page_picks(audit: Audit, options: AuditOptions) -> list[Pick]:
    """Return the rows that the page plays, the worst first."""
    return [clip.pick for clip in audit.clips[: options.page_clips]]


def publish_json(values: Mapping[str, Any], url: str) -> None:
    """Write figures as JSON that any parser reads: numbers that are none become null."""
    files.publish_bytes(files.readable_json(_plain(values)), url)


def read_report(url: str) -> dict[str, Any]:
    """Return the figures of a report.

    Raises:
        CorpusError: there is none.
    """
    data = files.read_bytes(url)
    if data is None:
        raise CorpusError(f"{url} is missing")
    values: dict[str, Any] = json.loads(data)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
