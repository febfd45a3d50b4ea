"""An audit from end to end: the plain twin of the Beam transform."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dac_tokenize.audit.clips import ClipAudit, explain_swaps, worst_first
from dac_tokenize.audit.measuring import MeasureOptions, Measurer
from dac_tokenize.audit.merging import CorpusScan, merge_scans
from dac_tokenize.audit.options import AuditOptions, check_options, codebook_counts, decodes_all
from dac_tokenize.audit.perceptual import checked_scores
from dac_tokenize.audit.sampling import pick_rows
from dac_tokenize.audit.scan import ShardScanner
from dac_tokenize.audit.summary import report_values
from dac_tokenize.audit.verdict import checked_thresholds
from dac_tokenize.corpus.decoding import tokenizer_of
from dac_tokenize.corpus.plan import Plan, load_plan
from dac_tokenize.corpus.reading import corpus_info
from dac_tokenize.errors import CorpusError

if TYPE_CHECKING:
    from dac_tokenize.tokenizer import DacTokenizer

# Read by oneDNN when it runs for the first time in a process.
_PRIMITIVES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


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
    picks = pick_rows(plan, options.sample)
    hidden = None if show_progress else True
    tokenizer = corpus_tokenizer(plan, options)
    scanner = ShardScanner(plan, tokenizer if decodes_all(plan, options) else None)
    shards = tqdm(range(plan.num_shards), "shards checked", unit="shard", disable=hidden)
    scan = merge_scans(plan, map(scanner.scan, shards))
    with open_measurer(plan, options, tokenizer) as measurer:
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


def corpus_tokenizer(plan: Plan, options: AuditOptions) -> DacTokenizer:
    """Load a corpus's codec.

    Raises:
        CodecError: it does not load, or has other weights now.
    """
    # Clips of all lengths go through plain DacModel, and oneDNN would keep what it made for each.
    os.environ.setdefault(_PRIMITIVES, "256")
    return tokenizer_of(plan.output, options.model, options.revision, options.device)


@contextlib.contextmanager
def open_measurer(
    plan: Plan, options: AuditOptions, tokenizer: DacTokenizer | None = None
) -> Iterator[Measurer]:
    """Open what measures rows of a corpus.

    Args:
        plan: the corpus's plan.
        options: of the audit.
        tokenizer: from `corpus_tokenizer`; None to load it here.

    Raises:
        CodecError: the codec does not load, or has other weights now.
    """
    identity = plan.request.codec
    bounds = checked_thresholds(options.thresholds, identity.precision)
    measure = MeasureOptions(
        codebooks=codebook_counts(options.codebooks, identity.num_codebooks),
        levels_told=decodes_all(plan, options),
        fidelity=options.fidelity,
        stability=options.stability,
        perceptual=checked_scores(options.perceptual),
        min_clip_agreement=(bounds["min_agreement"] or 0.0) * 0.95,
    )
    loaded = tokenizer or corpus_tokenizer(plan, options)
    measurer = Measurer(plan, loaded, measure, _plain_model(plan, options))
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
    found = worst_first(measured, list(scan.findings))
    for clip in measured:
        scan.findings.extend(clip.findings)
    bounds = checked_thresholds(options.thresholds, plan.request.codec.precision)
    if not options.fidelity and "min_agreement" not in (options.thresholds or {}):
        bounds["min_agreement"] = None
    values = report_values(corpus_info(plan.output), scan, found, bounds)
    return Audit(plan.output, values, scan, found)
