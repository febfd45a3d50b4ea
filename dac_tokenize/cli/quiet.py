"""Only what this package has to say reaches the terminal."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
    handler.setFormatter(_OneLine())
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


class _OneLine(logging.Formatter):
    """Formats what a record says, without the traceback that may be with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's first line."""
        text = record.getMessage()
        if record.name.split(".")[0] != _OURS:
            text = (text.splitlines() or [""])[0]
        return f"dac-tokenize: {text}"


def _is_shown(record: logging.LogRecord) -> bool:
    if record.name.split(".")[0] == _OURS:
        return record.levelno >= logging.WARNING
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
