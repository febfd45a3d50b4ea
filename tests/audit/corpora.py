"""Small real corpora, and ways to spoil them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from dac_tokenize.corpus import PlanRequest, finish_corpus, open_plan, tokenize_shard
from dac_tokenize.corpus.footer import open_parquet
from dac_tokenize.corpus.record import FOOTER_PREFIX, codes_array, codes_from_array
from dac_tokenize.references import Reference
from dac_tokenize.sources import shipped_sounds
from dac_tokenize.waveform import WaveformOptions

NASTY = '</script><script>window.evil=1</script><img src=x onerror="window.evil=2">&amp;"\''
CLIP_SECONDS = (1.0, 1.2, 1.4, 2.1, 2.3, 2.5, 1.1, 1.6, 2.2)


def cut_sounds(folder: Path) -> list[Reference]:
    """Write clips of shipped speech as files of their own, and return their references."""
    folder.mkdir(parents=True)
    speech = sorted((Path(shipped_sounds()) / "speech").iterdir())
    references = []
    for index, seconds in enumerate(CLIP_SECONDS):
        source = speech[index % len(speech)]
        with soundfile.SoundFile(source) as file:
            rate = file.samplerate
            file.seek(int((0.5 + 2.5 * (index // len(speech))) * rate))
            samples = file.read(int(seconds * rate), dtype="float32", always_2d=True)
        path = folder / f"clip{index}.wav"
        soundfile.write(path, samples, rate, subtype="FLOAT")
        metadata = {"speaker": source.stem, "text": NASTY if index == 1 else f"words {index}"}
        key = f"<b>{index}</b>/{NASTY}" if index == 2 else f"clip{index}.wav"
        references.append(Reference(key, str(path), metadata=metadata))
    return references


def make_corpus(folder: Path, tokenizer: Any, references: list[Reference]) -> str:
    """Encode references into a finished corpus of three shards."""
    output = str(folder / "corpus")
    request = PlanRequest(("cut",), tokenizer.identity, WaveformOptions(), max_shard_clips=3)
    plan = open_plan(output, request, lambda: references)
    results = [tokenize_shard(plan, index, tokenizer) for index in range(plan.num_shards)]
    finish_corpus(plan, output, results)
    return output


def copy_corpus(corpus: str, folder: Path, keep_manifest: bool = False) -> str:
    """Copy a corpus to be spoilt; without its manifest, whose checksums would tell at once."""
    copied = folder / "spoilt"
    shutil.copytree(corpus, copied)
    if not keep_manifest:
        (copied / "_manifest.json").unlink()
    return str(copied)


def shards(corpus: str) -> list[Path]:
    return sorted(Path(corpus, "data").iterdir())


def spoil_rows(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Rewrite a shard with changed rows, its footer as it was."""
    with open_parquet(str(path)) as file:
        table, entries = file.read(), dict(file.metadata.metadata)
    codes = codes_from_array(table.column("audio_codes").combine_chunks())
    rows = table.drop_columns("audio_codes").to_pylist()
    for row, clip in zip(rows, codes, strict=True):
        row["audio_codes"] = clip.copy()
    change(rows)
    clips = [row.pop("audio_codes") for row in rows]
    place = table.schema.get_field_index("audio_codes")
    spoilt = pa.Table.from_pylist(rows, schema=table.schema.remove(place))
    spoilt = spoilt.add_column(place, table.schema.field(place), codes_array(clips))
    _write(path, spoilt.cast(table.schema), entries)


def spoil_footer(path: Path, change: Callable[[bytes, bytes], bytes]) -> None:
    """Rewrite a shard with changed entries in its footer, its rows as they were."""
    with open_parquet(str(path)) as file:
        table, entries = file.read(), dict(file.metadata.metadata)
    entries = {name: change(name, value) for name, value in entries.items()}
    _write(path, table, entries)


def _write(path: Path, table: pa.Table, entries: dict[bytes, bytes]) -> None:
    with pq.ParquetWriter(str(path), table.schema) as writer:
        writer.write_table(table)
        prefix = FOOTER_PREFIX.encode()
        writer.add_key_value_metadata(
            {name: value for name, value in entries.items() if name.startswith(prefix)}
        )
