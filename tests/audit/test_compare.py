"""Codecs side by side on the same sound."""

import json

import pytest

from dac_tokenize.audit.compare import (
    CompareOptions,
    compare_codecs,
    pick_references,
    write_comparison,
)
from dac_tokenize.cli import main
from dac_tokenize.errors import UsageError
from dac_tokenize.references import Reference
from tests.audit.browser import console_errors, open_browser, open_page
from tests.audit.corpora import cut_sounds
from tests.codec.models import PUBLISHED_SHAPES, random_model


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A codec of another rate, with random weights: it cannot but be worse."""
    folder = tmp_path_factory.mktemp("models") / "random<b>"
    random_model(width=4, **PUBLISHED_SHAPES["24khz"]).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def comparison(other, tmp_path_factory):
    references = cut_sounds(tmp_path_factory.mktemp("sounds") / "cut")[:2]
    broken = Reference("broken.wav", "/nowhere/broken.wav")
    options = CompareOptions(("shipped", other), codebooks=(1, "all"), device="cpu", page_clips=1)
    return compare_codecs([*references, broken], options)


def test_rates_follow_from_the_codecs(comparison):
    shipped, random = comparison.values["codecs"]
    assert comparison.values["clips"] == 2
    assert [one["key"] for one in comparison.values["failed"]] == ["broken.wav"]
    assert comparison.values["scored_at_hz"] == 24_000
    assert [row["codebooks"] for row in shipped["rates"]] == [1, 12]
    assert [row["codebooks"] for row in random["rates"]] == [1, 32]
    assert shipped["rates"][1]["bits_per_second"] == 12 * 50 * 10
    assert random["rates"][1]["tokens_per_second"] == 32 * 75
    for codec in (shipped, random):
        for row in codec["rates"]:
            assert 0 < row["entropy_bits_per_second"] < row["bits_per_second"]


def test_the_trained_codec_wins(comparison):
    shipped, random = (codec["rates"] for codec in comparison.values["codecs"])
    assert shipped[1]["si_sdr_db"] > 0 > random[1]["si_sdr_db"]
    assert shipped[1]["si_sdr_db"] > shipped[0]["si_sdr_db"]
    assert shipped[1]["log_mel_db"] < random[1]["log_mel_db"]


def test_the_page_shows_names_as_text(comparison, tmp_path):
    write_comparison(comparison, str(tmp_path))
    browser = open_browser()
    try:
        open_page(browser, tmp_path / "compare.html")
        assert console_errors(browser) == []
        count = "return document.querySelectorAll(arguments[0]).length"
        assert browser.execute_script(count, "#rates-table tbody tr") == 4
        assert browser.execute_script(count, "audio") == 3
        legend = browser.execute_script("return document.querySelector('.legend').textContent")
        assert "random<b>" in legend
    finally:
        browser.quit()


def test_the_sample_does_not_depend_on_the_order():
    references = [Reference(f"{index}.wav", f"/{index}.wav") for index in range(50)]
    picked = pick_references(references, 10, 0)
    assert pick_references(reversed(references), 10, 0) == picked
    assert pick_references(references, 10, 1) != picked
    assert {one.key for one in picked} < {one.key for one in pick_references(references, 20, 0)}


def test_the_command_line(tmp_path, capsys):
    cut_sounds(tmp_path / "cut")
    arguments = ["compare", str(tmp_path / "cut"), "--output", str(tmp_path / "report")]
    flags = ["--models", "shipped", "--codebooks", "all", "--sample", "1", "--device", "cpu"]
    assert main([*arguments, *flags]) == 0
    assert "1 clips compared" in capsys.readouterr().out
    values = json.loads((tmp_path / "report" / "compare.json").read_text())
    assert values["codecs"][0]["model"] == "shipped"


def test_no_models():
    with pytest.raises(UsageError, match="at least one"):
        CompareOptions(())
