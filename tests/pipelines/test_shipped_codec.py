"""The recipe of the shipped codec on tiny inputs, and the shipped codec itself."""

import json
import math
import struct
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DacModel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "pipelines"))

from shipped_codec.data import BatchSource, MissingSourceError, check_sources  # noqa: E402
from shipped_codec.evaluation import align, find_lag, format_table  # noqa: E402
from shipped_codec.export import MAX_BYTES, export_model  # noqa: E402
from shipped_codec.linear_start import start_linear  # noqa: E402
from shipped_codec.losses import MelDistance, mel_filters, negative_snr, si_sdr  # noqa: E402
from shipped_codec.midi import make_piece  # noqa: E402
from shipped_codec.model import build_model, draw_codebook_counts, quantize  # noqa: E402
from shipped_codec.quantizer import Revival, cosine_kmeans, start_quantizers  # noqa: E402
from shipped_codec.settings import ModelSettings, Settings, load_settings  # noqa: E402
from shipped_codec.synthesis import make_music, make_noise  # noqa: E402
from shipped_codec.training import Trainer  # noqa: E402

CONFIG = ROOT / "configs/shipped_codec.yaml"
TINY = ModelSettings(
    encoder_hidden_size=4,
    decoder_hidden_size=16,
    downsampling_ratios=[4, 2],
    hidden_size=12,
    n_codebooks=3,
    codebook_size=16,
    codebook_dim=4,
)


@pytest.fixture
def shipped() -> Path:
    return Path(str(files("dac_tokenize"))) / "shipped_codec"


@pytest.fixture
def rng() -> np.random.Generator:
    torch.manual_seed(0)
    return np.random.default_rng(0)


def tiny_settings() -> Settings:
    settings = load_settings(CONFIG)
    training = replace(
        settings.training,
        crop_frames=64,
        batch_size=4,
        autoencoder_steps=2,
        joint_steps=3,
        checkpoint_interval=2,
        log_interval=1,
        revival_interval=1,
        precision="float32",
        compile=False,
    )
    losses = replace(settings.losses, mel_windows=[32, 64], mel_bands=[5, 10])
    data = replace(settings.data, shares={"noise": 1.0})
    return replace(settings, model=TINY, training=training, losses=losses, data=data)


@pytest.fixture
def work_folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    (tmp_path / "data").mkdir()
    sound = make_noise(rng, 4.0, 16000)
    np.save(tmp_path / "data/noise.npy", (sound * 32767).astype(np.int16))
    return tmp_path


# The shipped codec


def test_shipped_codec_has_the_shape_of_dac_16khz(shipped):
    config = json.loads((shipped / "config.json").read_text())
    assert config["sampling_rate"] == 16000
    assert math.prod(config["downsampling_ratios"]) == 320
    assert config["n_codebooks"] == 12
    assert (config["codebook_size"], config["codebook_dim"]) == (1024, 8)
    preprocessor = json.loads((shipped / "preprocessor_config.json").read_text())
    assert (preprocessor["sampling_rate"], preprocessor["hop_length"]) == (16000, 320)


def test_shipped_codec_is_small_plain_float32(shipped):
    weights = shipped / "model.safetensors"
    assert weights.stat().st_size <= MAX_BYTES == 5_000_000
    (length,) = struct.unpack("<Q", weights.read_bytes()[:8])
    header = json.loads(weights.read_bytes()[8 : 8 + length])
    header.pop("__metadata__", None)
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    assert not [name for name in header if "parametrizations" in name or name.endswith("_g")]


def test_shipped_codec_loads_and_its_codes_vary(shipped, rng):
    model, info = DacModel.from_pretrained(shipped, local_files_only=True, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    music = torch.from_numpy(make_music(rng, 4.0, 16000))
    with torch.inference_mode():
        codes = model.eval().encode(music[None, None]).audio_codes[0]
    assert codes.shape == (12, 200)
    assert min(len(row.unique()) for row in codes) > 40


def test_more_codebooks_of_the_shipped_codec_come_closer(shipped, rng):
    model = DacModel.from_pretrained(shipped, local_files_only=True).eval()
    music = torch.from_numpy(make_music(rng, 4.0, 16000))[None]
    with torch.inference_mode():
        codes = model.encode(music[None]).audio_codes
        decoded = [model.decode(audio_codes=codes[:, :n]).audio_values for n in (1, 4, 12)]
    first, middle, last = (float(si_sdr(audio, music)) for audio in decoded)
    assert first < middle < last


def test_model_card_names_licences_and_what_was_held_out(shipped):
    card = (shipped / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    for phrase in ("CC BY 3.0", "Carlo Flora", "Maxim", "espeak-ng", "FluidR3", "Held out"):
        assert phrase in card


def test_reported_figures_are_those_of_the_shipped_codec(shipped):
    report = json.loads((ROOT / "benchmarks/shipped_codec.json").read_text())
    model = DacModel.from_pretrained(shipped, local_files_only=True)
    assert report["codec"]["num_parameters"] == sum(p.numel() for p in model.parameters())
    for sound in report["held_out"].values():
        ratios = list(sound["si_sdr_db"].values())
        assert ratios == sorted(ratios)
        distances = list(sound["mel_distance"].values())
        assert distances == sorted(distances, reverse=True)
    for line in format_table(report).splitlines():
        if line.startswith("| 12 |"):
            assert line in (shipped / "README.md").read_text()


# Losses against plain references


def test_si_sdr_is_that_of_its_definition(rng):
    target = rng.standard_normal(500)
    estimate = 3 * target + rng.standard_normal(500)
    target, estimate = target - target.mean(), estimate - estimate.mean()
    scaled = estimate @ target / (target @ target) * target
    expected = 10 * np.log10((scaled @ scaled) / ((estimate - scaled) @ (estimate - scaled)))
    got = si_sdr(torch.tensor(estimate)[None], torch.tensor(target)[None])
    assert float(got) == pytest.approx(expected, abs=1e-6)
    assert float(si_sdr(torch.tensor(7 * estimate)[None], torch.tensor(target)[None])) == (
        pytest.approx(expected, abs=1e-6)
    )


def test_negative_snr_counts_the_scale():
    target = torch.ones(1, 100) * 0.5
    assert float(negative_snr(target * 0.9, target)) == pytest.approx(-20, abs=1e-3)


def test_negative_snr_of_silence_is_finite():
    assert float(negative_snr(torch.zeros(1, 100), torch.zeros(1, 100))) == 0


def test_mel_filters_by_loop():
    filters = mel_filters(16000, 256, 20)

    def hertz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)

    top = 15 + 27 * math.log(8) / math.log(6.4)
    edges = [hertz(top * index / 21) for index in range(22)]
    for band in range(20):
        left, centre, right = edges[band : band + 3]
        for index in range(129):
            frequency = index * 16000 / 256
            height = min(
                (frequency - left) / (centre - left), (right - frequency) / (right - centre)
            )
            expected = max(0.0, height) * 2 / (right - left)
            assert float(filters[band, index]) == pytest.approx(expected, abs=1e-7)


def test_mel_distance_is_zero_for_equals_and_grows(rng):
    distance = MelDistance(16000, [128, 512], [20, 40])
    sound = torch.from_numpy(make_music(rng, 1.0, 16000))[None]
    noise = torch.randn_like(sound)
    assert float(distance(sound, sound)) == 0
    assert (
        0
        < float(distance(sound + 0.001 * noise, sound))
        < float(distance(sound + 0.1 * noise, sound))
    )


def test_mel_distance_wants_one_number_of_bands_per_window():
    with pytest.raises(ValueError, match="One number of bands"):
        MelDistance(16000, [128, 512], [20])


# Quantizers


def test_quantize_is_the_library_quantizer(rng):
    model = build_model(TINY).eval()
    latents = torch.randn(2, 12, 9)
    ours = quantize(model, latents, torch.full((2,), 3))
    theirs, codes, _, commitment, codebook = model.quantizer(latents, 3)
    assert torch.equal(ours.codes, codes)
    torch.testing.assert_close(ours.latents, theirs)
    torch.testing.assert_close(ours.commitment_loss, commitment.mean())
    torch.testing.assert_close(ours.codebook_loss, codebook.mean())


def test_quantize_leaves_out_unused_codebooks(rng):
    model = build_model(TINY).eval()
    latents = torch.randn(2, 12, 9)
    both = quantize(model, latents, torch.tensor([1, 3]))
    torch.testing.assert_close(both.latents[0], model.quantizer(latents, 1)[0][0])
    torch.testing.assert_close(both.latents[1], model.quantizer(latents, 3)[0][1])


def test_codebook_counts_drop_a_share_of_the_batch():
    counts = draw_codebook_counts(1000, 12, 0.5, torch.Generator().manual_seed(0))
    assert set(counts[:500].tolist()) == set(range(1, 13))
    assert set(counts[500:].tolist()) == {12}


def test_cosine_kmeans_finds_directions_whatever_the_length(rng):
    directions = torch.eye(4)
    points = directions[torch.arange(400) % 4] * torch.rand(400, 1).add(0.5)
    points += 0.01 * torch.randn(400, 4)
    entries = torch.nn.functional.normalize(cosine_kmeans(points, 16))
    assert (directions @ entries.T).max(1).values.min() > 0.99


def test_started_quantizers_leave_less_and_less(rng):
    model = build_model(TINY)
    latents = torch.randn(2000, 12) * torch.linspace(2, 0.2, 12)
    left = start_quantizers(model, latents)
    assert left == sorted(left, reverse=True)
    assert left[0] < 0.9
    quantized = quantize(model, latents.T[None], torch.tensor([3]))
    error = (latents.T[None] - quantized.latents).var() / latents.var()
    assert float(error) == pytest.approx(left[-1], rel=0.15)
    assert min(len(row.unique()) for row in quantized.codes[0]) > 10


def test_revival_moves_dead_entries_onto_inputs(rng):
    model = build_model(TINY)
    optimizer = torch.optim.AdamW(model.parameters())
    revival = Revival(3, 16)
    revival.count(torch.zeros(2, 3, 50, dtype=torch.long))
    projected = torch.randn(3, 2, 4, 64)
    before = model.quantizer.quantizers[0].codebook.weight.detach().clone()
    assert revival.revive(model, projected, optimizer) == [15, 15, 15]
    after = model.quantizer.quantizers[0].codebook.weight
    assert torch.equal(after[0], before[0])
    points = projected[0].transpose(1, 2).reshape(-1, 4)
    assert all((points == entry).all(1).any() for entry in after[1:])


# Start, training, export


def test_linear_start_brings_back_most_of_the_sound(rng):
    settings = load_settings(CONFIG)
    model = build_model(replace(settings.model, encoder_hidden_size=8, decoder_hidden_size=128))
    pieces = [torch.from_numpy(make_music(rng, 8.0, 16000)) for _ in range(4)]
    audio = torch.stack(pieces).reshape(16, 1, 32000)
    start_linear(model, audio)
    with torch.inference_mode():
        decoded = model.decoder(model.encoder(audio))
    assert float(negative_snr(decoded[:, 0], audio[:, 0])) < -3


@pytest.fixture
def one_thread():
    """Several threads add gradients in any order; earlier tests may have left them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_training_goes_on_from_a_checkpoint_as_if_never_stopped(work_folder):
    settings = tiny_settings()
    whole = Trainer(settings, work_folder, resume=False)
    whole.run()
    expected = whole.averaged_model().state_dict()
    stopped = Trainer(settings, work_folder, resume=False)
    stopped.run(deadline=0.0)
    assert stopped.step == 1
    resumed = Trainer(settings, work_folder)
    assert resumed.step == 1
    resumed.run()
    for name, tensor in resumed.averaged_model().state_dict().items():
        torch.testing.assert_close(tensor, expected[name], msg=name)


def test_averaged_model_is_exported_plain_and_loads(work_folder):
    trainer = Trainer(tiny_settings(), work_folder, resume=False)
    model = trainer.averaged_model()
    export_model(model, work_folder / "codec")
    loaded, info = DacModel.from_pretrained(
        work_folder / "codec", local_files_only=True, output_loading_info=True
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    sound = torch.randn(1, 1, 160)
    with torch.inference_mode():
        assert torch.equal(loaded.eval().encode(sound).audio_codes, model.encode(sound).audio_codes)


def test_export_refuses_a_large_model(tmp_path):
    model = build_model(replace(TINY, encoder_hidden_size=128))
    with pytest.raises(ValueError, match="too large"):
        export_model(model, tmp_path)


# Data and evaluation


def test_batches_depend_on_seed_and_step_alone(work_folder):
    first = BatchSource(work_folder / "data", {"noise": 1.0}, 3, 640, seed=1)
    again = BatchSource(work_folder / "data", {"noise": 1.0}, 3, 640, seed=1)
    first.batch(0)
    assert torch.equal(first.batch(5), again.batch(5))
    assert not torch.equal(first.batch(5), first.batch(6))
    assert not torch.equal(first.batch(5), first.batch(-5))
    assert first.batch(5).shape == (3, 1, 640)
    assert float(first.batch(5).abs().max()) <= 1


def test_missing_sources_are_named():
    settings = load_settings(CONFIG).data
    settings = replace(settings, recorded_speech=["no_such_voice"])
    with pytest.raises(MissingSourceError, match=r"apt-get install .*no_such_voice"):
        check_sources(settings, [])


def test_held_out_sound_is_no_training_source():
    settings = load_settings(CONFIG)
    held_out = Path(settings.evaluation.speech_folder).name
    assert held_out not in settings.data.recorded_speech
    # The Spanish prompts are by the speaker of the held-out English ones.
    assert "es_MX_f_Allison" not in settings.data.recorded_speech


def test_unknown_settings_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.read_text().replace("joint_steps", "joint_step"))
    with pytest.raises(ValueError, match="joint_step"):
        load_settings(path)


def test_synthesis_is_loud_enough_and_repeatable():
    for make in (make_noise, make_music):
        first, again = (make(np.random.default_rng(3), 3.0, 16000) for _ in range(2))
        assert np.array_equal(first, again)
        assert first.shape == (48000,)
        assert np.abs(first).max() == pytest.approx(0.7, abs=1e-3)


def test_pieces_are_midi_files():
    piece = make_piece(np.random.default_rng(0), 10.0)
    kind, length, form, tracks, _ = struct.unpack(">4sIHHH", piece[:14])
    assert (kind, length, form, tracks) == (b"MThd", 6, 0, 1)
    marker, length = struct.unpack(">4sI", piece[14:22])
    assert (marker, length) == (b"MTrk", len(piece) - 22)
    assert piece.endswith(b"\x00\xff\x2f\x00")


@pytest.mark.parametrize("lag", [-8, 0, 5])
def test_lag_is_found_and_taken_out(lag):
    original = torch.from_numpy(np.random.default_rng(0).standard_normal(1000))
    decoded = torch.roll(original, lag)
    assert find_lag(decoded, original) == lag
    moved, wanted = align(decoded, original, lag)
    assert torch.equal(moved, wanted)


def test_table_has_a_row_per_number_of_codebooks():
    scores = {"si_sdr_db": {"1": 1.0, "12": 5.0}, "mel_distance": {"1": 1.0, "12": 0.5}}
    report = {
        "held_out": {"speech": scores, "music": scores},
        "codec": {"sampling_rate": 16000, "hop_length": 320},
        "codebook_size": 1024,
        "entries_used": [1024, 512],
        "encode_times_real_time": {"DacModel": {"clock": 80.0, "core": 50.0}},
        "environment": {"threads": 2},
    }
    table = format_table(report)
    assert "| 12 | 6.0 | 5.00 | 0.500 | 5.00 | 0.500 |" in table
    assert "100, 50" in table
