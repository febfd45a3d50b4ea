"""The files of an audit: figures for machines, a table of clips, a page for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dac_tokenize import files, publishing
from dac_tokenize.audit.auditing import Audit, open_measurer, saved_plan
from dac_tokenize.audit.media import ClipMedia, clip_media, required
from dac_tokenize.audit.metrics import METRICS, Quality
from dac_tokenize.audit.options import AuditOptions
from dac_tokenize.audit.page import render_audit
from dac_tokenize.audit.summary import mean_agreement
from dac_tokenize.errors import CorpusError

if TYPE_CHECKING:
    from dac_tokenize.audit.clips import ClipAudit
    from dac_tokenize.audit.sampling import Pick

REPORT_NAME = "report.json"
CLIPS_NAME = "clips.parquet"
PAGE_NAME = "report.html"

PAGE_SECONDS = 10.0
"""Most seconds of a clip that the page plays."""

PAGE_TOTAL_SECONDS = 350.0
"""Most seconds that it plays altogether: 7 of each of 50 clips, which take less than 20 MB."""

_SCORES: list[pa.Field[Any]] = [pa.field(name, pa.float64()) for name in METRICS]
_QUALITY = pa.struct([pa.field("codebooks", pa.int32()), *_SCORES])
_FINDING = pa.struct([pa.field("check", pa.string()), pa.field("detail", pa.string())])

_CLIP_FIELDS: list[pa.Field[Any]] = [
    pa.field("key", pa.string()),
    pa.field("duration_seconds", pa.float64()),
    pa.field("source_uri", pa.string()),
    pa.field("offset_seconds", pa.float64()),
    pa.field("channel", pa.int16()),
    pa.field("lag_samples", pa.int64()),
    *_SCORES,
    pa.field("agreement", pa.float64()),
    pa.field("agreement_by_codebook", pa.list_(pa.float64())),
    pa.field("stability", pa.float64()),
    pa.field("stability_by_codebook", pa.list_(pa.float64())),
    pa.field("peak", pa.float64()),
    pa.field("rms_db", pa.float64()),
    pa.field("quality_by_codebooks", pa.list_(_QUALITY)),
    pa.field("again_by_codebooks", pa.list_(_QUALITY)),
    pa.field("repeat", pa.struct(_SCORES)),
    pa.field("findings", pa.list_(_FINDING)),
]
CLIPS_SCHEMA = pa.schema(_CLIP_FIELDS)
"""The columns of `clips.parquet`; the corpus's own metadata columns follow them."""


def check_libraries() -> None:
    """Make sure that a page can be made, before the work.

    Raises:
        UsageError: a library of the extra `audit` is not installed.
    """
    for module, package in [
        ("plotly.graph_objects", "plotly"),
        ("itables", "itables"),
        ("jinja2", "jinja2"),
        ("PIL.Image", "pillow"),
        ("datasketch", "datasketch"),
    ]:
        required(module, package)


def write_report(audit: Audit, options: AuditOptions, folder: str) -> None:
    """Write `report.json`, `clips.parquet` and `report.html`; each appears when it is whole.

    Args:
        audit: what was found.
        options: of the audit.
        folder: path or URL of the report.

    Raises:
        CorpusError: a file cannot be written.
        UsageError: a library is not installed.
    """
    try:
        publish_json(audit.values, files.join(folder, REPORT_NAME))
        _write_clips(audit, files.join(folder, CLIPS_NAME))
        page = render_audit(audit, _media(audit, options))
        publishing.publish_bytes(page.encode("utf-8", "replace"), files.join(folder, PAGE_NAME))
    except OSError as error:
        raise CorpusError(f"the report in {folder} cannot be written: {error}") from error


def _media(audit: Audit, options: AuditOptions) -> dict[Pick, ClipMedia]:
    shown = audit.clips[: options.page_clips]
    wanted = [clip.pick for clip in shown if clip.levels is not None]
    if not wanted:
        return {}
    plan = saved_plan(audit.corpus)
    rate = plan.request.codec.sampling_rate
    seconds = min(PAGE_SECONDS, PAGE_TOTAL_SECONDS / len(wanted))
    with open_measurer(plan, options) as measurer:
        return {pick: clip_media(sound, rate) for pick, sound in measurer.sounds(wanted, seconds)}


def _write_clips(audit: Audit, url: str) -> None:
    metadata = saved_plan(audit.corpus).metadata_schema
    taken = set(CLIPS_SCHEMA.names)
    own: list[pa.Field[Any]] = [one.with_name(_free(one.name, taken)) for one in metadata]
    schema = pa.schema([*_CLIP_FIELDS, *own])
    table = pa.Table.from_pylist([_row(clip, taken) for clip in audit.clips], schema=schema)
    with publishing.published(url) as path:
        pq.write_table(table, str(path), compression="zstd")


def _free(name: str, taken: set[str]) -> str:
    """Return a metadata column's name, changed where the report has a column of that name."""
    return f"metadata.{name}" if name in taken else name


def _row(clip: ClipAudit, taken: set[str]) -> Mapping[str, Any]:
    best: dict[str, Any] = asdict(clip.best) if clip.best else {}
    return {
        "key": clip.pick.key,
        "duration_seconds": clip.duration_seconds,
        "source_uri": clip.source_uri,
        "offset_seconds": clip.offset_seconds,
        "channel": clip.channel,
        "lag_samples": clip.lag_samples,
        **best,
        "agreement": mean_agreement(clip.agreement),
        "agreement_by_codebook": list(clip.agreement),
        "stability": mean_agreement(clip.stability),
        "stability_by_codebook": list(clip.stability),
        "peak": clip.levels.peak if clip.levels else None,
        "rms_db": clip.levels.rms_db if clip.levels else None,
        "quality_by_codebooks": _by_codebooks(clip.quality),
        "again_by_codebooks": _by_codebooks(clip.again),
        "repeat": asdict(clip.repeat) if clip.repeat else None,
        "findings": [{"check": one.check, "detail": one.detail} for one in clip.findings],
        **{_free(name, taken): value for name, value in clip.metadata.items()},
    }


def _by_codebooks(qualities: Mapping[int, Quality]) -> list[dict[str, Any]]:
    return [{"codebooks": count, **asdict(quality)} for count, quality in qualities.items()]


def publish_json(values: Mapping[str, Any], url: str) -> None:
    """Write figures as JSON that any parser reads: numbers that are none become null."""
    publishing.publish_bytes(files.readable_json(_plain(values)), url)


def read_report(folder: str) -> dict[str, Any]:
    """Return the figures of the report in a folder.

    Raises:
        CorpusError: there is none.
    """
    url = files.join(folder, REPORT_NAME)
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
