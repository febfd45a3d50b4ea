"""`AuditCodes`: an audit as a Beam transform; its plain twin is `audit_corpus` and `write_report`.

Shards are scanned and measured wherever the runner likes; only figures travel.
"""

# Beam is annotated in parts only.
# mypy: allow-untyped-calls, allow-any-generics, allow-subclassing-any, no-warn-return-any

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, PBegin, PCollection

from dac_tokenize.audit.auditing import assemble, corpus_tokenizer, open_measurer, saved_plan
from dac_tokenize.audit.clips import ClipAudit
from dac_tokenize.audit.merging import merge_scans
from dac_tokenize.audit.options import AuditOptions, check_options, decodes_all
from dac_tokenize.audit.report import write_report
from dac_tokenize.audit.sampling import Pick, pick_rows
from dac_tokenize.audit.scan import ShardScan, ShardScanner

_PICKS_AT_ONCE = 16


class AuditCodes(beam.PTransform):
    """Audit a corpus: check all of its rows, and hold a sample to its sources.

    Goes at the root of a pipeline. The same corpus, options and seed give the same figures as
    `dac_tokenize.audit.auditing.audit_corpus`, on any runner.

    Args:
        corpus: path or URL of the corpus, which all workers can read.
        options: what to do.
        output: path or URL of a folder for report.json, clips.parquet and report.html; None for
            no files.

    Returns:
        A PCollection of one element, the figures as a dict; its `passed` tells whether all
        thresholds are met.

    Raises:
        CorpusError: there is no corpus.
        UsageError: an option is out of range.

    >>> pipeline | AuditCodes("out", output="report")  # doctest: +SKIP
    """

    def __init__(
        self, corpus: str, options: AuditOptions | None = None, output: str | None = None
    ) -> None:
        super().__init__()
        self._corpus = corpus
        self._options = options or AuditOptions()
        self._output = output
        check_options(saved_plan(corpus), self._options)

    def expand(self, root: PBegin) -> PCollection:
        """Build the transform."""
        corpus = root | "Corpus" >> beam.Create([self._corpus])
        scans = (
            corpus
            | "ListShards" >> beam.FlatMap(_shard_indices).with_output_types(int)
            | "SpreadShards" >> beam.Reshuffle()
            | "ScanShard" >> beam.ParDo(_ScanShard(self._corpus, self._options))
        )
        clips = (
            corpus
            | "PickRows" >> beam.FlatMap(_picks, self._options)
            | "SpreadPicks" >> beam.Reshuffle()
            | "Measure" >> beam.ParDo(_Measure(self._corpus, self._options))
        )
        return corpus | "Report" >> beam.Map(
            _report, AsIter(scans), AsIter(clips), self._options, self._output
        )


def _shard_indices(corpus: str) -> range:
    return range(saved_plan(corpus).num_shards)


def _picks(corpus: str, options: AuditOptions) -> Iterator[list[Pick]]:
    """Yield the sample in small lists of rows that lie together."""
    picked = pick_rows(saved_plan(corpus), options.sample)
    for _, of_shard in itertools.groupby(picked, key=lambda pick: pick.shard):
        while some := list(itertools.islice(of_shard, _PICKS_AT_ONCE)):
            yield some


def _report(
    corpus: str,
    scans: Iterable[ShardScan],
    clips: Iterable[ClipAudit],
    options: AuditOptions,
    output: str | None,
) -> dict[str, Any]:
    plan = saved_plan(corpus)
    audit = assemble(plan, options, merge_scans(plan, scans), sorted(clips, key=_place))
    if output is not None:
        write_report(audit, options, output)
    return dict(audit.values)


def _place(clip: ClipAudit) -> Pick:
    return clip.pick


class _ScanShard(beam.DoFn):
    """Numbers of shards to their scans."""

    def __init__(self, corpus: str, options: AuditOptions) -> None:
        self._corpus = corpus
        self._options = options

    def setup(self) -> None:
        plan = saved_plan(self._corpus)
        decode = decodes_all(plan, self._options)
        self._scanner = ShardScanner(
            plan, corpus_tokenizer(plan, self._options) if decode else None
        )

    def process(self, index: int) -> Iterator[ShardScan]:
        yield self._scanner.scan(index)


class _Measure(beam.DoFn):
    """Lists of picked rows to what is measured of each."""

    def __init__(self, corpus: str, options: AuditOptions) -> None:
        self._corpus = corpus
        self._options = options

    def setup(self) -> None:
        self._stack = contextlib.ExitStack()
        plan = saved_plan(self._corpus)
        self._measurer = self._stack.enter_context(open_measurer(plan, self._options))

    def process(self, picks: list[Pick]) -> Iterator[ClipAudit]:
        yield from self._measurer.measure(picks)

    def teardown(self) -> None:
        if hasattr(self, "_stack"):
            self._stack.close()
