"""Pictures of a report, by plotly, as plain values for its page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dac_tokenize.audit.media import required

_BLUE, _ORANGE, _GREEN = "#2563eb", "#d97706", "#059669"
_PALETTE = [_BLUE, _ORANGE, _GREEN, "#9333ea", "#dc2626", "#0891b2"]
_PER_FIGURE = {"si_sdr_db": "SI-SDR (dB)", "log_mel_db": "log-mel distance (dB)"}
_SIDES = {
    "si_sdr_db": "SI-SDR (dB), higher is nearer",
    "log_mel_db": "log-mel distance (dB), lower is nearer",
}


def audit_charts(
    values: Mapping[str, Any], heat: Sequence[Sequence[float]], scores: Sequence[float]
) -> dict[str, Any]:
    """Return the pictures of an audit by name.

    Args:
        values: what `report.json` holds.
        heat: from `CorpusScan.heat`.
        scores: SI-SDR of the sampled clips (dB).
    """
    charts = {
        "rate": rate_chart(values["rates"]),
        "levels": levels_chart(values["sound"]),
        "usage": usage_chart(values["usage"]),
        "heat": heat_chart(heat),
        "durations": durations_chart(values["durations"]),
    }
    if scores:
        charts["scores"] = _bars(
            [{"type": "histogram", "x": list(scores), "nbinsx": 24, "marker": {"color": _BLUE}}],
            "SI-SDR (dB)",
            "clips",
        )
    shares = values["fidelity"]["agreement_by_codebook"]
    stable = values["stability"]["agreement_by_codebook"]
    if shares or stable:
        charts["agreement"] = agreement_chart(shares, stable)
    return charts


def rate_chart(rates: Sequence[Mapping[str, Any]]) -> Any:
    """Return quality against bitrate, of one codec.

    Args:
        rates: what `summary.rates` returns.
    """
    go: Any = required("plotly.graph_objects", "plotly")
    figure = go.Figure()
    for axis, (metric, label) in enumerate(_PER_FIGURE.items()):
        if any(metric in row for row in rates):
            trace = _curve(label, rates, metric, _PALETTE[axis])
            figure.add_scatter(**trace, yaxis="y2" if axis else "y")
    figure.update_layout(
        xaxis_title="kbit/s",
        yaxis_title=_SIDES["si_sdr_db"],
        yaxis2={
            "title": {"text": _SIDES["log_mel_db"]},
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "tickformat": ".1f",
        },
        legend={"orientation": "h", "y": 1.15},
    )
    return _plain(figure)


def rates_chart(codecs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], metric: str) -> Any:
    """Return one kind of quality against bitrate, of several codecs.

    Args:
        codecs: for each its name and what `summary.rates` returns.
        metric: "si_sdr_db" or "log_mel_db".
    """
    traces = [
        {"type": "scatter", **_curve(name, rates, metric, _PALETTE[place % len(_PALETTE)])}
        for place, (name, rates) in enumerate(codecs)
    ]
    return _bars(traces, "kbit/s", _SIDES[metric])


def _curve(name: str, rates: Sequence[Mapping[str, Any]], metric: str, color: str) -> Any:
    return {
        "x": [row["bits_per_second"] / 1000 for row in rates],
        "y": [row.get(metric) for row in rates],
        "text": [f"{row['codebooks']} codebooks" for row in rates],
        "name": name,
        "mode": "lines+markers",
        "line": {"color": color},
    }


def usage_chart(usage: Sequence[Mapping[str, Any]]) -> Any:
    """Return perplexity and entries used by codebook."""
    books = [book["codebook"] for book in usage]
    return _bars(
        [
            {
                "type": "bar",
                "name": name,
                "x": books,
                "y": [book[field] for book in usage],
                "marker": {"color": color},
            }
            for name, field, color in [
                ("entries used", "used", _BLUE),
                ("perplexity", "perplexity", _ORANGE),
            ]
        ],
        "codebook",
        "entries",
    )


def perplexity_chart(codecs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Any:
    """Return the perplexity of each codebook of several codecs.

    Args:
        codecs: for each its name and the usage of its codebooks.
    """
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": [book["codebook"] for book in usage],
            "y": [book["perplexity"] for book in usage],
            "line": {"color": _PALETTE[place % len(_PALETTE)]},
        }
        for place, (name, usage) in enumerate(codecs)
    ]
    return _bars(traces, "codebook", "perplexity (entries)")


def heat_chart(heat: Sequence[Sequence[float]]) -> Any:
    """Return how evenly each codebook is used: share of codes by rank of the entry."""
    go: Any = required("plotly.graph_objects", "plotly")
    columns = len(heat[0]) if heat else 0
    even = 1 / max(columns, 1)
    figure = go.Figure(
        go.Heatmap(
            z=[[round(min(share / even, 8.0), 3) for share in row] for row in heat],
            x=[round(100 * (column + 0.5) / columns, 2) for column in range(columns)],
            colorscale="Viridis",
            zmin=0,
            zmax=4,
            colorbar={"title": {"text": "times even"}},
            hovertemplate="codebook %{y}<br>entry at %{x:.0f} %<br>%{z:.2f} x even<extra></extra>",
        )
    )
    figure.update_layout(
        xaxis_title="entries, the most frequent first (%)",
        yaxis={"title": {"text": "codebook"}, "autorange": "reversed", "dtick": 1},
    )
    return _plain(figure)


def durations_chart(durations: Mapping[str, Any]) -> Any:
    """Return the histogram of durations, empty ends left out."""
    edges, rows = list(durations["edges_seconds"]), list(durations["rows"])
    names = [f"< {edges[0]:g} s", *(f"{low:g}-{2 * low:g} s" for low in edges)]
    known = [place for place, count in enumerate(rows) if count] or [0]
    span = slice(known[0], known[-1] + 1)
    bars = {"type": "bar", "x": names[span], "y": rows[span], "marker": {"color": _GREEN}}
    return _bars([bars], "duration", "rows")


def levels_chart(sound: Mapping[str, Any]) -> Any:
    """Return the histogram of levels of decoded sound, empty ends left out."""
    edges, rows = list(sound["edges_db"]), list(sound["rows"])
    names = [f"< {edges[0]:g}", *(f"{low:g}" for low in edges)]
    known = [place for place, count in enumerate(rows) if count] or [0]
    span = slice(known[0], known[-1] + 1)
    bars = {"type": "bar", "x": names[span], "y": rows[span], "marker": {"color": _BLUE}}
    return _bars([bars], "level from (dB of full scale)", "rows")


def agreement_chart(agreement: Sequence[float], stability: Sequence[float]) -> Any:
    """Return agreement with plain DacModel, and stability, by codebook."""
    bars = [
        {
            "type": "bar",
            "name": name,
            "x": list(range(len(shares))),
            "y": [100 * share for share in shares],
            "marker": {"color": color},
        }
        for name, shares, color in [
            ("codes equal to plain DacModel's", agreement, _GREEN),
            ("codes kept when decoded sound is encoded again", stability, _ORANGE),
        ]
        if shares
    ]
    return _bars(bars, "codebook", "codes (%)")


def _bars(traces: list[dict[str, Any]], x_title: str, y_title: str) -> Any:
    go: Any = required("plotly.graph_objects", "plotly")
    figure = go.Figure(traces)
    figure.update_layout(
        xaxis_title=x_title, yaxis_title=y_title, bargap=0.15, legend={"orientation": "h", "y": 1.2}
    )
    return _plain(figure)


def _plain(figure: Any) -> Any:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 56, "r": 24, "t": 12, "b": 48},
        height=320,
        font={"family": "inherit", "size": 12},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return json.loads(figure.to_json())
