"""The dataset card of a finished corpus: what it holds, and how to load and decode it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml

from dac_tokenize.corpus.record import BASE_SCHEMA, FIELD_NOTES, corpus_features_json

if TYPE_CHECKING:
    from dac_tokenize.corpus.manifest import Manifest

CARD_NAME = "README.md"

_TEMPLATE = """\
---
# license: name here the licence of the sound that the codes were made from
{front_matter}---

# DAC codes

{hours:.2f} hours of sound as tokens of the Descript Audio Codec (DAC), made with
[dac_tokenize](https://pypi.org/project/dac-tokenize/).

| | |
| --- | --- |
| codec | `{model_id}`{revision}, {precision}, weights `{weights}` |
| sampling rate | {sampling_rate:,} Hz |
| frame rate | {frame_rate:g} Hz (a frame is {hop_length} samples) |
| codebooks | {num_codebooks} of {codebook_size:,} codes |
| channels | {channels} |
| loudness | {loudness} |
| clips | {written:,}, in {rows:,} rows |
| inputs that failed | {failed:,}, listed in `_failed.parquet` |
| sound | {hours:.2f} hours |
| tokens | {num_tokens:,} in {num_frames:,} frames; {bits:.2f} bits a token on disk |

## Columns

| column | type | what it is |
| --- | --- | --- |
{columns}

## Load

```python
from datasets import load_dataset

rows = load_dataset("path/or/name/of/this/dataset", split="train").with_format("numpy")
codes = rows[0]["audio_codes"]  # (num_codebooks, num_frames)
```

## Decode

```python
from dac_tokenize import DacTokenizer

tokenizer = DacTokenizer.from_pretrained({load})
[audio] = tokenizer.decode([codes], num_samples=[rows[0]["num_samples"]])
```
"""

_CHANNELS = {
    "mix": "the mean of all channels",
    "first": "the first channel",
    "split": "each channel is a row; its number follows `#` in the key",
}


def render_card(manifest: Manifest, metadata_schema: pa.Schema) -> str:
    """Return the card of a corpus, as Markdown with the front matter that `datasets` reads.

    Args:
        manifest: of the finished corpus.
        metadata_schema: types of its metadata columns.
    """
    codec, waveform = manifest.codec, manifest.waveform
    loudness = waveform["loudness"]
    return _TEMPLATE.format(
        front_matter=yaml.safe_dump(_front_matter(metadata_schema), sort_keys=False),
        columns=_column_table(metadata_schema),
        model_id=codec["model_id"],
        revision=f" at revision `{codec['revision']}`" if codec["revision"] else "",
        precision=codec["precision"],
        weights=codec["weights_checksum"][:16],
        sampling_rate=codec["sampling_rate"],
        frame_rate=codec["sampling_rate"] / codec["hop_length"],
        hop_length=codec["hop_length"],
        num_codebooks=codec["num_codebooks"],
        codebook_size=codec["codebook_size"],
        channels=_CHANNELS[waveform["channels"]],
        loudness="as it was" if loudness is None else f"brought to {loudness:g} LUFS",
        written=manifest.written,
        rows=manifest.rows,
        failed=manifest.failed,
        hours=manifest.hours,
        num_tokens=manifest.num_tokens,
        num_frames=manifest.num_frames,
        bits=8 * manifest.codes_bytes / max(manifest.num_tokens, 1),
        load=_load_arguments(codec),
    )


def _front_matter(metadata_schema: pa.Schema) -> dict[str, Any]:
    data_files = [{"split": "train", "path": "data/train-*.parquet"}]
    features = _yaml_features(corpus_features_json(metadata_schema))
    return {
        "tags": ["dac", "audio-tokens"],
        "configs": [{"config_name": "default", "data_files": data_files}],
        "dataset_info": {"config_name": "default", "features": features},
    }


def _load_arguments(codec: Any) -> str:
    arguments = [json.dumps(codec["model_id"])]
    if codec["revision"]:
        arguments.append(f"revision={json.dumps(codec['revision'])}")
    return ", ".join(arguments)


def _column_table(metadata_schema: pa.Schema) -> str:
    columns = [*BASE_SCHEMA, *metadata_schema]
    return "\n".join(
        f"| `{_cell(column.name)}` | `{_cell(_type_name(column.type))}` | "
        f"{FIELD_NOTES.get(column.name, 'came with the input')} |"
        for column in columns
    )


def _type_name(kind: pa.DataType) -> str:
    """Return a type as people write it.

    >>> _type_name(pa.list_(pa.uint16()))
    'list<uint16>'
    """
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return str(kind)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _yaml_features(features: Any) -> list[dict[str, Any]]:
    """Return features the way `datasets` writes them into YAML."""
    return [{"name": name, **_yaml_feature(feature)} for name, feature in features.items()]


def _yaml_feature(feature: Any) -> dict[str, Any]:
    kind = feature.get("_type")
    if kind == "Value":
        return {"dtype": feature["dtype"]}
    if kind not in ("List", "LargeList"):
        return {"struct": _yaml_features(feature)}
    item = _yaml_feature(feature["feature"])
    inner = item.get("dtype", item.get("struct", item))
    length = {"length": feature["length"]} if "length" in feature else {}
    return {"list" if kind == "List" else "large_list": inner, **length}
