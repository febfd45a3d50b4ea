"""An audit as one HTML page that opens from disk and asks nothing of any network."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dac_tokenize.audit.charts import audit_charts
from dac_tokenize.audit.findings import FAULTS, NOTES
from dac_tokenize.audit.media import ClipMedia, required
from dac_tokenize.audit.metrics import METRICS
from dac_tokenize.audit.summary import MAX_GROUPS, mean_agreement

if TYPE_CHECKING:
    from dac_tokenize.audit.auditing import Audit
    from dac_tokenize.audit.clips import ClipAudit
    from dac_tokenize.audit.sampling import Pick

METRIC_NAMES = {
    "si_sdr_db": "SI-SDR (dB)",
    "log_mel_db": "log-mel (dB)",
    "stft_distance": "STFT distance",
    "stoi": "STOI",
    "pesq": "PESQ",
    "visqol": "ViSQOL",
}
_TEXT_SHOWN = 300


def render_audit(audit: Audit, media: Mapping[Pick, ClipMedia]) -> str:
    """Return the page of an audit.

    Everything that comes from the corpus is escaped, in text, attributes and scripts.

    Args:
        audit: what was found.
        media: what is played and shown, by row.

    Raises:
        UsageError: a library of the extra `audit` is not installed.
    """
    scores = [clip.best.si_sdr_db for clip in audit.clips if clip.best is not None]
    values = audit.values
    shown = [name for name in METRICS if any(name in row for row in values["quality"])]
    return render(
        "audit.html.j2",
        audit_charts(values, audit.scan.heat, [one for one in scores if math.isfinite(one)]),
        corpus=audit.corpus,
        values=values,
        faults=FAULTS,
        notes=NOTES,
        heard=_heard(values["sound"]),
        max_groups=MAX_GROUPS,
        metrics=[(name, METRIC_NAMES[name]) for name in shown],
        columns=_columns(audit.clips),
        clips=[_clip(place, clip, media.get(clip.pick)) for place, clip in enumerate(audit.clips)],
    )


def render(template: str, charts: Mapping[str, Any], **values: Any) -> str:
    """Return a page made from one of the templates, with the libraries inside it.

    Args:
        template: file name in `templates/`.
        charts: pictures by the id of their place.
        values: what the template asks for.
    """
    jinja2: Any = required("jinja2", "jinja2")
    offline: Any = required("plotly.offline", "plotly")
    itables: Any = required("itables", "itables")
    html = Path(itables.__file__).parent / "html"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["brief"] = brief
    page = environment.get_template(template).render(
        charts=charts,
        plotly_js=offline.get_plotlyjs(),
        tables_css=(html / "dt_bundle.css").read_text(encoding="utf-8"),
        tables_js=base64.b64encode((html / "dt_bundle.js").read_bytes()).decode(),
        **values,
    )
    return str(page)


def figure(value: Any, digits: int = 2) -> str:
    """Return a number as text, and a dash for none.

    >>> figure(1234.5), figure(12)
    ('1,234.50', '12')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "\N{EN DASH}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def brief(value: Any) -> str:
    """Return a number in four digits, six where four would make it whole; a dash for none.

    >>> brief(523.4861), brief(0.001), brief(0.0), brief(0.9999769)
    ('523.5', '0.001', '0', '0.999977')
    """
    if value is None:
        return figure(None)
    text = f"{value:.4g}"
    return text if "." in text or float(text) == value else f"{value:.6g}"


def _heard(sound: Mapping[str, Any]) -> str:
    """Say of how many rows the decoded sound was looked at."""
    decoded, rows = sound["decoded_rows"], sound["of_rows"]
    return f"all {rows:,} rows" if decoded == rows else f"{decoded:,} of {rows:,} rows"


def _columns(clips: Sequence[ClipAudit]) -> list[str]:
    return list(clips[0].metadata) if clips else []


def _clip(place: int, clip: ClipAudit, media: ClipMedia | None) -> dict[str, Any]:
    best = clip.best
    return {
        "id": f"clip-{place}",
        "rank": place + 1,
        "key": clip.pick.key,
        "seconds": clip.duration_seconds,
        "source": _source(clip),
        "metadata": {name: _text(value) for name, value in clip.metadata.items()},
        "quality": {name: getattr(best, name) if best else None for name in METRICS},
        "agreement": mean_agreement(clip.agreement),
        "stability": mean_agreement(clip.stability),
        "lag": clip.lag_samples,
        "findings": clip.findings,
        "faulty": any(finding.is_fault for finding in clip.findings),
        "media": media,
    }


def _source(clip: ClipAudit) -> str:
    where = clip.source_uri
    if clip.offset_seconds:
        where += f", from {clip.offset_seconds:g} s"
    if clip.channel is not None:
        where += f", channel {clip.channel}"
    return where


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _TEXT_SHOWN else text[:_TEXT_SHOWN] + "..."
