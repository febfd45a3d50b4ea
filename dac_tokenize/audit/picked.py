"""Picked rows of a corpus, and the sound that they were made of, fetched again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dac_tokenize.corpus.checking import reference_key
from dac_tokenize.corpus.footer import open_parquet
from dac_tokenize.corpus.plan import load_shard
from dac_tokenize.corpus.record import codes_from_array
from dac_tokenize.references import Reference
from dac_tokenize.waveform import WaveformOpener

if TYPE_CHECKING:
    from dac_tokenize.audit.sampling import Pick
    from dac_tokenize.corpus.plan import Plan

Samples = npt.NDArray[np.float32]


class PickedRows:
    """Reads picked rows and their sources, the latter just as the encoding did.

    Args:
        plan: the corpus's plan.
        sampling_rate: the codec's (Hz).
    """

    def __init__(self, plan: Plan, sampling_rate: int) -> None:
        self._plan = plan
        self._opener = WaveformOpener(sampling_rate, plan.request.waveform)

    def read(self, picks: Iterable[Pick]) -> Iterator[tuple[Pick, dict[str, Any], Reference]]:
        """Yield each row with the reference it was made of; reads only row groups that hold one."""
        split = self._plan.request.waveform.channels == "split"
        for shard, of_shard in itertools.groupby(sorted(picks), key=lambda pick: pick.shard):
            references = {one.key: one for one in load_shard(self._plan, shard)}
            with open_parquet(self._plan.shard_url(shard)) as file:
                for group, of_group in itertools.groupby(of_shard, key=lambda pick: pick.group):
                    try:
                        table = file.read_row_group(group)
                    except (OSError, ValueError):  # the checks of all rows tell
                        continue
                    for pick in of_group:
                        row = _row(table, pick.row)
                        key = reference_key(pick.key, split)
                        yield pick, row, references.get(key) or Reference(key, row["source_uri"])

    def source(self, row: Mapping[str, Any], reference: Reference, num_samples: int) -> Samples:
        """Return the source of a row, from its start.

        Args:
            row: from `read`.
            reference: likewise.
            num_samples: so many samples are enough; one more than the row says is kept in any
                case, so that a source that has grown shows.

        Returns:
            float32, shape (n,).

        Raises:
            ClipError: it cannot be read.
        """
        blocks: list[Samples] = []
        waveform = self._opener(reference)
        try:
            for block in waveform.blocks:
                blocks.append(block[row["channel"] or 0])
                if sum(map(len, blocks)) > num_samples:
                    break
        finally:
            waveform.close()
        return np.concatenate(blocks)[: max(num_samples, row["num_samples"] + 1)]

    def close(self) -> None:
        """Close recordings that are kept open."""
        self._opener.close()


def _row(table: Any, place: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: table.column(name)[place].as_py()
        for name in table.column_names
        if name != "audio_codes"
    }
    chunk = table.slice(place, 1).column("audio_codes").combine_chunks()
    return values | {"audio_codes": codes_from_array(chunk)[0]}
