"""Lhotse's JSON lines: cuts, recordings, and supervisions beside their recordings."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dac_tokenize.errors import PlanError
from dac_tokenize.sources.records import Found

Row = tuple[str, dict[Any, Any] | str]


def is_lhotse(row: Mapping[Any, Any]) -> bool:
    """Tells lhotse's rows from those of other manifests."""
    return (
        isinstance(row.get("recording"), dict)
        or isinstance(row.get("sources"), list)
        or {"recording_id", "start", "duration"} <= row.keys()
    )


class LhotseReader:
    """Turns lhotse's rows into plain ones: path, offset, duration, key and metadata."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._recordings: dict[str, dict[str, Any]] | None = None

    def plain_rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Turns rows into plain ones; bad ones into what is wrong with them."""
        for place, row in rows:
            if isinstance(row, str):
                yield place, row
                continue
            try:
                yield place, self._plain(row)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                yield place, f"no cut, recording or supervision that can be read: {error}"

    def _plain(self, row: dict[str, Any]) -> dict[str, Any]:
        if isinstance(row.get("sources"), list):  # a recording
            return {"path": _path_of(row, None), "key": row["id"]}
        recording = row.get("recording") or self._recording(row["recording_id"])
        plain: dict[str, Any] = {
            "path": _path_of(recording, row.get("channel")),
            "offset": row["start"],
            "duration": row["duration"],
            "key": row["id"],
            "recording_id": recording["id"],
        }
        supervisions = row.get("supervisions", [row])
        if len(supervisions) == 1:
            names = ("text", "speaker", "language", "gender")
            plain |= {n: supervisions[0][n] for n in names if supervisions[0].get(n) is not None}
            plain |= supervisions[0].get("custom") or {}
        return plain

    def _recording(self, recording_id: str) -> dict[str, Any]:
        if self._recordings is None:
            self._recordings = {row["id"]: row for row in self._load_recordings()}
        if recording_id not in self._recordings:
            raise ValueError(f"there is no recording {recording_id!r}")
        return self._recordings[recording_id]

    def _load_recordings(self) -> Iterator[dict[str, Any]]:
        name = self._found.path.rsplit("/", 1)[-1]
        other = self._found.sibling(name.replace("supervisions", "recordings", 1))
        if other.path == self._found.path or not other.exists():
            raise PlanError(
                f"{self._found.uri} names recordings, but there is no {other.uri} that says where "
                "they are; lhotse writes them as ..._recordings_... beside ..._supervisions_..."
            )
        with other.open() as raw:
            file = gzip.GzipFile(fileobj=raw) if other.path.endswith(".gz") else raw
            for line in file:
                yield json.loads(line)


def _path_of(recording: dict[str, Any], channel: Any) -> str:
    sources = recording["sources"]
    if len(sources) != 1 or sources[0]["type"] not in ("file", "url"):
        kinds = ", ".join(str(source.get("type")) for source in sources)
        raise ValueError(f"the recording's sources are: {kinds}; expected one file or url")
    channels = sources[0].get("channels") or [0]
    wanted = channels if channel is None else channel if isinstance(channel, list) else [channel]
    if sorted(wanted) != sorted(channels):
        raise ValueError(f"takes channels {wanted} of {channels}; expected all (split them later)")
    path: str = sources[0]["source"]
    return path
