"""What the package logs: an event, and fields by which logs are searched.

Every record has the fields in its text, for log stores that keep just that, and as attributes, for
those that take JSON. Fields of the work at hand (`shard`, `key`, `worker`) come from `context`.
"""

import contextlib
import contextvars
import json
import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

_context: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "dac_tokenize_events", default=MappingProxyType({})
)


@contextlib.contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Add fields to every event of this thread within the block.

    Threads started within it take the fields along only in a copy of the context, as made by
    `contextvars.copy_context`.
    """
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def log_event(logger: logging.Logger, level: int, event: str, **fields: Any) -> None:
    """Log an event.

    Args:
        logger: of the module that has something to say.
        level: as in `logging`.
        event: what happened, in a few words that are always the same.
        **fields: about what; none may be named like an attribute of a `LogRecord`.

    >>> log_event(logging.getLogger(__name__), logging.DEBUG, "clip failed", key="a.wav")
    """
    if logger.isEnabledFor(level):
        fields = {**_context.get(), **fields}
        text = " ".join([event, *(f"{name}={_text(value)}" for name, value in fields.items())])
        logger.log(level, "%s", text, extra={"event": event, **fields}, stacklevel=2)


def _text(value: Any) -> str:
    """Return a value as one word, or in quotes."""
    text = str(value)
    is_word = bool(text) and not any(c.isspace() or c in '"=' or not c.isprintable() for c in text)
    return text if is_word else json.dumps(text, ensure_ascii=False)
