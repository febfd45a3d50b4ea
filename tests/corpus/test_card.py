import datetime
import decimal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import yaml

from dac_tokenize.corpus import finish_corpus, iter_rows, published_shard, read_manifest
from dac_tokenize.corpus.card import render_card
from dac_tokenize.corpus.plan import load_plan
from dac_tokenize.corpus.record import corpus_features
from dac_tokenize.waveform import WaveformOptions
from tests.corpus.fakes import IDENTITY, FakeTokenizer, request, write_sounds
from tests.corpus.test_record import METADATA
from tests.corpus.test_tokenizing import run

datasets = pytest.importorskip("datasets")


@pytest.fixture
def manifest(tmp_path):
    return run(tmp_path / "out", write_sounds(tmp_path / "sounds", 7))


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_features_are_what_datasets_writes(manifest):
    info = front_matter(render_card(manifest, METADATA))["dataset_info"]
    assert info["features"] == corpus_features(METADATA)._to_yaml_list()
    assert datasets.Features._from_yaml_list(info["features"]) == corpus_features(METADATA)


def test_front_matter(manifest):
    card = front_matter(render_card(manifest, pa.schema([])))
    assert card["tags"] == ["dac", "audio-tokens"]
    [config] = card["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "license" not in card


def test_card_says_what_the_corpus_holds(manifest):
    schema = pa.schema([pa.field("a|b\nc", pa.string())])
    codec = dict(manifest.codec) | {"model_id": "someone/dac", "revision": "abc"}
    card = render_card(replace(manifest, codec=codec, num_tokens=1_234_567), schema)
    for text in (
        "`someone/dac` at revision `abc`, float32",
        "8,000 Hz",
        "100 Hz (a frame is 80 samples)",
        "3 of 1,024 codes",
        "1,234,567 in",
        "| `audio_codes` | `list<list<uint16>>` | DAC codes, shape",
        "| `a\\|b c` | `string` | came with the input |",
        'from_pretrained("someone/dac", revision="abc")',
        "the mean of all channels",
        "`_failed.parquet`",
    ):
        assert text in card


@pytest.mark.parametrize("channels", ["mix", "first", "split"])
def test_every_channel_policy_has_words(tmp_path, channels):
    asked = request(waveform=WaveformOptions(channels=channels, loudness=-16.0))
    run(tmp_path / "out", write_sounds(tmp_path / "sounds", 2), asked)
    assert "brought to -16 LUFS" in (tmp_path / "out/README.md").read_text()


def finish_again(output):
    plan = load_plan(str(output))
    results = [published_shard(plan, index) for index in range(plan.num_shards)]
    return finish_corpus(plan, str(output), results)


def test_a_changed_card_is_left_alone(tmp_path, manifest):
    path = tmp_path / "out/README.md"
    path.write_text("license: mine\n" + path.read_text())
    before = path.read_text()
    assert finish_again(tmp_path / "out") == manifest
    assert path.read_text() == before


def test_a_card_of_an_earlier_wording_is_renewed(tmp_path, manifest, monkeypatch):
    monkeypatch.setattr("dac_tokenize.corpus.card._TEMPLATE", "---\n{front_matter}---\nnew words\n")
    finish_again(tmp_path / "out")
    assert (tmp_path / "out/README.md").read_text().endswith("new words\n")


def test_a_missing_manifest_is_written_again(tmp_path, manifest):
    path = tmp_path / "out/_manifest.json"
    before = path.read_bytes()
    path.unlink()
    finish_again(tmp_path / "out")
    assert path.read_bytes() == before


def test_load_dataset(tmp_path):
    references = write_sounds(tmp_path / "sounds", 9)
    extra = {
        "text": "a",
        "day": datetime.date(2024, 2, 29),
        "price": decimal.Decimal("1.50"),
        "words": [{"w": "a", "at": 0.5}],
    }
    references = [replace(reference, metadata=extra) for reference in references]
    run(tmp_path / "out", references, tokenizer=FakeTokenizer(IDENTITY))
    loaded = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.features["audio_codes"] == datasets.List(datasets.List(datasets.Value("uint16")))
    assert loaded.features == corpus_features(load_plan(str(tmp_path / "out")).metadata_schema)
    rows = list(iter_rows(str(tmp_path / "out")))
    assert len(loaded) == len(rows) == read_manifest(str(tmp_path / "out")).rows
    for found, row in zip(loaded.with_format("arrow").iter(1), rows, strict=True):
        assert found.schema.field("audio_codes").type == pa.list_(pa.list_(pa.uint16()))
        assert found.column("audio_codes")[0].as_py() == row["audio_codes"].tolist()
    for found, row in zip(loaded, rows, strict=True):
        np.testing.assert_array_equal(found.pop("audio_codes"), row.pop("audio_codes"))
        assert found == row


def test_load_dataset_streaming(tmp_path, manifest):
    stream = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert [row["key"] for row in stream] == [f"clip00{index}" for index in range(7)]
    assert stream.features["audio_codes"] == datasets.List(datasets.List(datasets.Value("uint16")))
