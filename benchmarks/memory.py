"""The most memory that this process has held. Imports nothing that would take some."""

import contextlib
import ctypes
import resource
from pathlib import Path


def peak_bytes() -> int:
    """Return the most resident memory since this process began, or since `reset_peak_bytes`."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_bytes() -> None:
    """Have `peak_bytes` count anew from what is in use now, where Linux can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # or what was used before would count
        Path("/proc/self/clear_refs").write_text("5")
