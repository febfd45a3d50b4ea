"""Temporary files, named for the process that writes them, so that those of dead ones are known."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dac_tokenize.files import join, list_names, local_path

STALE_SECONDS = 24 * 3600.0
"""Temporary files of unknown owners are swept when they are older than this."""

_TEMPORARY = re.compile(r"\.tmp-(?P<owner>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}$")


def temporary_path(url: str) -> Path:
    """Return a new local path, named for this process, where the file for `url` may be written.

    It lies in the folder of `url`, which is made if missing, where that is local.
    """
    final = local_path(url)
    name = url.rstrip("/").rsplit("/", 1)[-1] if final is None else final.name
    folder = Path(tempfile.gettempdir()) if final is None else final.parent
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "dac_tokenize-" if final is None else ""
    return folder / f".{prefix}{name}.tmp-{_owner()}-{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def temporary_folder(url: str) -> Iterator[Path]:
    """Make a local folder for temporary files near `url`, removed at the end."""
    folder = temporary_path(url)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> str:
    """Return a short name of this machine and its space of process numbers."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def sweep(*urls: str) -> list[str]:
    """Remove temporary files that runs which died left in local folders.

    A file goes when the process that made it is dead, or, made on another machine, when it is
    older than `STALE_SECONDS`. Those of living processes stay.

    Args:
        urls: folders to look in, beside the local folder for temporary files.

    Returns:
        The paths removed.
    """
    folders = {Path(tempfile.gettempdir())}
    folders.update(path for path in map(local_path, urls) if path is not None)
    removed = []
    for folder in sorted(folders):
        for name in list_names(str(folder)):
            if (match := _TEMPORARY.search(name)) and _is_abandoned(folder / name, match):
                _remove(folder / name)
                removed.append(str(folder / name))
    return removed


def sweep_own(*urls: str) -> None:
    """Remove this process's own temporary files, which `sweep` leaves alone.

    Args:
        urls: folders to look in, beside the local folder for temporary files.
    """
    folders = {Path(tempfile.gettempdir())}
    folders.update(path for path in map(local_path, urls) if path is not None)
    for folder in folders:
        for path in folder.glob(f".*.tmp-{_owner()}-{os.getpid()}-*"):
            _remove(path)


def is_living_temporary(folder: str, name: str) -> bool:
    """Tell whether a name in a folder is a temporary file that `sweep` would leave alone."""
    match = _TEMPORARY.search(name)
    path = local_path(join(folder, name))
    return match is not None and path is not None and not _is_abandoned(path, match)


def _is_abandoned(path: Path, match: re.Match[str]) -> bool:
    if match["owner"] == _owner():
        return not _is_alive(int(match["pid"]))
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # One that has ended keeps its number until its parent asks for it, which a worker pool never
    # does. Without /proc it counts as alive.
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
