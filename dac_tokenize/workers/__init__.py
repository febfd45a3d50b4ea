"""Several processes on one machine, one a device, over one plan.

| room | job |
| --- | --- |
| `pool.py` | processes with one task each, replaced when they die or stall |
| `worker.py` | what a worker process does: one shard after another |
| `running.py` | `tokenize_shards`: all shards of a plan through a pool |
"""

from dac_tokenize.workers.running import tokenize_shards

__all__ = ["tokenize_shards"]
