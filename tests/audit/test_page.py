"""The page, opened from disk in a browser: it plays, sorts, finds and runs nothing foreign."""

import time

import numpy as np
import pytest

from dac_tokenize.audit.auditing import audit_corpus
from dac_tokenize.audit.options import AuditOptions
from dac_tokenize.audit.report import write_report
from dac_tokenize.audit.sampling import SampleRequest
from tests.audit.browser import console_errors, open_browser, open_page, requested
from tests.audit.corpora import NASTY, copy_corpus, shards, spoil_rows


@pytest.fixture(scope="module")
def report(clean_corpus, tmp_path_factory):
    """The report of a corpus one of whose rows is silent in codebook 5."""
    folder = tmp_path_factory.mktemp("page")
    corpus = copy_corpus(clean_corpus, folder)

    def zero(rows):
        rows[2]["audio_codes"][5] = 0

    spoil_rows(shards(corpus)[0], zero)
    options = AuditOptions(sample=SampleRequest(fraction=1.0), device="cpu", codebooks=(1, 4))
    write_report(audit_corpus(corpus, options), options, str(folder / "report"))
    return folder / "report"


@pytest.fixture(scope="module")
def browser():
    driver = open_browser()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, report):
    open_page(browser, report / "report.html")
    return browser


def texts(page, css):
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", css
    )


def column(page, place):
    return texts(page, f"#clips-table tbody td:nth-child({place})")


def test_no_error_and_no_request_to_anything(page):
    assert console_errors(page) == []
    kinds = {url.split(":", 1)[0] for url in requested(page)}
    assert kinds <= {"file", "data", "blob"}
    assert "file" in kinds
    plots = page.execute_script("return document.querySelectorAll('.main-svg').length")
    assert plots >= 6


def test_the_verdict_is_on_top_and_the_worst_first(page):
    assert texts(page, "#verdict") == ["FAILED"]
    assert "constant-codebook" in texts(page, "section.clip")[0]
    assert len(texts(page, "section.clip")) == 9


def test_markup_in_keys_and_texts_shows_as_text(page):
    assert page.execute_script("return window.evil") is None
    assert page.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert f"<b>2</b>/{NASTY}" in column(page, 2)
    assert any(NASTY in text for text in texts(page, "section.clip"))


def test_a_player_plays(page):
    page.execute_script("document.querySelectorAll('section.clip audio')[1].play()")
    for _ in range(100):
        seconds = page.execute_script(
            "return document.querySelectorAll('section.clip audio')[1].currentTime"
        )
        if seconds > 0.2:
            break
        time.sleep(0.1)
    assert seconds > 0.2
    durations = page.execute_script(
        "return [...document.querySelectorAll('audio')].map(e => e.duration)"
    )
    assert len(durations) == 18
    assert all(duration is not None and 0.9 < duration < 3 for duration in durations)


def test_tables_sort(page):
    for direction in (1, -1):
        page.execute_script("document.querySelectorAll('#clips-table thead th')[2].click()")
        time.sleep(0.3)
        seconds = [float(text) for text in column(page, 3)]
        assert seconds == sorted(seconds, reverse=direction < 0)
    assert len(set(seconds)) > 3


def test_tables_search(page):
    box = "document.querySelector('#clips-table').closest('.dt-container').querySelector('input')"
    page.execute_script(
        f"const box = {box}; box.value = 'clip4'; box.dispatchEvent(new Event('input'))"
    )
    time.sleep(0.5)
    assert column(page, 2) == ["clip4.wav"]


def test_clips_are_found_by_key(page):
    page.execute_script(
        "const box = document.getElementById('find'); box.value = 'words 7';"
        "box.dispatchEvent(new Event('input'))"
    )
    shown = page.execute_script(
        "return [...document.querySelectorAll('section.clip')].filter(e => !e.hidden).length"
    )
    assert shown == 1


def test_figures_for_machines(report):
    import json

    import pyarrow.parquet as pq

    values = json.loads((report / "report.json").read_text())
    assert values["passed"] is False
    assert values["checks"]["constant-codebook"] == 1
    assert [row["codebooks"] for row in values["quality"]] == [1, 4, 12]
    clips = pq.read_table(report / "clips.parquet").to_pylist()
    assert len(clips) == 9
    assert {clip["speaker"] for clip in clips} == {"abend", "morning", "numbers"}
    assert clips[0]["findings"][0]["check"] in ("constant-codebook", "fidelity")
    curve = [row["si_sdr_db"]["median"] for row in values["quality"]]
    assert curve == sorted(curve)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_fifty_clips_take_less_than_20_mb(rate):
    from dac_tokenize.audit.clips import Sound
    from dac_tokenize.audit.media import clip_media
    from dac_tokenize.audit.page import render
    from dac_tokenize.audit.report import PAGE_TOTAL_SECONDS
    from dac_tokenize.references import Reference
    from dac_tokenize.sources import shipped_sounds
    from dac_tokenize.waveform import read_waveform

    # music, which packs worst of what ships
    uri = f"{shipped_sounds()}/music/band.ogg"
    samples = read_waveform(Reference("band", uri), rate)[0][: int(rate * PAGE_TOTAL_SECONDS / 50)]
    noisy = samples + np.float32(0.01) * np.random.default_rng(0).standard_normal(len(samples))
    media = clip_media(Sound(samples, noisy.astype(np.float32)), rate)
    parts = [getattr(media, name) for name in media.__slots__ if name != "seconds"]
    frame = render("compare.html.j2", {}, values=EMPTY, metrics=[], played={})
    assert len(frame) + 50 * sum(map(len, parts)) < 19e6


EMPTY = {"clips": 0, "scored_at_hz": 0, "failed": [], "codecs": []}
