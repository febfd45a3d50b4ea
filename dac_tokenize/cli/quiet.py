"""Only what this package has to say reaches the terminal: lines for people, or JSON."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

LogFormat = Literal["text", "json"]

_OURS = "dac_tokenize"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show warnings of this package, and hold back what the libraries say, within the block.

    Beam, transformers and torch report what is no concern of the user's, such as modules that are
    not installed, and Beam logs the traceback of every error that it raises as well.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    handler = logging.StreamHandler()
    handler.setFormatter(_Chosen())
    handler.addFilter(_is_shown)
    root = logging.getLogger()
    # With a handler in place, `logging.warning` of a library installs none of its own.
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=_OURS)
            yield
    finally:
        root.removeHandler(handler)
        use_format("text")


def use_format(log_format: LogFormat) -> None:
    """Write lines for people, or JSON objects, which tell of every shard and clip as well."""
    global _formatter
    _formatter = _OneLine() if log_format == "text" else _json_formatter()
    logging.getLogger(_OURS).setLevel(logging.NOTSET if log_format == "text" else logging.INFO)


def is_json() -> bool:
    """Tell whether lines are JSON objects."""
    return not isinstance(_formatter, _OneLine)


def say(text: object, level: int = logging.INFO, **fields: Any) -> None:
    """Tell the user something on stderr, whatever level is logged.

    Args:
        text: what there is to say; no line feeds.
        level: as in `logging`.
        **fields: what JSON has beside the text.
    """
    record = logging.LogRecord(_OURS, level, "", 0, str(text), None, None)
    vars(record).update(fields)
    print(_formatter.format(record), file=sys.stderr, flush=True)


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    formatter = JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%SZ",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        json_ensure_ascii=False,
    )
    formatter.converter = time.gmtime
    return formatter


class _Chosen(logging.Formatter):
    """Formats as `use_format` says."""

    def format(self, record: logging.LogRecord) -> str:
        return _formatter.format(record)


class _OneLine(logging.Formatter):
    """Formats what a record says, without the traceback that may be with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's first line."""
        text = record.getMessage()
        if record.name.split(".")[0] != _OURS:
            text = (text.splitlines() or [""])[0]
        return f"dac-tokenize: {text}"


_formatter: logging.Formatter = _OneLine()


def _is_shown(record: logging.LogRecord) -> bool:
    if record.name.split(".")[0] == _OURS:
        return record.levelno >= logging.WARNING or is_json()
    return _runner_logs_are_shown and record.name.startswith(_RUNNERS)


# They say where a job can be watched and what state it is in.
_RUNNERS = ("apache_beam.runners.portability.portable_runner", "apache_beam.runners.dataflow")
_runner_logs_are_shown = False


@contextmanager
def runner_logs(shown: bool) -> Iterator[None]:
    """Show what a runner says about its job within the block."""
    global _runner_logs_are_shown
    level = logging.getLogger().level
    _runner_logs_are_shown = shown
    if shown:
        logging.getLogger().setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().setLevel(level)
        _runner_logs_are_shown = False
