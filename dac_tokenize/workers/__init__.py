"""Several processes on one machine, one a device, over one plan.

| room | job |
| --- | --- |
| `pool.py` | processes with one task each, replaced when they die or stall |
| `worker.py` | what a worker process does: one shard after another |
| `running.py` | `tokenize_shards`: all shards of a plan through a pool |
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dac_tokenize.workers.running import tokenize_shards

__all__ = ["tokenize_shards"]


def __getattr__(name: str) -> Any:
    """Load what needs torch when it is first used: `pool` does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dac_tokenize.workers import running

    return getattr(running, name)
