import contextvars
import logging
import shlex
import threading

from hypothesis import given
from hypothesis import strategies as st

from dac_tokenize.events import context, log_event

logger = logging.getLogger("dac_tokenize.tests")


def test_fields_of_the_work_at_hand(caplog):
    caplog.set_level(logging.INFO)
    with context(worker=1, shard="data/a"):
        with context(key="x y"):
            log_event(logger, logging.INFO, "clip failed", error="AudioError", reason='no "sound"')
        log_event(logger, logging.INFO, "shard published", rows=3)
    log_event(logger, logging.INFO, "after")
    clip, shard, after = caplog.records
    assert clip.getMessage() == (
        'clip failed worker=1 shard=data/a key="x y" error=AudioError reason="no \\"sound\\""'
    )
    assert (clip.event, clip.worker, clip.shard, clip.key) == ("clip failed", 1, "data/a", "x y")
    assert shard.getMessage() == "shard published worker=1 shard=data/a rows=3"
    assert after.getMessage() == "after"
    assert clip.filename == "test_events.py"


def test_a_thread_takes_a_copy_along(caplog):
    caplog.set_level(logging.INFO)
    with context(shard="data/a"):
        here = contextvars.copy_context()
    say = lambda: log_event(logger, logging.INFO, "retry")  # noqa: E731
    for target in (lambda: here.run(say), say):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert [record.getMessage() for record in caplog.records] == ["retry shard=data/a", "retry"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_value_is_one_word_of_one_line(value):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        with context(key=value):
            log_event(logger, logging.WARNING, "e")
    finally:
        logger.removeHandler(handler)
    text = records[0].getMessage()
    assert "\n" not in text
    assert records[0].key == value
    if value.isascii() and value.isprintable() and not set(value) & set("\\'"):
        assert shlex.split(text) == ["e", f"key={value}"]
